from __future__ import annotations

from tensorflow.core.framework import op_def_pb2
from tensorflow.python.client import pywrap_tf_session

from orchestrator.estimator.graph_walk import RANDOM_OPERATIONS

NO_STEP_OF_A_MODEL = ("Dataset", "SeedGenerator", "RandomShuffleQueue", "ComputeAccidentalHits")
"""Inputs, whose position is saved otherwise, and a search that has a seed and draws nothing."""
RANDOM_ONLY_WITH_DROPOUT = "CudnnRNN"


def test_every_operation_with_seeds_that_tensorflow_has_is_known() -> None:
    everything = pywrap_tf_session.TF_GetBuffer(pywrap_tf_session.TF_GetAllOpList())
    registered = op_def_pb2.OpList.FromString(everything)
    seeded = {op.name for op in registered.op if {"seed", "seed2"} <= {attr.name for attr in op.attr}}
    assert "RandomUniform" in seeded
    known = {*RANDOM_OPERATIONS, *(name for name in seeded if name.startswith(RANDOM_ONLY_WITH_DROPOUT))}
    assert {name for name in seeded - known if not any(part in name for part in NO_STEP_OF_A_MODEL)} == set()
