"""Sets the parts of a variable in a session: in one go, or in slices where a message could not hold it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from orchestrator.warm_start.graph_variables import Part

v1 = tf.compat.v1

SLICE_BYTES = 1 << 30
"""Bytes of values and their places in one message; protocol buffers end at 2 GiB."""
_INDEX_BYTES = 8


def assign(session: Any, part: Part, value: np.ndarray, slice_bytes: int = SLICE_BYTES) -> None:
    """Sets one part to what belongs to it of the whole `value`. The variable must be initialised.

    A session of this process alone takes arrays of any size. Between processes a
    tensor travels in a message, and one of more than `slice_bytes` is cut; that
    takes three operations more in the graph.
    """
    initializer, tensor, piece = part.feed(value)
    if piece.nbytes <= slice_bytes or not getattr(session, "sess_str", ""):
        session.run(initializer, {tensor: piece})
        return
    indices, updates, scatter = _scatter_operation(session.graph, part.variable, _depth(piece, slice_bytes))
    for places, values in slices(piece, slice_bytes):
        session.run(scatter, {indices: places, updates: values})


def slices(value: np.ndarray, slice_bytes: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The value in pieces of so many bytes: their places, int64 [n, depth], and values, [n, ...]."""
    depth = _depth(value, slice_bytes)
    rows = value.reshape(-1, *value.shape[depth:])
    count = max(1, slice_bytes // (rows[0].nbytes + _INDEX_BYTES * depth))
    for start in range(0, len(rows), count):
        numbers = np.arange(start, min(start + count, len(rows)))
        places = np.stack(np.unravel_index(numbers, value.shape[:depth]), axis=-1).astype(
            np.int64, copy=False
        )
        yield places, rows[start : start + count]


def _depth(value: np.ndarray, slice_bytes: int) -> int:
    """How many axes must be counted through, from the first on, for one place's values to fit."""
    for depth in range(1, value.ndim):
        if math.prod(value.shape[depth:]) * value.itemsize + _INDEX_BYTES * depth <= slice_bytes:
            return depth
    return value.ndim


def _scatter_operation(graph: tf.Graph, variable: Any, depth: int) -> tuple[Any, Any, Any]:
    """Two placeholders, and what sets some places of a variable; a final graph is final again afterwards."""
    finalized = graph.finalized
    # A Scaffold calls its init_fn when the graph is final, and only in its own graph can a session be used.
    graph._unsafe_unfinalize()
    try:
        with graph.as_default(), tf.control_dependencies(None), graph.device(variable.device):
            indices = v1.placeholder(tf.int64, [None, depth], "warm_start/indices")
            updates = v1.placeholder(
                variable.dtype.base_dtype, [None, *variable.shape[depth:]], "warm_start/values"
            )
            if getattr(variable, "handle", None) is not None:
                scatter = tf.raw_ops.ResourceScatterNdUpdate(
                    ref=variable.handle, indices=indices, updates=updates, name="warm_start/update"
                )
            else:
                scatter = tf.raw_ops.ScatterNdUpdate(
                    ref=variable._ref(), indices=indices, updates=updates, name="warm_start/update"
                ).op
    finally:
        if finalized:
            graph.finalize()
    return indices, updates, scatter
