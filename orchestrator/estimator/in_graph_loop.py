"""Many training steps in one session call: a loop in the graph that repeats the training step.

The step is built twice: once in the graph itself, as ever, for steps on which
a hook wants something; once as the body of a loop, for the steps in between.
The second build gets the variables of the first, in the order in which they
were created, so names and checkpoints are those of a graph without a loop. One
iteration at a time (`parallel_iterations=1`) makes the loop equal to single
steps bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from orchestrator.estimator.graph_walk import ancestors, random_operations

v1 = tf.compat.v1
Build = Callable[[Any], tuple[Any, tf.Tensor]]
"""Builds a training step on one element of the input: returns train_op and loss."""
_HARMLESS = frozenset(
    {"Placeholder", "VarHandleOp", "ReadVariableOp", "VarIsInitializedOp", "IteratorGetNext"}
)


class NotRepeatable(Exception):
    """The training step cannot run in a loop; the text says why."""


@dataclass(frozen=True)
class InGraphLoop:
    """Tensors of the loop: feed `length`, fetch `loss` (of the last step) and `step` (after it)."""

    length: tf.Tensor
    loss: tf.Tensor
    step: tf.Tensor
    has_loose_effects: bool
    """The body holds operations that only the default executor leaves out, as single steps do."""


class VariableTape:
    """Notes the variables that a build creates, and gives them to a second build in the same order."""

    def __init__(self) -> None:
        self._variables: list[Any] = []
        self._next = 0
        self.body: Any = None
        """The graph of the loop's body, set once it is there: its collections get the variables again."""

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Notes what is created in this block."""

        def create(next_creator: Callable[..., Any], **kwargs: Any) -> Any:
            variable = next_creator(**kwargs)
            self._variables.append(variable)
            return variable

        with v1.variable_creator_scope(create):
            yield

    @contextmanager
    def replaying(self) -> Iterator[None]:
        """Gives the noted variables to whoever creates some; raises NotRepeatable where they differ."""
        self._next = 0

        def reuse(next_creator: Callable[..., Any], **kwargs: Any) -> Any:
            if self._next == len(self._variables):
                raise NotRepeatable(
                    f"model_fn creates another variable ({kwargs.get('name')}) when called again"
                )
            variable = self._variables[self._next]
            self._next += 1
            shape, dtype = kwargs.get("shape"), kwargs.get("dtype")
            same_shape = shape is None or variable.shape.is_compatible_with(shape)
            if not same_shape or (
                dtype is not None and tf.as_dtype(dtype).base_dtype != variable.dtype.base_dtype
            ):
                raise NotRepeatable(
                    f"model_fn creates variables in another order when called again ({variable.name})"
                )
            _add_to_collections(self.body, variable, kwargs)
            return variable

        with v1.variable_creator_scope(reuse):
            yield
        if self._next != len(self._variables):
            raise NotRepeatable("model_fn creates fewer variables when called again")

    def check(self) -> None:
        """Raises NotRepeatable for variables that a loop cannot share."""
        for variable in self._variables:
            if not hasattr(variable, "handle"):
                raise NotRepeatable(f"{variable.name} is no resource variable")


def _fits(variable: Any, shape: Any, dtype: Any) -> bool:
    if shape is not None and not variable.shape.is_compatible_with(shape):
        return False
    return dtype is None or tf.as_dtype(dtype).base_dtype == variable.dtype.base_dtype


def _add_to_collections(graph: tf.Graph, variable: Any, kwargs: dict[str, Any]) -> None:
    """Creation happens outside of the body, whose collections it would not reach."""
    names = set(kwargs.get("collections") or [v1.GraphKeys.GLOBAL_VARIABLES])
    if kwargs.get("trainable", True) is not False:
        names.add(v1.GraphKeys.TRAINABLE_VARIABLES)
    graph.add_to_collections(names, variable)


# Where `get_variable` keeps what it has made.
_VARIABLE_STORES = (("__variable_store",), ("__varscope",))


class Collections:
    """The collections of a graph at one time; the body of a loop shares those of its graph."""

    def __init__(self, graph: tf.Graph, with_stores: bool) -> None:
        stores = _VARIABLE_STORES if with_stores else ()
        names = (*graph.get_all_collection_keys(), *stores)
        self._items = {name: list(graph.get_collection(name)) for name in names}

    def restore(self, graph: tf.Graph) -> None:
        """Makes the graph's collections what they were; without stores, `get_variable` starts afresh."""
        for name in (*graph.get_all_collection_keys(), *_VARIABLE_STORES):
            graph.clear_collection(name)
        for name, items in self._items.items():
            graph.get_collection_ref(name).extend(items)


