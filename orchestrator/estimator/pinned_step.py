"""A checkpoint that holds the step its name says, while other tasks go on stepping."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import tensorflow as tf

v1 = tf.compat.v1
_FIRST_TENSOR = 3  # SaveV2 takes prefix, tensor_names, shape_and_slices, then the tensors


class StepPinnedSaver:
    """A Saver that writes, as the global step, the step it is told to put into the name.

    With asynchronous parameter servers the step moves on between the moment a
    checkpoint gets its name and the moment it is written. Weights that are a
    step ahead are what such training is made of; a name that says another
    step than the file misleads whoever compares the two.
    """

    def __init__(self, saver: Any) -> None:
        self._saver = saver

    def __getattr__(self, name: str) -> Any:
        return getattr(self._saver, name)

    def save(self, session: v1.Session, path: str, global_step: int, **options: Any) -> Any:
        """As `Saver.save`, with the step as a number."""
        pinned = StepPinnedSession(session, global_step)
        return self._saver.save(pinned, path, global_step=global_step, **options)


class StepPinnedSession(v1.Session):
    """Runs another session's operations with the saved global step held at one value."""

    def __init__(self, session: v1.Session, step: int) -> None:
        # Not super().__init__: that would open a second session.
        self._session = session
        self._feeds = dict.fromkeys(saved_step_tensors(session.graph), step)

    def __del__(self) -> None:
        """Leaves the other session open."""

    @property
    def graph(self) -> tf.Graph:
        return self._session.graph

    @property
    def sess_str(self) -> Any:
        return self._session.sess_str

    def run(self, fetches: Any, feed_dict: Any = None, options: Any = None, run_metadata: Any = None) -> Any:
        return self._session.run(fetches, {**self._feeds, **(feed_dict or {})}, options, run_metadata)


def saved_step_tensors(graph: tf.Graph) -> Iterable[tf.Tensor]:
    """The tensors that savers of `graph` write as its global step."""
    step = v1.train.get_global_step(graph)
    if step is None:
        return
    for operation in graph.get_operations():
        if operation.type != "SaveV2":
            continue
        names = tf.get_static_value(operation.inputs[1])
        tensors = operation.inputs[_FIRST_TENSOR:]
        for name, tensor in zip(names if names is not None else (), tensors, strict=False):
            if tf.compat.as_str(name) == step.op.name and graph.is_feedable(tensor):
                yield tensor
