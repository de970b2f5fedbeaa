"""Walking a graph from results to what they hang on."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

import tensorflow as tf


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
