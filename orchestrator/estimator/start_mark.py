"""How workers know that the chief is done with the variables, and not only that they have values.

A variable counts as initialised before a warm start, or an `init_fn`, has given
it the value that training starts from. Workers that share it wait for this mark.
"""

from __future__ import annotations

from dataclasses import dataclass

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
        try:
            return StartMark(
                graph.get_operation_by_name(f"{_NAME}/set"), graph.get_tensor_by_name(f"{_NAME}/is_set:0")
            )
        except KeyError:
            return StartMark._make(graph)

    @staticmethod
    def _make(graph: tf.Graph) -> StartMark:
        device = v1.train.get_global_step(graph).device
        with graph.as_default(), graph.name_scope(None), graph.device(device), tf.control_dependencies(None):
            handle = tf.raw_ops.VarHandleOp(dtype=tf.bool, shape=[], shared_name=_NAME, name=_NAME)
            done = tf.raw_ops.AssignVariableOp(
                resource=handle, value=tf.constant(True, name=f"{_NAME}/true"), name=f"{_NAME}/set"
            )
            return StartMark(done, tf.raw_ops.VarIsInitializedOp(resource=handle, name=f"{_NAME}/is_set"))