@contextmanager
def _as_before(before: Collections, graph: tf.Graph) -> Iterator[None]:
    """The collections of the first build's start for this block, then those of now again."""
    now = Collections(graph, with_stores=True)
    before.restore(graph)
    try:
        yield
    finally:
        now.restore(graph)


class StepRecorder:
    """Watches the first build of a training step, so that it can be built again in a loop.

    Made in the graph, right before the first build.
    """

    def __init__(self) -> None:
        self._collections = Collections(v1.get_default_graph(), with_stores=False)
        self._tape = VariableTape()

    def recording(self) -> AbstractContextManager[None]:
        """Surrounds the first build."""
        return self._tape.recording()

    def build_loop(
        self, build: Build, next_element: Callable[[], Any], read_step: Callable[[], tf.Tensor]
    ) -> InGraphLoop:
        """Adds the loop to the default graph; raises NotRepeatable where it cannot be had."""
        self._tape.check()
        length = v1.placeholder(tf.int32, [], name="steps_in_loop")
        loose: list[str] = []

        def more(index: tf.Tensor, loss: tf.Tensor) -> tf.Tensor:
            return tf.logical_and(index < length, tf.logical_not(tf.math.is_nan(loss)))

        def body(index: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            self._tape.body = v1.get_default_graph()
            with _as_before(self._collections, self._tape.body):
                train_op, loss = build(next_element())
            loose.extend(_loose_effects(self._tape.body, [as_operation(train_op), loss.op]))
            with tf.control_dependencies([train_op]):
                return index + 1, tf.cast(tf.reshape(loss, []), tf.float32)

        with self._tape.replaying(), _control_flow_v2():
            _, loss = tf.while_loop(more, body, [tf.constant(0), tf.constant(0.0)], parallel_iterations=1)
        with tf.control_dependencies([loss]):
            step = tf.identity(read_step(), name="step_after_loop")
        return InGraphLoop(length, loss, step, has_loose_effects=bool(loose))


def _loose_effects(graph: tf.Graph, results: list[tf.Operation]) -> list[str]:
    """Operations with effects that a single step would not run, as its results do not hang on them."""
    needed = set(ancestors(results))
    others = (operation for operation in graph.get_operations() if operation not in needed)
    return [
        o.name for o in others if o.op_def is not None and o.op_def.is_stateful and o.type not in _HARMLESS
    ]


@contextmanager
def _control_flow_v2() -> Iterator[None]:
    """The older kind renames variables, and runs no faster."""
    enabled = v1.control_flow_v2_enabled()
    v1.enable_control_flow_v2()
    try:
        yield
    finally:
        if not enabled:
            v1.disable_control_flow_v2()


def refuse_random(train_op: Any, loss: tf.Tensor) -> None:
    """Raises NotRepeatable for a step whose random draws depend on how often an operation has run."""
    random = random_operations(ancestors([as_operation(train_op), loss.op]))
    if random:
        raise NotRepeatable(f"the model draws random numbers ({random[0]})")


def as_operation(train_op: Any) -> tf.Operation:
    """The operation of a train_op that may be a tensor or a variable."""
    return train_op if isinstance(train_op, tf.Operation) else train_op.op
