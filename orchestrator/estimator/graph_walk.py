"""Walking a graph from results to what they hang on."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

import tensorflow as tf

RANDOM_OPERATIONS = frozenset(
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
"""Operations whose next value depends on how often they have run in their session."""


def random_operations(operations: Iterable[tf.Operation]) -> list[str]:
    """Names of the random ones among the operations, and inside the functions that these call."""
    found, called, graph = [], [], None
    for operation in operations:
        graph = operation.graph
        if operation.type in RANDOM_OPERATIONS:
            found.append(operation.name)
        called += _called_functions(operation.node_def)
    if graph is not None and called:
        found += _random_in_functions(graph, called)
    return found


def _called_functions(node: tf.compat.v1.NodeDef) -> list[str]:
    names = [value.func.name for value in node.attr.values() if value.HasField("func")]
    return names + [f.name for value in node.attr.values() for f in value.list.func]


def _random_in_functions(graph: tf.Graph, called: list[str]) -> list[str]:
    library = {f.signature.name: f for f in graph.as_graph_def().library.function}
    found, seen = [], set()
    while called:
        name = called.pop()
        if name in seen or name not in library:
            continue
        seen.add(name)
        for node in library[name].node_def:
            if node.op in RANDOM_OPERATIONS:
                found.append(f"{name}/{node.name}")
            called += _called_functions(node)
    return found


def ancestors(
    starts: Iterable[tf.Operation], stop_at: Collection[tf.Operation] = ()
) -> Iterator[tf.Operation]:
    """The operations and everything they hang on, each once, not beyond `stop_at` (which is left out)."""
    seen = set(stop_at)
    waiting = list(starts)
    while waiting:
        operation = waiting.pop()
        if operation in seen:
            continue
        seen.add(operation)
        yield operation
        waiting.extend(tensor.op for tensor in operation.inputs)
        waiting.extend(operation.control_inputs)
