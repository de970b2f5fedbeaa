"""Which of TensorFlow's executors runs a session: one thread is faster where steps are small."""

from __future__ import annotations

from collections.abc import Iterable

import tensorflow as tf

from orchestrator.estimator.graph_walk import ancestors
from orchestrator.estimator.placement import is_on_own_cpus

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
    compiles = config.graph_options.optimizer_options.global_jit_level > 0  # XLA adds old-fashioned switches
    if compiles or config.experimental.executor_type or config.device_count.get("CPU", 1) > 1:
        return
    if is_on_own_cpus(master) and _is_fit(graph) and _is_small(graph, results):
        config.experimental.executor_type = "SINGLE_THREADED_EXECUTOR"


def may_trace(hook: v1.train.SessionRunHook) -> bool:
    """Whether a hook asks for traces of runs, as far as its code shows; that executor leaves them empty."""
    if isinstance(hook, v1.train.ProfilerHook):
        return True
    methods = (getattr(type(hook), name, None) for name in ("__init__", "before_run"))
    return any("RunOptions" in getattr(getattr(m, "__code__", None), "co_names", ()) for m in methods)


def _is_fit(graph: tf.Graph) -> bool:
    """Whether that executor knows all operations of the graph."""
    if graph.get_collection(v1.GraphKeys.QUEUE_RUNNERS):
        return False
    if any(_is_old_fashioned(operation) for operation in graph.get_operations()):
        return False
    library = graph.as_graph_def().library.function
    return not any(node.op in _OLD_CONTROL_FLOW for function in library for node in function.node_def)


def _is_small(graph: tf.Graph, results: Iterable[tf.Operation]) -> bool:
    needed = list(ancestors(results))
    if any(operation.type.startswith(_MAY_WAIT_FOR_OTHERS) for operation in needed):
        return False
    return len(needed) <= SMALL_OPERATIONS and _parameters(graph) <= SMALL_PARAMETERS


def _is_old_fashioned(operation: tf.Operation) -> bool:
    """Control flow and variables of TensorFlow 1, which that executor does not know."""
    is_reference = any(output.dtype.name.endswith("_ref") for output in operation.outputs)
    return is_reference or operation.type in _OLD_CONTROL_FLOW


def _parameters(graph: tf.Graph) -> int:
    variables = graph.get_collection(v1.GraphKeys.TRAINABLE_VARIABLES)
    return sum(variable.shape.num_elements() or 0 for variable in variables)
