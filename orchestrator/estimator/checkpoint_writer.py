"""Writing a checkpoint beside training: a copy of the variables in memory, and a thread that writes it.

What is written, and every file's name, is what the `Saver` would have written:
the tensors are the inputs of its own save operations, and the Saver itself
keeps the `checkpoint` state file and deletes old checkpoints. It does so after
data, index and graph are complete, so a process killed at any moment leaves
the state file naming a complete checkpoint.
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
from orchestrator.estimator.snapshot import Snapshot

v1 = tf.compat.v1


@dataclass(frozen=True)
class SavedTensors:
    """What a Saver saves: names, slices and tensors, sorted by name."""

    names: list[bytes]
    slices: list[bytes]
    tensors: list[tf.Tensor]

    @staticmethod
    def of(saver: v1.train.Saver, graph: tf.Graph) -> SavedTensors:
        """Reads them off the save operations of a built Saver; empty where it has none of this format."""
        name = saver.saver_def.save_tensor_name
        start = [graph.as_graph_element(name).op] if name else []
        rows: list[tuple[bytes, bytes, tf.Tensor]] = []
        for operation in ancestors(start):
            if operation.type == "SaveV2":
                names, slices = (tf.get_static_value(operation.inputs[index]) for index in (1, 2))
                rows += zip(names, slices, list(operation.inputs)[3:], strict=True)
        rows.sort(key=lambda row: (row[0], row[1]))
        names, slices, tensors = ([row[column] for row in rows] for column in range(3))
        return SavedTensors(names, slices, tensors)


class _WritingSession(v1.Session):
    """What a Saver takes for the training session: its `run` writes the copy.

    A session of its own, on one thread of its own: in the training session a
    write would keep a thread from the steps.
    """

    def __init__(self, saved: SavedTensors) -> None:
        self.values: list[np.ndarray] = []
        self.meta_graph: bytes | None = None
        with tf.Graph().as_default() as graph:
            self._prefix = v1.placeholder(tf.string, [])
            self._inputs = [v1.placeholder(tensor.dtype.base_dtype) for tensor in saved.tensors]
            self._save = tf.raw_ops.SaveV2(
                prefix=self._prefix,
                tensor_names=saved.names,
                shape_and_slices=saved.slices,
                tensors=self._inputs,
            )
        config = v1.ConfigProto(
            device_count={"GPU": 0},
            use_per_session_threads=True,
            inter_op_parallelism_threads=1,
            intra_op_parallelism_threads=1,
        )
        super().__init__(graph=graph, config=config)

    def run(self, fetches: Any, feed_dict: Any = None, options: Any = None, run_metadata: Any = None) -> Any:
        (prefix,) = feed_dict.values()
        super().run(self._save, {self._prefix: prefix, **dict(zip(self._inputs, self.values, strict=True))})
        if self.meta_graph is not None:
            write_whole(f"{prefix}.meta", self.meta_graph)
        return os.fsencode(prefix)


def write_whole(path: str, content: bytes) -> None:
    """Writes a file that is there completely or not at all."""
    unfinished = f"{path}.unfinished"
    with tf.io.gfile.GFile(unfinished, "wb") as stream:
        stream.write(content)
    tf.io.gfile.rename(unfinished, path, overwrite=True)


class CheckpointWriter:
    """Writes one checkpoint at a time in a thread of its own."""

    def __init__(self, saver: v1.train.Saver, saved: SavedTensors) -> None:
        """Adds its operations to the default graph; the Saver must be built."""
        self._saver = saver
        self._graph = v1.get_default_graph()
        self._snapshot = Snapshot(saved.tensors)
        self._session = _WritingSession(saved)
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def open(self, session: v1.Session) -> None:
        """Prepares for reading out of a new training session."""
        self._join()
        self._snapshot.open(session)

    @property
    def is_writing(self) -> bool:
        """Whether the newest checkpoint is not complete yet."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, path: str, step: int, with_graph: bool) -> None:
        """Copies the variables of this moment and begins to write them; waits for an earlier write first."""
        self.wait()
        if with_graph and self._session.meta_graph is None:
            with self._graph.as_default():
                self._session.meta_graph = self._saver.export_meta_graph().SerializeToString()
        self._session.values = self._snapshot.take()
        self._thread = threading.Thread(target=self._write, args=(path, step), name="checkpoint-writer")
        self._thread.start()

    def _write(self, path: str, step: int) -> None:
        try:
            with self._graph.as_default():
                self._saver.save(self._session, path, global_step=step, write_meta_graph=False)
        except BaseException as error:
            self._error = error

    def wait(self) -> None:
        """Waits until the checkpoint is complete; raises CheckpointError where it could not be written."""
        self._join()
        if self._error is not None:
            error, self._error = self._error, None
            raise CheckpointError(f"a checkpoint could not be written beside training: {error}") from error

    def _join(self) -> None:
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def close(self) -> None:
        """Waits for the write that is under way, and frees the copy."""
        self._join()
        self._session.close()
        self._session.values = []
