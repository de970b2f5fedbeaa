"""Which of TensorFlow's executors runs a session: one thread is faster where steps are small."""

from __future__ import annotations

from collections.abc import Iterable

import tensorflow as tf

from orchestrator.estimator.graph_walk import ancestors

v1 = tf.compat.v1

SMALL_OPERATIONS = 2_000
SMALL_PARAMETERS = 1_000_000
"""Beyond these a step's own work outweighs the cost of handing it from thread to thread."""

_OLD_CONTROL_FLOW = frozenset(
    {"Switch", "Merge", "Enter", "Exit", "NextIteration", "LoopCond", "RefSwitch", "RefMerge", "RefEnter"}
)
_MAY_WAIT_FOR_OTHERS = ("Queue", "Barrier", "Stage", "Collective", "_Recv", "_Send", "PyFunc", "EagerPyFunc")


def run_in_one_thread_if_small(
    config: v1.ConfigProto, graph: tf.Graph, results: Iterable[tf.Operation], master: str = ""
) -> None:
    """Sets the single-threaded executor in `config` where `graph` is small, on one device, and fit for it.

    An executor that the user has chosen stays.
    """
    if config.experimental.executor_type or master or config.device_count.get("CPU", 1) > 1:
        return
    if config.graph_options.optimizer_options.global_jit_level > 0:
        return  # XLA's auto-clustering adds old-fashioned switches to the graph
    if tf.config.list_physical_devices("GPU") or graph.get_collection(v1.GraphKeys.QUEUE_RUNNERS):
        return
    if any(_is_old_fashioned(operation) for operation in graph.get_operations()):
        return
    library = graph.as_graph_def().library.function
    if any(node.op in _OLD_CONTROL_FLOW for function in library for node in function.node_def):
        return
    needed = list(ancestors(results))
    if len(needed) > SMALL_OPERATIONS or _parameters(graph) > SMALL_PARAMETERS:
        return
    if any(operation.type.startswith(_MAY_WAIT_FOR_OTHERS) for operation in needed):
        return
    config.experimental.executor_type = "SINGLE_THREADED_EXECUTOR"


def _is_old_fashioned(operation: tf.Operation) -> bool:
    """Control flow and variables of TensorFlow 1, which that executor does not know."""
    is_reference = any(output.dtype.name.endswith("_ref") for output in operation.outputs)
    return is_reference or operation.type in _OLD_CONTROL_FLOW


def _parameters(graph: tf.Graph) -> int:
    variables = graph.get_collection(v1.GraphKeys.TRAINABLE_VARIABLES)
    return sum(variable.shape.num_elements() or 0 for variable in variables)
