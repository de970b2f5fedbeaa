"""DistributeConfig: strategies for training and evaluation in one argument of RunConfig."""

from __future__ import annotations

from typing import Any, NamedTuple


class DistributeConfig(NamedTuple):
    """Value of `RunConfig(experimental_distribute=...)`.

    `train_distribute` and `eval_distribute` are `tf.distribute.Strategy`
    objects; each may be given here or to RunConfig, not to both.
    `remote_cluster` is there for old programs; RunConfig refuses it.
    """

    train_distribute: Any = None
    eval_distribute: Any = None
    remote_cluster: Any = None
