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
        "FractionalAvgPool",
        "FractionalMaxPool",
        "AllCandidateSampler",
        "FixedUnigramCandidateSampler",
        "LearnedUnigramCandidateSampler",
        "LogUniformCandidateSampler",
        "ThreadUnsafeUnigramCandidateSampler",
        "UniformCandidateSampler",
        "RandomDataset",
        "RandomDatasetV2",
    }
)
"""Operations whose next value depends on how often they have run in their session."""


def random_operations(operations: Iterable[tf.Operation]) -> list[str]:
    """Names of the random ones among the operations, and inside the functions that these call."""
    listed = list(operations)
    found = [operation.name for operation in listed if operation.type in RANDOM_OPERATIONS]
    inside = nodes_in_functions(listed)
    return found + [f"{function}/{node.name}" for function, node in inside if node.op in RANDOM_OPERATIONS]


def nodes_in_functions(operations: Iterable[tf.Operation]) -> Iterator[tuple[str, tf.compat.v1.NodeDef]]:
    """The nodes of all functions that the operations call, directly or not, each with its function's name."""
    listed = list(operations)
    called = [name for operation in listed for name in _called_functions(operation.node_def)]
    if not called:
        return
    library = {f.signature.name: f for f in listed[0].graph.as_graph_def().library.function}
    seen = set()
    while called:
        name = called.pop()
        if name in seen or name not in library:
            continue
        seen.add(name)
        for node in library[name].node_def:
            yield name, node
            called += _called_functions(node)


def _called_functions(node: tf.compat.v1.NodeDef) -> list[str]:
    names = [value.func.name for value in node.attr.values() if value.HasField("func")]
    return names + [f.name for value in node.attr.values() for f in value.list.func]


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
