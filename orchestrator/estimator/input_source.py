"""What an input_fn returned, as tensors and the operations that start it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import tensorflow as tf

from orchestrator.errors import InvalidArgument, InvalidType
from orchestrator.estimator.element_reading import READING_OPERATIONS, reader
from orchestrator.estimator.signatures import describe


class IteratorInitializerHook(tf.compat.v1.train.SessionRunHook):
    """Starts an input pipeline in every new session."""

    def __init__(self, initializer: Any) -> None:
        self.initializer = initializer

    def after_create_session(self, session: tf.compat.v1.Session, coord: Any) -> None:
        session.run(self.initializer)


@dataclass(frozen=True)
class InputSource:
    """Features and labels of one batch, and the hooks that make them flow."""

    features: Any
    labels: Any
    hooks: list[tf.compat.v1.train.SessionRunHook] = field(default_factory=list)
    from_dataset: bool = False
    iterator: Any = None
    """Where the batches come from, for whoever needs another one; None where `input_fn` returned tensors."""
    input_fn: Any = None
    next_element: Callable[[], Any] | None = None
    """Reads another element; None where `input_fn` returned tensors."""
    dataset: Any = None
    """What `iterator` was made for; None where `input_fn` made the iterator itself."""

    def split(self, element: Any) -> tuple[Any, Any]:
        """`(features, labels)` of another element of the iterator."""
        return split_features_and_labels(element, self.input_fn)


def dataset_for_replicas(result: Any, input_fn: Any) -> Any:
    """What `input_fn` returned to a strategy; raises InvalidArgument unless it is a Dataset of this graph.

    A function is taken too, as the strategies' own interface has it.
    """
    if not _is_dataset(_something(result, input_fn)) and not callable(result):
        raise InvalidArgument(
            f"input_fn {describe(input_fn)} must return a tf.data.Dataset under a strategy, which deals its"
            f" batches to the replicas; it returned {type(result).__name__}."
        )
    _refuse_made_elsewhere(result, input_fn)
    return result


def _something(result: Any, input_fn: Any) -> Any:
    if result is None:
        raise InvalidArgument(
            f"input_fn {describe(input_fn)} returned None; return a Dataset, features, or (features, labels)."
        )
    return result


def _is_dataset(value: Any) -> bool:
    return isinstance(value, (tf.compat.v1.data.Dataset, tf.compat.v2.data.Dataset))


def _refuse_no_tensors(value: Any, input_fn: Any) -> None:
    """Raises InvalidType for what nobody can turn into tensors, before an operation of the model has to."""
    if isinstance(value, (str, bytes)):
        hint = " A file name is no data: return tf.data.TextLineDataset or another Dataset."
    elif any(isinstance(leaf, (type, Iterator)) for leaf in _all_leaves(value)):
        hint = " Make a Dataset of it, for example with tf.data.Dataset.from_generator."
    else:
        return
    raise InvalidType(
        f"input_fn {describe(input_fn)} must return a Dataset, features, or (features, labels);"
        f" it returned {value!r}.{hint}"
    )


def _refuse_made_elsewhere(value: Any, input_fn: Any) -> None:
    """Raises InvalidArgument for data sets and tensors of the program's top level or of another graph."""
    dataset = _is_dataset(value)
    tensors = [value._variant_tensor] if dataset else _all_leaves(value)  # nothing public has its graph
    here = tf.compat.v1.get_default_graph()
    if all(getattr(t, "graph", None) is here for t in tensors if isinstance(t, tf.Tensor)):
        return
    what = "a Dataset" if dataset else "tensors"
    raise InvalidArgument(
        f"input_fn {describe(input_fn)} returned {what} made outside of it, at the top of the program or in"
        " an earlier call. It is called inside a graph: make the whole input within the function."
    )


def _all_leaves(value: Any) -> list[Any]:
    parts = value if isinstance(value, (list, tuple)) else [value]
    return [leaf for part in parts for leaf in leaves(part)]


def split_features_and_labels(value: Any, input_fn: Any) -> tuple[Any, Any]:
    """`(features, labels)` of an element; labels are None where there are none."""
    _refuse_no_tensors(value, input_fn)
    if isinstance(value, (list, tuple)):
        if len(value) != 2:
            raise InvalidArgument(
                "input_fn should return (features, labels) as a len 2 tuple;"
                f" {describe(input_fn)} returned {len(value)} parts."
            )
        return value[0], value[1]
    return value, None


