"""ProfilerHook: TensorFlow's own, which a program with eager execution can make outside of a graph too."""

from __future__ import annotations

import os
from typing import Any

import tensorflow as tf

v1 = tf.compat.v1


class ProfilerHook(v1.train.ProfilerHook):
    """Writes a trace of one step, every so many steps or seconds, as `timeline-STEP.json`.

    The files are Chrome traces (chrome://tracing, Perfetto); the same numbers
    go into an event file, where TensorBoard's graph shows them.

    Args:
      save_steps, save_secs: the period; exactly one of them.
      output_dir: where the files go; it is made where it is missing.
      show_dataflow: whether arrows join producers and consumers of tensors.
      show_memory: whether the sizes of tensors are shown.
    """

    def __init__(
        self,
        save_steps: int | None = None,
        save_secs: float | None = None,
        output_dir: str | os.PathLike[str] = "",
        show_dataflow: bool = True,
        show_memory: bool = False,
    ) -> None:
        where = os.fsdecode(output_dir)
        if where:
            tf.io.gfile.makedirs(where)
        with tf.Graph().as_default():  # TensorFlow's event writer refuses to be made in eager mode
            super().__init__(save_steps, save_secs, where, show_dataflow, show_memory)

    def end(self, session: Any) -> None:
        super().end(session)
        self._file_writer.flush()
