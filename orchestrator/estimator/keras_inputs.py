"""What an input_fn gives, in the order in which a Keras model takes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from orchestrator.errors import InvalidArgument, InvalidType, MissingKey

_WEIGHTED = {"features", "sample_weights"}


@dataclass(frozen=True)
class KerasInputs:
    """Tensors in the model's order; None where the input_fn gave none."""

    inputs: Any
    """A list, or a dict where the model takes one."""
    targets: list[Any] | None
    sample_weights: Any


def keras_inputs(model: Any, features: Any, labels: Any) -> KerasInputs:
    """Orders `features` and `labels` by the input and output names of `model`.

    Features of the form {"features": ..., "sample_weights": ...} carry weights.
    Raises MissingKey (a KeyError) where a dict lacks a name of the model.
    """
    weights = None
    if isinstance(features, Mapping) and set(features) == _WEIGHTED:
        features, weights = features["features"], features["sample_weights"]
    return KerasInputs(_inputs(model, features), _targets(model, labels), weights)


def _inputs(model: Any, features: Any) -> Any:
    if isinstance(model.inputs, Mapping):
        tensors = _ordered(features, list(model.inputs), "features", "inputs")
        return None if tensors is None else dict(zip(model.inputs, tensors, strict=True))
    if model.inputs is None and isinstance(features, Mapping):
        return {name: _tensor(value) for name, value in features.items()}  # a model not yet built
    names = _names(model, "input", features)
    return _ordered(features, names, "features", "inputs")


def _targets(model: Any, labels: Any) -> list[Any] | None:
    return _ordered(labels, _names(model, "output", labels), "labels", "outputs")


def _names(model: Any, kind: str, given: Any) -> list[str]:
    """The model's own names; `input_1` and so on for a model that has none before it is called."""
    if model._is_graph_network:
        return list(getattr(model, f"{kind}_names"))
    count = len(given) if isinstance(given, Mapping) else 0
    return [f"{kind}_{number}" for number in range(1, count + 1)]


def _ordered(given: Any, names: Sequence[str], what: str, order: str) -> list[Any] | None:
    if given is None:
        return None
    if isinstance(given, (list, tuple)):
        return [_tensor(value) for value in given]
    if not isinstance(given, Mapping):
        return [_tensor(given)]
    missing = set(names) - set(given)
    if missing:
        raise MissingKey(
            f"model_to_estimator: the {what} of input_fn do not cover the {order} of the Keras model."
            f" Expected keys: {sorted(names)}, {what} keys: {sorted(given)}, Missed keys: {sorted(missing)}."
        )
    return [_tensor(given[name]) for name in names]


def _tensor(value: Any) -> Any:
    return value if tf.is_tensor(value) else tf.compat.v1.convert_to_tensor_or_sparse_tensor(value)


def weights_by_output(weights: Any, outputs: Sequence[str]) -> list[Any]:
    """One sample weight (or None) for each output of the model.

    Raises InvalidArgument (a ValueError) for a wrong number or unknown names,
    InvalidType (a TypeError) for one tensor where there are several outputs.
    """
    if isinstance(weights, Mapping):
        unknown = sorted(set(weights) - set(outputs))
        if unknown:
            raise InvalidArgument(
                f"model_to_estimator: Unknown entries in sample_weights dictionary: {unknown}."
                f" The outputs of the Keras model are {list(outputs)}."
            )
        return [weights.get(name) for name in outputs]
    if isinstance(weights, (list, tuple)):
        if len(weights) != len(outputs):
            raise InvalidArgument(
                f"model_to_estimator: {len(weights)} sample_weights were given, but the Keras model has"
                f" {len(outputs)} outputs: {list(outputs)}."
            )
        return list(weights)
    if len(outputs) > 1:
        raise InvalidType(
            "model_to_estimator: the Keras model has several outputs, so `sample_weights` should be a list or"
            f" a dict by output. Given: {weights!r}."
        )
    return [weights]
