"""Writing a checkpoint beside training: a copy of the variables in memory, and a thread that writes it.

The copy lives in the session, in variables that are filled again in place for
each checkpoint: fresh memory would cost more time than the copy itself. What is
written, and every file's name, is what the `Saver` would have written: the
tensors are the inputs of its own save operations, and the Saver itself keeps
the `checkpoint` state file and deletes old checkpoints.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from orchestrator.errors import CheckpointError
from orchestrator.estimator.graph_walk import ancestors

v1 = tf.compat.v1
_IN_PLACE_ELEMENTS = 4096
"""Smaller tensors are copied into fresh memory, which costs nothing there."""


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
    """A copy of tensors inside their own session, filled again in place each time."""

    def __init__(self, tensors: list[tf.Tensor]) -> None:
        """Adds its operations to the default graph."""
        copies = [_Copy(tensor, f"snapshot_{index}") for index, tensor in enumerate(tensors)]
        self._make = tf.group(*[copy.make for copy in copies])
        self._fill = tf.group(*[copy.fill for copy in copies])
        self.values = [copy.value for copy in copies]
        """The tensors of the copy, in the order and shape of the originals."""

    def allocate(self, session: v1.Session) -> None:
        """Makes the copy's memory in a new session."""
        session.run(self._make)

    def take(self, session: v1.Session) -> None:
        """Copies the tensors' values of this moment."""
        session.run(self._fill)


class _Copy:
    """The copy of one tensor: a variable that no collection knows."""

    def __init__(self, tensor: tf.Tensor, name: str) -> None:
        elements = tensor.shape.num_elements()
        in_place = elements is not None and elements >= _IN_PLACE_ELEMENTS and tensor.dtype != tf.string
        with tf.device(_host_of(tensor)):
            shape = [1, elements] if in_place else tensor.shape
            handle = tf.raw_ops.VarHandleOp(dtype=tensor.dtype.base_dtype, shape=shape, shared_name=name)
            source = tf.reshape(tensor, [1, elements]) if in_place else tensor
            self.make = tf.raw_ops.AssignVariableOp(resource=handle, value=_fresh(source))
            self.fill = self.make
            if in_place:
                self.fill = tf.raw_ops.ResourceScatterUpdate(resource=handle, indices=[0], updates=source)
            stored = tf.raw_ops.ReadVariableOp(resource=handle, dtype=tensor.dtype.base_dtype)
            self.value = tf.reshape(stored, tf.constant(tensor.shape.as_list())) if in_place else stored


def _host_of(tensor: tf.Tensor) -> str:
    """The CPU of the task that holds the tensor."""
    spec = tf.DeviceSpec.from_string(tensor.device or "")
    return spec.replace(device_type="CPU", device_index=0).to_string()


def _fresh(tensor: tf.Tensor) -> tf.Tensor:
    """The value in memory of its own: assigning a variable's value as it is would share the memory."""
    return tensor if tensor.dtype == tf.string else tf.raw_ops.DeepCopy(x=tensor)


class _WritingSession(v1.Session):
    """What a Saver takes for the training session: its `run` writes the copy and not the variables.

    A session by name only: the one that runs is the training session.
    """

    def __init__(self, prefix: tf.Tensor, save: tf.Operation) -> None:
        self._prefix = prefix
        self._save = save
        self.training: Any = None

    @property
    def graph(self) -> tf.Graph:
        return self._save.graph

    def run(self, fetches: Any, feed_dict: Any = None, options: Any = None, run_metadata: Any = None) -> Any:
        (prefix,) = feed_dict.values()
        self.training.run(self._save, {self._prefix: prefix})
        return os.fsencode(prefix)

    def close(self) -> None:
        """There is nothing to close."""

    def __del__(self) -> None:
        """The base class would look for what its own constructor makes."""


class CheckpointWriter:
    """Writes one checkpoint at a time in a thread of its own."""

    def __init__(self, saver: v1.train.Saver) -> None:
        """Adds its operations to the default graph; the Saver must be built."""
        self._saver = saver
        self._graph = v1.get_default_graph()
        saved = SavedTensors.of(saver, self._graph)
        self._snapshot = Snapshot(saved.tensors)
        with tf.device("/cpu:0"):
            prefix = v1.placeholder(tf.string, [])
            save = tf.raw_ops.SaveV2(
                prefix=prefix,
                tensor_names=saved.names,
                shape_and_slices=saved.slices,
                tensors=self._snapshot.values,
            )
        self._session = _WritingSession(prefix, save)
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._meta_graph: bytes | None = None

    def open(self, session: v1.Session) -> None:
        """Prepares for writing out of a new session."""
        self._session.training = session
        self._snapshot.allocate(session)

    @property
    def is_writing(self) -> bool:
        """Whether the newest checkpoint is not complete yet."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, session: v1.Session, path: str, step: int, with_graph: bool) -> None:
        """Copies the variables of this moment and begins to write them; waits for an earlier write first."""
        self.wait()
        self._snapshot.take(session)
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
