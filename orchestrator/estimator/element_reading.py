"""Reading the next element of a Dataset in a step.

On the CPUs of this process a step waits for its batch itself. Handing the wait
to another thread and back costs a small step a sixth of its time, and gains
nothing: nothing can run before the batch is there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

READING_OPERATIONS = frozenset({"IteratorGetNext", "IteratorGetNextSync"})


def reader(iterator: Any, dataset: tf.data.Dataset, in_place: bool) -> Callable[[], Any]:
    """A function that adds the operation for one more element; `in_place`: run by the thread of the step.

    The operation has the name and the results that `iterator.get_next` gives it.
    """
    spec = dataset.element_spec
    parts = tf.nest.flatten(spec)
    if not in_place or not parts or not all(type(part) is tf.TensorSpec for part in parts):
        return iterator.get_next  # type: ignore[no-any-return]
    resource = iterator._iterator_resource

    def read() -> Any:
        with resource.graph.colocate_with(resource.op):
            tensors = tf.raw_ops.IteratorGetNextSync(
                iterator=resource,
                output_types=[part.dtype for part in parts],
                output_shapes=[part.shape for part in parts],
                name="IteratorGetNext",
            )
        return tf.nest.pack_sequence_as(spec, tensors)

    return read