def read_input(result: Any, input_fn: Any, in_place: bool = False) -> InputSource:
    """Turns what `input_fn` returned into an InputSource.

    A Dataset gets an initializable iterator (`in_place`: see `element_reading.py`);
    an Iterator is used as it is and initialised where it can be; tensors are
    taken as they are. Raises InvalidArgument for None and for tuples of another
    length than two.
    """
    _refuse_made_elsewhere(_something(result, input_fn), input_fn)
    if _is_dataset(result):
        iterator = tf.compat.v1.data.make_initializable_iterator(result)
        hooks = [IteratorInitializerHook(iterator.initializer)]
        source = read_iterator(iterator, hooks, input_fn, reader(iterator, result, in_place))
        return replace(source, dataset=result)
    if isinstance(result, tf.compat.v1.data.Iterator):
        return read_iterator(result, _initializer_hooks(result), input_fn)
    features, labels = split_features_and_labels(result, input_fn)
    return InputSource(features, labels)


def read_iterator(
    iterator: Any, hooks: list[Any], input_fn: Any, next_element: Callable[[], Any] | None = None
) -> InputSource:
    """The source that takes its batches from `iterator`, which `hooks` initialise."""
    next_element = next_element or iterator.get_next
    features, labels = split_features_and_labels(next_element(), input_fn)
    return InputSource(
        features,
        labels,
        hooks,
        from_dataset=True,
        iterator=iterator,
        input_fn=input_fn,
        next_element=next_element,
    )


class NotShareable(Exception):
    """Several inputs cannot feed one graph; the text says why."""


def read_inputs(results: Sequence[Any], input_fns: Sequence[Any]) -> list[InputSource]:
    """One source for each result, all with the same tensors: the hooks of a source choose whose batches flow.

    Raises NotShareable unless all are Datasets of the same structure and types.
    """
    if not all(isinstance(result, tf.compat.v2.data.Dataset) for result in results):
        raise NotShareable("not all inputs are Datasets")
    for result, input_fn in zip(results, input_fns, strict=True):
        _refuse_made_elsewhere(result, input_fn)
    types, shapes = _common_structure([result.element_spec for result in results])
    iterator = tf.compat.v1.data.Iterator.from_structure(types, shapes)
    features, labels = split_features_and_labels(iterator.get_next(), input_fns[0])
    return [
        InputSource(
            features,
            labels,
            [IteratorInitializerHook(iterator.make_initializer(result))],
            from_dataset=True,
            iterator=iterator,
            input_fn=input_fn,
            dataset=result,
        )
        for result, input_fn in zip(results, input_fns, strict=True)
    ]


def _common_structure(specs: list[Any]) -> tuple[Any, Any]:
    """Types, and the shapes that fit all."""

    def shape(*parts: Any) -> tf.TensorShape:
        if not all(isinstance(part, tf.TensorSpec) for part in parts) or len({p.dtype for p in parts}) > 1:
            raise NotShareable("their batches differ in type")
        common = parts[0].shape
        for part in parts[1:]:
            common = common.most_specific_compatible_shape(part.shape)
        return common

    try:
        return tf.nest.map_structure(lambda part: part.dtype, specs[0]), tf.nest.map_structure(shape, *specs)
    except (AttributeError, TypeError, ValueError) as error:
        raise NotShareable("their batches differ in structure") from error


def _initializer_hooks(iterator: Any) -> list[tf.compat.v1.train.SessionRunHook]:
    try:
        initializer = iterator.initializer
    except ValueError:  # a one-shot iterator has none
        return []
    return [IteratorInitializerHook(initializer)] if initializer is not None else []


def leaves(features: Any) -> list[Any]:
    """The tensors in features of any nesting; keys of a dict need not be comparable (tf.nest sorts them)."""
    if isinstance(features, Mapping):
        return [leaf for value in features.values() for leaf in leaves(value)]
    return list(tf.nest.flatten(features))


def ends_by_itself(features: Any) -> bool:
    """Whether these features come from a Dataset or a queue, which can run out."""
    tensors = [tensor for tensor in leaves(features) if isinstance(tensor, tf.Tensor)]
    if any(t.op.type in READING_OPERATIONS for t in tensors):
        return True
    return bool(tf.compat.v1.get_collection(tf.compat.v1.GraphKeys.QUEUE_RUNNERS))
