"""Whether an evaluation session can be used again and give what a fresh one would."""

from __future__ import annotations

import tensorflow as tf

from orchestrator.estimator.graph import EvaluationGraph
from orchestrator.estimator.graph_walk import ancestors, random_operations

_CONSUMED_ONCE = frozenset({"OneShotIterator"})


def reason_against(evaluation: EvaluationGraph) -> str | None:
    """Why each evaluation needs a session of its own, or None where one serves all."""
    graph = evaluation.graph
    if graph.get_collection(tf.compat.v1.GraphKeys.QUEUE_RUNNERS):
        return "its input comes from queue runners"
    operations = list(ancestors(evaluation.results()))
    if any(operation.type in _CONSUMED_ONCE for operation in operations):
        return "its input is a one-shot iterator"
    random = random_operations(operations)
    return f"it draws random numbers ({random[0]})" if random else None
