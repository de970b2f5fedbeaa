"""Receivers: what a serving_input_receiver_fn returns."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import tensorflow as tf

from orchestrator.errors import InvalidArgument

SINGLE_FEATURE = "feature"
SINGLE_LABEL = "label"
SINGLE_RECEIVER = "input"
_SINGLE_NAMES = {
    "feature": SINGLE_FEATURE,
    "label": SINGLE_LABEL,
    "receiver_tensor": SINGLE_RECEIVER,
    "receiver_tensors_alternative": SINGLE_RECEIVER,
}
_SERVING_FIELDS = ("features", "receiver_tensors", "receiver_tensors_alternatives")


class ServingInputReceiver(namedtuple("ServingInputReceiver", _SERVING_FIELDS)):
    """What a served model is fed with, and the features made of it.

    Args:
      features: dict (string or int keys) of dense, sparse or ragged tensors for
        the model_fn; a single tensor becomes {"feature": tensor}.
      receiver_tensors: the tensors to feed by name, usually one placeholder of
        serialized `tf.Example`s; a single one gets the name "input".
      receiver_tensors_alternatives: further groups of tensors to feed, by name;
        each gives signatures of its own, named `NAME:SIGNATURE`.

    Raises InvalidArgument (a ValueError) naming the field.
    """

    __slots__ = ()

    def __new__(
        cls, features: Any, receiver_tensors: Any, receiver_tensors_alternatives: Any = None
    ) -> ServingInputReceiver:
        return super().__new__(
            cls,
            features=named_tensors(features, "feature", int_keys=True),
            receiver_tensors=named_tensors(receiver_tensors, "receiver_tensor"),
            receiver_tensors_alternatives=_alternatives(receiver_tensors_alternatives),
        )


class TensorServingInputReceiver(namedtuple("TensorServingInputReceiver", _SERVING_FIELDS)):
    """A ServingInputReceiver for models whose features are one tensor, not a dict."""

    __slots__ = ()

    def __new__(
        cls, features: Any, receiver_tensors: Any, receiver_tensors_alternatives: Any = None
    ) -> TensorServingInputReceiver:
        named_tensors({SINGLE_FEATURE: features} if features is not None else None, "feature")
        return super().__new__(
            cls,
            features=features,
            receiver_tensors=named_tensors(receiver_tensors, "receiver_tensor"),
            receiver_tensors_alternatives=_alternatives(receiver_tensors_alternatives),
        )


class UnsupervisedInputReceiver(ServingInputReceiver):
    """What a graph for training or evaluation without labels is fed with."""

    __slots__ = ()

    def __new__(cls, features: Any, receiver_tensors: Any) -> UnsupervisedInputReceiver:
        return super().__new__(cls, features, receiver_tensors)


_SUPERVISED_FIELDS = ("features", "labels", "receiver_tensors")


class SupervisedInputReceiver(namedtuple("SupervisedInputReceiver", _SUPERVISED_FIELDS)):
    """What a graph for training or evaluation is fed with: features and labels, as model_fn takes them.

    `features` and `labels` are tensors or dicts of them; `receiver_tensors` as
    ServingInputReceiver's. Raises InvalidArgument naming the field.
    """

    __slots__ = ()

    def __new__(cls, features: Any, labels: Any, receiver_tensors: Any) -> SupervisedInputReceiver:
        named_tensors(features, "feature", int_keys=True)
        named_tensors(labels, "label", int_keys=True)
        return super().__new__(
            cls,
            features=features,
            labels=labels,
            receiver_tensors=named_tensors(receiver_tensors, "receiver_tensor"),
        )


def named_tensors(tensors: Any, field: str, int_keys: bool = False) -> dict[Any, Any]:
    """`tensors` as a dict by name; raises InvalidArgument for None, for wrong keys and for other values."""
    if tensors is None:
        raise InvalidArgument(f"input receiver: {field}s must be defined.")
    named = tensors if isinstance(tensors, dict) else {_SINGLE_NAMES[field]: tensors}
    for name, tensor in named.items():
        if not isinstance(name, (str, int) if int_keys else str):
            kinds = "strings or ints" if int_keys else "strings"
            raise InvalidArgument(f"input receiver: {field} keys must be {kinds}: {name!r}.")
        if not _is_tensor(tensor):
            raise InvalidArgument(
                f"input receiver: {field} {name} must be a Tensor, SparseTensor, or RaggedTensor."
                f" Given: {tensor!r}."
            )
    return named


def _alternatives(groups: Any) -> dict[str, dict[str, Any]] | None:
    if groups is None:
        return None
    if not isinstance(groups, dict):
        raise InvalidArgument(f"input receiver: receiver_tensors_alternatives must be a dict: {groups!r}.")
    return {name: named_tensors(group, "receiver_tensors_alternative") for name, group in groups.items()}


def _is_tensor(value: Any) -> bool:
    if isinstance(value, (tf.Tensor, tf.SparseTensor, tf.RaggedTensor)):
        return True
    if not hasattr(value, "tensor"):  # labelled tensors wrap one
        return False
    try:
        tf.convert_to_tensor(value)
    except (TypeError, ValueError):
        return False
    return True
