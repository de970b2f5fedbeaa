"""Which variables a graph reads or writes by rows.

The first such access turns a variable into one that every whole reading
copies. Whoever reads pieces of variables must therefore read rows of those,
and must not read rows of the others, which training would pay for.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

_BY_ROWS = ("ResourceGather", "ResourceScatter", "ResourceSparse", "ResourceStridedSliceAssign")
_SKIPS_FIRST_INPUT = frozenset({"If", "StatelessIf", "Case", "StatelessCase"})


class RowAccess:
    """Looks at the operations of one graph, and at those of the functions that they call."""

    def __init__(self, graph: tf.Graph) -> None:
        self._graph = graph

    def to(self, handle: tf.Tensor) -> bool:
        """Whether some operation reads or writes rows of the variable with that resource handle."""
        seen: set[tuple[str, int]] = set()
        return any(
            self._by_rows(user.type, user.node_def.attr, index, seen)
            for user in handle.consumers()
            for index, tensor in enumerate(user.inputs)
            if tensor is handle
        )

    def _by_rows(self, operation_type: str, attributes: Any, index: int, seen: set[tuple[str, int]]) -> bool:
        if operation_type.startswith(_BY_ROWS):
            return True
        argument = index - (operation_type in _SKIPS_FIRST_INPUT)
        return any(self._in_function(name, argument, seen) for name in _called(attributes))

    def _in_function(self, name: str, argument: int, seen: set[tuple[str, int]]) -> bool:
        function = self._library.get(name)
        if function is None or (name, argument) in seen or argument >= len(function.signature.input_arg):
            return False
        seen.add((name, argument))
        wanted = function.signature.input_arg[argument].name
        return any(
            self._by_rows(node.op, node.attr, index, seen)
            for node in function.node_def
            for index, source in enumerate(node.input)
            if source == wanted
        )

    @functools.cached_property
    def _library(self) -> dict[str, Any]:
        return {f.signature.name: f for f in self._graph.as_graph_def().library.function}


def _called(attributes: Any) -> Iterator[str]:
    for value in attributes.values():
        if value.HasField("func"):
            yield value.func.name
        yield from (function.name for function in value.list.func)
