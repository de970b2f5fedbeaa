"""The graph that is saved beside each checkpoint, serialized once instead of at every save."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from orchestrator.estimator.checkpoint_writer import write_whole

v1 = tf.compat.v1
MOST_BYTES = 64 * 2**20
"""A larger graph is serialized anew each time, so that no memory is kept for it."""


class GraphKeepingSaver:
    """A Saver whose `.meta` files are copies of the first one; the graph must be final."""

    def __init__(self, saver: Any) -> None:
        self._saver = saver
        self._content: bytes | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._saver, name)

    def save(
        self,
        session: v1.Session,
        path: str,
        global_step: Any = None,
        write_meta_graph: bool = True,
        **options: Any,
    ) -> Any:
        """As `Saver.save`."""
        prefix = self._saver.save(session, path, global_step, write_meta_graph=False, **options)
        if write_meta_graph and prefix is not None:
            write_whole(f"{_without_shards(prefix)}.meta", self._serialized(session.graph))
        return prefix

    def _serialized(self, graph: tf.Graph) -> bytes:
        if self._content is not None:
            return self._content
        with graph.as_default():
            content = self._saver.export_meta_graph().SerializeToString(deterministic=True)
        if len(content) <= MOST_BYTES:
            self._content = content
        return bytes(content)


def keeping_graph(saver: Any) -> Any:
    """The saver, faster where it is TensorFlow's own: another may write graphs in its own way."""
    return GraphKeepingSaver(saver) if type(saver) is v1.train.Saver else saver


def _without_shards(prefix: str) -> str:
    """The old format names its shards in what `save` returns."""
    return prefix.partition("-?????-of-")[0]
