"""ModeKeys: what a model_fn is asked to build."""

from __future__ import annotations


class ModeKeys:
    """The values of the `mode` argument of a model_fn, and of EstimatorSpec's."""

    TRAIN = "train"
    EVAL = "eval"
    PREDICT = "infer"


ALL_MODES = (ModeKeys.TRAIN, ModeKeys.EVAL, ModeKeys.PREDICT)
