"""numpy_input_fn: batches from numpy arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from orchestrator.errors import InvalidArgument, InvalidType
from orchestrator.estimator.inputs.array_batches import ArrayBatches, ArrayInput, check_batching, feedable

_CALLER = "numpy_input_fn"


def numpy_input_fn(  # noqa: PLR0917 - the order of the public API
    x: np.ndarray | dict[str, np.ndarray],
    y: np.ndarray | dict[str, np.ndarray] | None = None,
    batch_size: int = 128,
    num_epochs: int | None = 1,
    shuffle: bool | None = None,
    queue_capacity: int | None = 1000,
    num_threads: int = 1,
) -> Callable[[], Any]:
    """An input_fn over arrays; all have the same first dimension, the rows.

    Args:
      x: features: an array or a dict of arrays.
      y: labels: an array, a dict of arrays, or None.
      batch_size: rows a batch; the last one may be smaller.
      num_epochs: passes over the rows; None never ends.
      shuffle: whether the rows come in random order; must be given.
      queue_capacity, num_threads: accepted for old programs, without effect;
        rows come in order, each once an epoch, whatever they are.

    Returns a function without arguments that returns features (x's kind), or
    (features, labels). Raises InvalidArgument (a ValueError) or InvalidType (a
    TypeError) for wrong arguments.
    """
    del queue_capacity, num_threads
    check_batching(_CALLER, batch_size, num_epochs, shuffle)
    features = _columns("x", x)
    labels = {} if y is None else _columns("y", y)
    _check_lengths(features, labels)
    batches = ArrayBatches({**features, **labels}, batch_size, num_epochs, bool(shuffle))

    def arrange(batch: dict[Any, Any]) -> Any:
        chosen = _like(x, features, batch)
        return chosen if y is None else (chosen, _like(y, labels, batch))

    if isinstance(x, dict) and isinstance(y, dict):
        _refuse_duplicates(x, y)
    return ArrayInput(batches, arrange)


def _columns(name: str, value: Any) -> dict[tuple[str, Any], np.ndarray]:
    """The arrays under ('x' or 'y', key), so that a key may stand on both sides."""
    if isinstance(value, dict):
        if not value:
            text = "x cannot be an empty dict." if name == "x" else "y cannot be empty; None means no labels."
            raise InvalidArgument(f"{_CALLER}: {text}")
        return {(name, key): _array(f"{name}[{key!r}]", value[key]) for key in sorted(value)}
    if not isinstance(value, np.ndarray):
        raise InvalidType(f"{_CALLER}: {name} must be a dict or array; got {type(value).__name__}.")
    if value.size == 0:
        raise InvalidArgument(f"{_CALLER}: {name} cannot be an empty array; its shape is {value.shape}.")
    return {(name, None): _array(name, value)}


def _array(what: str, value: Any) -> np.ndarray:
    if not hasattr(value, "__array__"):
        raise InvalidType(f"{_CALLER}: {what} must be a numpy array; got {type(value).__name__}.")
    array = feedable(_CALLER, what, value)
    if array.ndim == 0:
        raise InvalidArgument(f"{_CALLER}: {what} is a single value; it needs a first dimension, the rows.")
    return array


def _check_lengths(features: dict[Any, np.ndarray], labels: dict[Any, np.ndarray]) -> None:
    if len({len(array) for array in (*features.values(), *labels.values())}) > 1:
        shapes = {
            name if key is None else f"{name}[{key!r}]": array.shape
            for (name, key), array in {**features, **labels}.items()
        }
        raise InvalidArgument(
            f"{_CALLER}: Length of tensors in x and y is mismatched. All need the same number of rows,"
            f" but their shapes are {shapes}."
        )


def _refuse_duplicates(x: dict[Any, Any], y: dict[Any, Any]) -> None:
    both = sorted(set(x) & set(y))
    if both:
        raise InvalidArgument(f"{_CALLER}: {len(both)} duplicate keys are found in both x and y: {both}.")


def _like(original: Any, columns: dict[Any, Any], batch: dict[Any, Any]) -> Any:
    """This side's tensors: a dict where a dict was given, else the single tensor."""
    chosen = {key: batch[(side, key)] for side, key in columns}
    return chosen if isinstance(original, dict) else chosen[None]
