"""Whether an evaluation session can be used again and give what a fresh one would."""

from __future__ import annotations

from collections.abc import Iterable

import tensorflow as tf

from orchestrator.estimator.graph import EvaluationGraph
from orchestrator.estimator.graph_walk import ancestors

_RANDOM = frozenset(
    {
        "RandomUniform",
        "RandomUniformInt",
        "RandomStandardNormal",
        "TruncatedNormal",
        "ParameterizedTruncatedNormal",
        "RandomShuffle",
        "RandomGamma",
        "RandomPoisson",
        "RandomPoissonV2",
        "Multinomial",
        "RandomCrop",
        "SampleDistortedBoundingBox",
        "SampleDistortedBoundingBoxV2",
        "RandomDataset",
        "RandomDatasetV2",
    }
)
_CONSUMED_ONCE = frozenset({"OneShotIterator"})


def stateful_random_operations(operations: Iterable[tf.Operation], graph: tf.Graph) -> list[str]:
    """Names of operations whose next value depends on how often they have run in their session."""
    found = [operation.name for operation in operations if operation.type in _RANDOM]
    library = graph.as_graph_def(add_shapes=False).library
    for function in library.function:
        found += [f"{function.signature.name}/{n.name}" for n in function.node_def if n.op in _RANDOM]
    return found


def reason_against(evaluation: EvaluationGraph) -> str | None:
    """Why each evaluation needs a session of its own, or None where one serves all."""
    graph = evaluation.graph
    if graph.get_collection(tf.compat.v1.GraphKeys.QUEUE_RUNNERS):
        return "its input comes from queue runners"
    starts = [evaluation.update, *(value.op for value in tf.nest.flatten(evaluation.metrics))]
    operations = list(ancestors(starts))
    if any(operation.type in _CONSUMED_ONCE for operation in operations):
        return "its input is a one-shot iterator"
    random = stateful_random_operations(operations, graph)
    return f"it draws random numbers ({random[0]})" if random else None
