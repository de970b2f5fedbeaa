"""A copy of a model's variables in host memory, taken between two steps.

The memory is kept and filled again: fresh memory would cost more time than the
copy itself. Large variables are read in pieces for the same reason, so that
nothing but the copy is ever as large as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from orchestrator.estimator.row_access import RowAccess

v1 = tf.compat.v1

PIECE_BYTES = 8 << 20
"""Read at once of a larger variable: memory of this size is recycled by the allocator, larger is not."""
GROUP_BYTES = 64 << 20
"""Smaller variables are read together, up to this size."""
_ALIGNMENT = 64
"""TensorFlow feeds arrays that begin at such an address without copying them."""
_PASSED_ON = ("Identity",)
_PLAIN_TYPES = frozenset({tf.float16, tf.bfloat16, tf.float32, tf.float64, tf.int8, tf.int32, tf.int64})


class Snapshot:
    """The values of `tensors` at one moment.

    The constructor adds its operations to the default graph. `open` is to be
    called for each session before `take`.
    """

    def __init__(self, tensors: list[tf.Tensor]) -> None:
        self._arrays: list[np.ndarray | None] = [_buffer_for(tensor) for tensor in tensors]
        small: list[tuple[int, tf.Tensor]] = []
        self._pieces: list[_Pieces] = []
        row_access = RowAccess(v1.get_default_graph())
        for index, tensor in enumerate(tensors):
            pieces = _in_pieces(index, tensor, row_access)
            if pieces is None:
                small.append((index, tensor))
            else:
                self._pieces.append(pieces)
        self._groups = list(_grouped(small))
        self._read_groups: list[Callable[[], list[Any]]] = []
        self._read_pieces: list[Callable[..., np.ndarray]] = []

    def open(self, session: v1.Session) -> None:
        """Prepares the reading, which takes longest the first time."""
        self._read_groups = [session.make_callable([tensor for _, tensor in group]) for group in self._groups]
        self._read_pieces = [session.make_callable(p.value, feed_list=p.feeds) for p in self._pieces]
        self.take()

    def take(self) -> list[np.ndarray]:
        """The present values, in the order of the tensors; the arrays are the same ones each time."""
        for group, read_group in zip(self._groups, self._read_groups, strict=True):
            for (index, _), value in zip(group, read_group(), strict=True):
                self._arrays[index] = _copied(np.asarray(value), self._arrays[index])
        for pieces, read_piece in zip(self._pieces, self._read_pieces, strict=True):
            array = self._arrays[pieces.index]
            assert array is not None
            flat = array.reshape(pieces.rows, -1) if pieces.by_rows else array.reshape(-1)
            for start in range(0, len(flat), pieces.length):
                part = flat[start : start + pieces.length]
                np.copyto(part, read_piece(*pieces.arguments(start, len(part))).reshape(part.shape))
        return [array for array in self._arrays if array is not None]


@dataclass(frozen=True)
class _Pieces:
    """How one large variable is read: by some of its rows, or by a part of it laid flat."""

    index: int
    value: tf.Tensor
    feeds: list[tf.Tensor]
    rows: int
    length: int
    by_rows: bool

    def arguments(self, start: int, length: int) -> tuple[Any, ...]:
        if self.by_rows:
            return (np.arange(start, start + length, dtype=np.int64),)
        return [start], [length]


def _in_pieces(index: int, tensor: tf.Tensor, row_access: RowAccess) -> _Pieces | None:
    """How to read a large variable; None for what is small or computed, and better read as a whole."""
    size = _bytes_of(tensor)
    source = _behind_identities(tensor)
    if size is None or size <= PIECE_BYTES or tensor.dtype.base_dtype not in _PLAIN_TYPES:
        return None
    if source.op.type not in ("ReadVariableOp", "VariableV2"):
        return None
    rows = tensor.shape.as_list()[0]
    if source.op.type == "ReadVariableOp" and row_access.to(source.op.inputs[0]):
        return _rows_of(index, source.op.inputs[0], source, rows, max(1, PIECE_BYTES // (size // rows)))
    with v1.colocate_with(source.op, ignore_existing=True):
        start, length = (v1.placeholder(tf.int64, [1], name=f"snapshot_{name}") for name in ("start", "size"))
        value = tf.slice(tf.reshape(source, [-1]), start, length)
    return _Pieces(index, value, [start, length], rows, PIECE_BYTES // tensor.dtype.size, by_rows=False)


def _rows_of(index: int, handle: tf.Tensor, source: tf.Tensor, rows: int, length: int) -> _Pieces:
    """Reads rows where they are: of such a variable any other reading copies all."""
    with v1.colocate_with(handle.op, ignore_existing=True):
        wanted = v1.placeholder(tf.int64, [None], name="snapshot_rows")
        value = tf.raw_ops.ResourceGather(resource=handle, indices=wanted, dtype=source.dtype)
    return _Pieces(index, value, [wanted], rows, length, by_rows=True)


def _behind_identities(tensor: tf.Tensor) -> tf.Tensor:
    """The variable's own value, on its own device, where a Saver reads a copy on the CPU."""
    while tensor.op.type in _PASSED_ON:
        tensor = tensor.op.inputs[0]
    return tensor


def _grouped(tensors: list[tuple[int, tf.Tensor]]) -> Iterator[list[tuple[int, tf.Tensor]]]:
    """Tensors that are read together; one of unknown size counts as a small one."""
    group: list[tuple[int, tf.Tensor]] = []
    total = 0
    for index, tensor in tensors:
        size = _bytes_of(tensor) or 0
        if group and total + size > GROUP_BYTES:
            yield group
            group, total = [], 0
        group.append((index, tensor))
        total += size
    if group:
        yield group


def _bytes_of(tensor: tf.Tensor) -> int | None:
    elements = tensor.shape.num_elements()
    return None if elements is None or tensor.dtype == tf.string else elements * tensor.dtype.size


def _buffer_for(tensor: tf.Tensor) -> np.ndarray | None:
    if _bytes_of(tensor) is None:
        return None
    return _aligned(tuple(tensor.shape.as_list()), np.dtype(tensor.dtype.as_numpy_dtype))


def _copied(value: np.ndarray, buffer: np.ndarray | None) -> np.ndarray:
    """The value in `buffer`, or in a new one where it does not fit."""
    if value.dtype == object:  # strings have no buffer to copy into
        return value
    if buffer is None or buffer.shape != value.shape or buffer.dtype != value.dtype:
        buffer = _aligned(value.shape, value.dtype)
    np.copyto(buffer, value)
    return buffer


def _aligned(shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    raw = np.empty(size + _ALIGNMENT, np.uint8)
    offset = -raw.ctypes.data % _ALIGNMENT
    return raw[offset : offset + size].view(dtype).reshape(shape)
