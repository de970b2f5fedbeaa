"""Functions that make receiver functions, the `build_*_input_receiver_fn` family."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from orchestrator.errors import InvalidArgument
from orchestrator.estimator.export.receivers import (
    SINGLE_LABEL,
    SINGLE_RECEIVER,
    ServingInputReceiver,
    SupervisedInputReceiver,
)
from orchestrator.estimator.input_source import read_input

v1 = tf.compat.v1


def build_parsing_serving_input_receiver_fn(
    feature_spec: dict[str, Any], default_batch_size: int | None = None
) -> Callable[[], ServingInputReceiver]:
    """A serving_input_receiver_fn that is fed serialized `tf.Example`s, under the name `examples`.

    `feature_spec` holds parsing configurations (`tf.io.FixedLenFeature` and the
    like) by feature; `default_batch_size` None leaves the number of examples
    open.
    """

    def serving_input_receiver_fn() -> ServingInputReceiver:
        examples = v1.placeholder(tf.string, [default_batch_size], name="input_example_tensor")
        return ServingInputReceiver(v1.io.parse_example(examples, feature_spec), {"examples": examples})

    return serving_input_receiver_fn


def build_raw_serving_input_receiver_fn(
    features: dict[str, Any], default_batch_size: int | None = None
) -> Callable[[], ServingInputReceiver]:
    """A serving_input_receiver_fn that is fed the features themselves.

    `features` holds tensors (or `tf.TensorSpec`s) by name, of which only type
    and shape matter; their first dimension becomes `default_batch_size`.
    """

    def serving_input_receiver_fn() -> ServingInputReceiver:
        placeholders = _placeholders(features, default_batch_size)
        return ServingInputReceiver(placeholders, placeholders)

    return serving_input_receiver_fn


def build_raw_supervised_input_receiver_fn(
    features: Any, labels: Any, default_batch_size: int | None = None
) -> Callable[[], SupervisedInputReceiver]:
    """A receiver function for training and evaluation graphs, fed features and labels themselves.

    Both may be dicts of tensors or single tensors; a single feature is fed under
    the name `input`, a single label under `label`. Raises InvalidArgument (a
    ValueError) where features and labels share a name.
    """
    names = set(features) if isinstance(features, dict) else {SINGLE_RECEIVER}
    shared = names & (set(labels) if isinstance(labels, dict) else {SINGLE_LABEL})
    if shared:
        raise InvalidArgument(
            "build_raw_supervised_input_receiver_fn: Features and labels must have distinct keys."
            f" Found overlapping keys: {sorted(shared)}."
        )

    def supervised_input_receiver_fn() -> SupervisedInputReceiver:
        own_features = _placeholders(features, default_batch_size)
        own_labels = _placeholders(labels, default_batch_size)
        receivers = {
            **(own_features if isinstance(features, dict) else {SINGLE_RECEIVER: own_features}),
            **(own_labels if isinstance(labels, dict) else {SINGLE_LABEL: own_labels}),
        }
        return SupervisedInputReceiver(own_features, own_labels, receivers)

    return supervised_input_receiver_fn


def build_supervised_input_receiver_fn_from_input_fn(
    input_fn: Callable[..., Any], **input_fn_args: Any
) -> Callable[[], SupervisedInputReceiver]:
    """A receiver function with the names, types and shapes that `input_fn(**input_fn_args)` yields.

    The input_fn is called once, in a graph of its own.
    """
    with tf.Graph().as_default():
        source = read_input(input_fn(**input_fn_args), input_fn)
    return build_raw_supervised_input_receiver_fn(source.features, source.labels)


def _placeholders(tensors: Any, batch_size: int | None) -> Any:
    if isinstance(tensors, dict):
        return {name: _placeholder(tensor, batch_size) for name, tensor in tensors.items()}
    return _placeholder(tensors, batch_size)


def _placeholder(tensor: Any, batch_size: int | None) -> Any:
    """One of the same type, name and (but for the first dimension) shape."""
    if isinstance(tensor, tf.RaggedTensor):
        return v1.ragged.placeholder(tensor.dtype, tensor.ragged_rank, tensor.flat_values.shape[1:])
    shape = tf.TensorShape([batch_size]).concatenate(tf.TensorShape(tensor.shape)[1:])
    if isinstance(tensor, tf.SparseTensor):
        return v1.sparse_placeholder(tensor.dtype, shape)
    return v1.placeholder(tensor.dtype, shape, name=_operation_name(tensor))


def _operation_name(tensor: Any) -> str | None:
    try:
        return tensor.op.name
    except AttributeError:  # eager tensors have no operation; a TensorSpec has a name
        return getattr(tensor, "name", None) if isinstance(tensor, tf.TensorSpec) else None
