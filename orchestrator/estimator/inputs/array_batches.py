"""Batches of rows from arrays in memory, as a Dataset that copies no array into the graph."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from orchestrator.errors import InvalidArgument, InvalidType

_CHUNK_BYTES = 1 << 20
_CHUNK_BATCHES = 64
"""Rows are gathered for several batches at once, because each call of Python costs 0.2 ms."""


@dataclass(frozen=True, eq=False)
class ArrayBatches:
    """Rows of `columns` (arrays of one length, by name) in batches.

    Epochs follow each other without a gap, so that a batch may hold the end of
    one and the start of the next; with a number of epochs the last batch may be
    smaller. The rows are gathered by a stateless Python function: the position
    can be saved, and the arrays are neither copied nor written into the graph.
    """

    columns: Mapping[Any, np.ndarray]
    batch_size: int
    num_epochs: int | None
    shuffle: bool

    def dataset(self) -> tf.data.Dataset:
        """A Dataset of dicts, batch first; its shuffling follows the graph's seed."""
        chunks = self._indices(self.batch_size * self._batches_a_chunk())
        batches = chunks.map(self._gather).rebatch(self.batch_size, drop_remainder=self.num_epochs is None)
        return batches.prefetch(2)

    def _indices(self, chunk: int) -> tf.data.Dataset:
        """Row numbers of all epochs, `chunk` at a time."""
        rows = len(next(iter(self.columns.values())))
        if not self.shuffle:
            return tf.data.Dataset.range(rows).repeat(self.num_epochs).batch(chunk)

        def order(seed: int) -> np.ndarray:
            return np.random.default_rng(seed).permutation(rows)

        def permute(seed: tf.Tensor) -> tf.Tensor:
            return _call_numpy(order, seed, [tf.int64], [[rows]])[0]

        seeds = tf.data.Dataset.random()
        epochs = seeds if self.num_epochs is None else seeds.take(self.num_epochs)
        return epochs.map(permute).rebatch(chunk)

    def _batches_a_chunk(self) -> int:
        row_bytes = sum(max(array.nbytes // len(array), 1) for array in self.columns.values())
        return max(1, min(_CHUNK_BATCHES, _CHUNK_BYTES // (row_bytes * self.batch_size)))

    def _gather(self, indices: tf.Tensor) -> dict[Any, tf.Tensor]:
        arrays = list(self.columns.values())
        tensors = _call_numpy(
            lambda chosen: [array[chosen] for array in arrays],
            indices,
            [tf.dtypes.as_dtype(array.dtype) for array in arrays],
            [indices.shape.concatenate(array.shape[1:]) for array in arrays],
        )
        return dict(zip(self.columns, tensors, strict=True))


def _call_numpy(
    function: Callable[[Any], Any], argument: tf.Tensor, types: list[Any], shapes: list[Any]
) -> list[tf.Tensor]:
    """A graph node that calls `function`; marked stateless, so that a pipeline with it can be saved."""
    tensors = tf.numpy_function(function, [argument], types, stateful=False)
    for tensor, shape in zip(tensors, shapes, strict=True):
        tensor.set_shape(shape)
    return tensors


@dataclass(frozen=True, eq=False)
class ArrayInput:
    """An input_fn over ArrayBatches.

    Called in a graph it returns the tensors of the next batch, which need no
    initializer; `dataset` gives the same batches as a Dataset, for callers that
    start the input again or split it among replicas.
    """

    batches: ArrayBatches
    arrange: Callable[[dict[Any, Any]], Any]
    """Turns a batch by column into features, or (features, labels)."""

    def __call__(self) -> Any:
        if tf.executing_eagerly():
            return self.dataset()
        return tf.compat.v1.data.make_one_shot_iterator(self.dataset()).get_next()

    def dataset(self) -> tf.data.Dataset:
        """The batches, arranged."""
        return self.batches.dataset().map(self.arrange)


def check_batching(caller: str, batch_size: Any, num_epochs: Any, shuffle: Any) -> None:
    """Raises for a wrong batch size, number of epochs or shuffle flag; `caller` is the public function."""
    if not isinstance(shuffle, bool):
        raise InvalidArgument(
            f"{caller}: shuffle must be provided and explicitly set as boolean; got {shuffle!r}."
            " True for training, False for evaluation and prediction."
        )
    if not isinstance(batch_size, numbers.Integral) or batch_size < 1:
        raise InvalidArgument(f"{caller}: batch_size must be a whole number from 1; got {batch_size!r}.")
    if num_epochs is not None and (not isinstance(num_epochs, numbers.Integral) or num_epochs < 0):
        raise InvalidArgument(
            f"{caller}: num_epochs must be a whole number from 0, or None for no end; got {num_epochs!r}."
        )


def feedable(caller: str, what: str, values: Any) -> np.ndarray:
    """`values` as an array that TensorFlow can hold; text becomes UTF-8 bytes.

    Raises InvalidType, naming `what`, for other types.
    """
    array = np.asarray(values)
    if array.dtype.kind == "U":
        return np.char.encode(array, "utf-8").astype(object)
    if array.dtype.kind == "O":
        return _as_bytes(caller, what, array)
    try:
        tf.dtypes.as_dtype(array.dtype)
    except TypeError:
        raise InvalidType(
            f"{caller}: {what} has dtype {array.dtype}, which TensorFlow cannot hold; convert it first."
        ) from None
    return array


def _as_bytes(caller: str, what: str, array: np.ndarray) -> np.ndarray:
    encoded = np.empty(array.shape, dtype=object)
    for position, value in np.ndenumerate(array):
        if not isinstance(value, (str, bytes)):
            raise InvalidType(
                f"{caller}: {what} has dtype object, which must hold text only, but row {position[0]} is"
                f" {value!r} ({type(value).__name__})."
            )
        encoded[position] = value.encode() if isinstance(value, str) else value
    return encoded
