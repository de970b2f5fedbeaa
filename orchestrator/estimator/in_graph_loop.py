"""Many training steps in one session call: a loop in the graph that repeats the training step.

The step is built twice: once in the graph itself, as ever, for steps on which
a hook wants something; once as the body of a loop, for the steps in between.
The second build gets the variables of the first, in the order in which they
were created, so names and checkpoints are those of a graph without a loop. One
iteration at a time (`parallel_iterations=1`) makes the loop equal to single
steps bit for bit.

Random operations remember how often they have run. A step that has any runs in
the loop alone, also by itself (a loop of length 1), and the random operations
of the body get the seeds of the first build: again the results of single steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import tensorflow as tf
from tensorflow.core.framework import attr_value_pb2

from orchestrator.estimator.graph_walk import RANDOM_OPERATIONS, ancestors, random_operations
from orchestrator.estimator.loss_summary import add_loss_summary

v1 = tf.compat.v1
Build = Callable[[Any], tuple[Any, tf.Tensor]]
"""Builds a training step on one element of the input: returns train_op and loss."""


class NotRepeatable(Exception):
    """The training step cannot run in a loop; the text says why."""


@dataclass(frozen=True)
class Repetition:
    """What is needed to build the training step of a graph again, in a loop."""

    recorder: StepRecorder
    build: Build
    next_element: Callable[[], Any]
    read_step: Callable[[], tf.Tensor]


@dataclass(frozen=True)
class InGraphLoop:
    """Tensors of the loop: feed `length`, fetch `loss` (of the last step) and `step` (after it)."""

    length: tf.Tensor
    loss: tf.Tensor
    step: tf.Tensor
    takes_every_step: bool = False
    """No step may run outside of the loop."""
    wants_summary: tf.Tensor | None = None
    """Feed whether to evaluate summaries at the last step; None where there are none in the loop."""
    summary: tf.Tensor | None = None


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

        with v1.variable_creator_scope(reuse), self._keeping_initializers():
            yield
        if self._next != len(self._variables):
            raise NotRepeatable("model_fn creates fewer variables when called again")

    @contextmanager
    def _keeping_initializers(self) -> Iterator[None]:
        """`init_from_checkpoint` would give the variables initializers that lie in the loop's body."""
        kept = [
            (vars(part), {name: vars(part)[name] for name in _INITIALIZING if name in vars(part)})
            for variable in self._variables
            for part in (variable, *_components(variable))
        ]
        try:
            yield
        finally:
            for attributes, before in kept:
                for name in _INITIALIZING:
                    attributes.pop(name, None)
                attributes.update(before)

    def check(self) -> None:
        """Raises NotRepeatable for variables that a loop cannot share."""
        for variable in self._variables:
            if not all(hasattr(component, "handle") for component in _components(variable)):
                raise NotRepeatable(f"{variable.name} is no resource variable")


_INITIALIZING = ("_initializer_op", "_initial_value")


def _components(variable: Any) -> list[Any]:
    """The parts of a variable with replicas; else itself."""
    return list(getattr(variable, "values", None) or [variable])


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

    def build_loop(self, step: Repetition, seeds: Seeds, with_summary: bool) -> InGraphLoop:
        """Adds the loop to the default graph; raises NotRepeatable where it cannot be had.

        `seeds` are those of the first build; where there are any, the loop
        takes every step, and evaluates the summaries itself.
        """
        self._tape.check()
        length = v1.placeholder(tf.int32, [], name="steps_in_loop")
        wants_summary = v1.placeholder_with_default(False, [], name="summary_in_loop")
        with_summary = with_summary and bool(seeds)

        def more(index: tf.Tensor, loss: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
            return tf.logical_and(index < length, tf.logical_not(tf.math.is_nan(loss)))

        def body(index: tf.Tensor, _: tf.Tensor, text: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            graph = self._tape.body = v1.get_default_graph()
            with _as_before(self._collections, graph):
                train_op, loss = step.build(step.next_element())
                if with_summary:
                    wanted = tf.logical_and(wants_summary, tf.equal(index + 1, length))
                    text = _merged_summaries(loss, wanted, text)
            needed = [as_operation(train_op), loss.op, text.op]
            seeds.give_to(needed)
            with tf.control_dependencies([train_op]):
                return index + 1, tf.cast(tf.reshape(loss, []), tf.float32), tf.identity(text)

        with self._tape.replaying(), _control_flow_v2():
            start = [tf.constant(0), tf.constant(0.0), tf.constant("")]
            # By the loop's name, collectives in it find those of other tasks.
            _, loss, text = tf.while_loop(more, body, start, parallel_iterations=1, name="steps_of_one_call")
        with tf.control_dependencies([loss]):
            step_after = tf.identity(step.read_step(), name="step_after_loop")
        return InGraphLoop(
            length,
            loss,
            step_after,
            takes_every_step=bool(seeds),
            wants_summary=wants_summary if with_summary else None,
            summary=text if with_summary else None,
        )


def _merged_summaries(loss: tf.Tensor, wanted: tf.Tensor, before: tf.Tensor) -> tf.Tensor:
    """All summaries of the body as one serialized text where they are wanted, else what was there before."""
    add_loss_summary(loss)
    merged = v1.summary.merge_all()
    return before if merged is None else tf.cond(wanted, lambda: tf.identity(merged), lambda: before)


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


def as_operation(train_op: Any) -> tf.Operation:
    """The operation of a train_op that may be a tensor or a variable."""
    return train_op if isinstance(train_op, tf.Operation) else train_op.op


class Seeds:
    """The random operations that a step runs, and their seeds, in the order in which they were made."""

    def __init__(self, results: list[tf.Operation]) -> None:
        self._operations = _random(results)
        inside = [name for name in random_operations(ancestors(results)) if "/" in name]
        names = {operation.name for operation in self._operations}
        if any(name not in names for name in inside):
            raise NotRepeatable(f"a function of the model draws random numbers ({inside[0]})")

    def __bool__(self) -> bool:
        return bool(self._operations)

    def give_to(self, results: list[tf.Operation]) -> None:
        """Sets the same seeds in another build of the same step; raises NotRepeatable where it differs."""
        others = _random(results)
        if [o.type for o in others] != [o.type for o in self._operations]:
            raise NotRepeatable("model_fn draws other random numbers when called again")
        for mine, other in zip(self._operations, others, strict=True):
            for name in ("seed", "seed2"):
                other._set_attr(name, attr_value_pb2.AttrValue(i=mine.get_attr(name)))


def _random(results: list[tf.Operation]) -> list[tf.Operation]:
    needed = set(ancestors(results))
    in_order = results[0].graph.get_operations() if results else []
    return [
        operation for operation in in_order if operation in needed and operation.type in RANDOM_OPERATIONS
    ]
