"""Writing a checkpoint beside training: a copy of the variables in memory, and a thread that writes it.

What is written, and every file's name, is what the `Saver` would have written:
the tensors are the inputs of its own save operations, and the Saver itself
keeps the `checkpoint` state file and deletes old checkpoints.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from orchestrator.errors import CheckpointError
from orchestrator.estimator.graph_walk import ancestors

v1 = tf.compat.v1
_ALIGNMENT = 64
"""TensorFlow feeds arrays that begin at such an address without copying them."""


@dataclass(frozen=True)
class SavedTensors:
    """What a Saver saves: names, slices and tensors, sorted by name."""

    names: list[bytes]
    slices: list[bytes]
    tensors: list[tf.Tensor]

    @staticmethod
    def of(saver: v1.train.Saver, graph: tf.Graph) -> SavedTensors:
        """Reads them off the save operations of a built Saver."""
        start = graph.as_graph_element(saver.saver_def.save_tensor_name).op
        rows: list[tuple[bytes, bytes, tf.Tensor]] = []
        for operation in ancestors([start]):
            if operation.type == "SaveV2":
                names, slices = (_constant(operation.inputs[index]) for index in (1, 2))
                rows += zip(names, slices, list(operation.inputs)[3:], strict=True)
        if not rows:
            raise CheckpointError("save_checkpoints_async: the Saver has no operation that could run aside.")
        rows.sort(key=lambda row: (row[0], row[1]))
        return SavedTensors(*(list(column) for column in zip(*rows, strict=True)))


def _constant(tensor: tf.Tensor) -> list[bytes]:
    return list(tf.get_static_value(tensor))


class Snapshot:
    """A copy of tensors in memory that is kept and filled again: fresh memory would cost page faults."""

    def __init__(self, tensors: list[tf.Tensor]) -> None:
        self._tensors = tensors
        self._buffers: list[np.ndarray | None] = [None] * len(tensors)

    def take(self, session: v1.Session) -> list[np.ndarray]:
        """Copies the tensors' values of this moment; the arrays stay valid until the next call."""
        values = session.run(self._tensors)
        taken = []
        for index, value in enumerate(values):
            array = np.asarray(value)
            if array.dtype == object:  # strings have no buffer to copy into
                taken.append(array)
                continue
            buffer = self._buffers[index]
            if buffer is None or buffer.shape != array.shape or buffer.dtype != array.dtype:
                buffer = self._buffers[index] = _aligned(array.shape, array.dtype)
            np.copyto(buffer, array)
            taken.append(buffer)
        return taken


def _aligned(shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    raw = np.empty(size + _ALIGNMENT, np.uint8)
    offset = -raw.ctypes.data % _ALIGNMENT
    return raw[offset : offset + size].view(dtype).reshape(shape)


class _WritingSession(v1.Session):
    """What a Saver takes for the training session: its `run` writes the snapshot.

    A session by name only: the one that writes is an attribute.
    """

    def __init__(self, saved: SavedTensors, training_graph: tf.Graph) -> None:
        self._training_graph = training_graph
        self._values: list[np.ndarray] = []
        writing = tf.Graph()
        with writing.as_default():
            self._prefix = v1.placeholder(tf.string, [])
            self._inputs = [v1.placeholder(tensor.dtype.base_dtype) for tensor in saved.tensors]
            self._save = tf.raw_ops.SaveV2(
                prefix=self._prefix,
                tensor_names=saved.names,
                shape_and_slices=saved.slices,
                tensors=self._inputs,
            )
        self._writing = v1.Session(graph=writing, config=v1.ConfigProto(device_count={"GPU": 0}))

    @property
    def graph(self) -> tf.Graph:
        return self._training_graph

    def hold(self, values: list[np.ndarray]) -> None:
        """The values that the next `run` writes."""
        self._values = values

    def run(self, fetches: Any, feed_dict: Any = None, options: Any = None, run_metadata: Any = None) -> Any:
        (prefix,) = feed_dict.values()
        feeds = dict(zip(self._inputs, self._values, strict=True))
        self._writing.run(self._save, {self._prefix: prefix, **feeds})
        return os.fsencode(prefix)

    def close(self) -> None:
        self._writing.close()

    def __del__(self) -> None:
        """The base class would look for what its own constructor makes."""


class CheckpointWriter:
    """Writes one checkpoint at a time in a thread of its own."""

    def __init__(self, saver: v1.train.Saver, graph: tf.Graph) -> None:
        saved = SavedTensors.of(saver, graph)
        self._saver = saver
        self._graph = graph
        self._snapshot = Snapshot(saved.tensors)
        self._session = _WritingSession(saved, graph)
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._meta_graph: bytes | None = None

    @property
    def is_writing(self) -> bool:
        """Whether the newest checkpoint is not complete yet."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, session: v1.Session, path: str, step: int, with_graph: bool) -> None:
        """Copies the variables of this moment and begins to write them; waits for an earlier write first."""
        self.wait()
        self._session.hold(self._snapshot.take(session))
        if with_graph and self._meta_graph is None:
            with self._graph.as_default():
                self._meta_graph = self._saver.export_meta_graph().SerializeToString()
        arguments = (path, step, self._meta_graph if with_graph else None)
        self._thread = threading.Thread(target=self._write, args=arguments, name="checkpoint-writer")
        self._thread.start()

    def _write(self, path: str, step: int, meta_graph: bytes | None) -> None:
        try:
            if meta_graph is not None:
                with tf.io.gfile.GFile(f"{path}-{step}.meta", "wb") as stream:
                    stream.write(meta_graph)
            with self._graph.as_default():
                self._saver.save(self._session, path, global_step=step, write_meta_graph=False)
        except BaseException as error:
            self._error = error

    def wait(self) -> None:
        """Waits until the checkpoint is complete; raises what went wrong with it."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise CheckpointError(f"a checkpoint could not be written: {error}") from error

    def close(self) -> None:
        """Frees the writer's session."""
        self._session.close()
