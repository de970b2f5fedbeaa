"""How workers know that the chief is done with the variables, and not only that they have values.

A variable counts as initialised before a warm start, or an `init_fn`, has given
it the value that training starts from. Workers that share it wait for this mark.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tensorflow as tf

v1 = tf.compat.v1
_NAME = "chief_is_done_with_variables"


@dataclass(frozen=True)
class StartMark:
    """A flag beside the global step, which a chief and its workers share by name."""

    set: tf.Operation
    is_set: tf.Tensor

    @staticmethod
    def of(graph: tf.Graph) -> StartMark:
        """The mark of a graph with a global step; made at the first call, before the graph is final."""
        found: list[Any] = graph.get_collection_ref(_NAME)
        if not found:
            device = v1.train.get_global_step(graph).device
            with graph.as_default(), graph.device(device), tf.control_dependencies(None):
                handle = tf.raw_ops.VarHandleOp(dtype=tf.bool, shape=[], shared_name=_NAME, name=_NAME)
                done = tf.raw_ops.AssignVariableOp(resource=handle, value=tf.constant(True))
                found.append(StartMark(done, tf.raw_ops.VarIsInitializedOp(resource=handle)))
        mark: StartMark = found[0]
        return mark
