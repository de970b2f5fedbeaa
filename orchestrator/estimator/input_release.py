"""Giving an evaluation's input pipeline back while training goes on."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

import tensorflow as tf

from orchestrator.estimator.held_threads import start_held
from orchestrator.estimator.logger import log

_PATIENCE_SECONDS = 1.0


class InputRelease:
    """Puts an empty pipeline in the place of one that is done with, beside whatever comes next.

    Starting an iterator again first takes the old pipeline away, and its tuner
    may hold that as long as the evaluation took. With an empty pipeline, which
    has no tuner, in its place the next start waits for nothing.
    """

    def __init__(self, iterator: Any, dataset: tf.data.Dataset) -> None:
        """Adds one operation to the default graph; `dataset` is one that `iterator` reads."""
        options = tf.data.Options()
        options.autotune.enabled = False
        options.experimental_optimization.apply_default_optimizations = False
        self._operation = iterator.make_initializer(dataset.take(0).with_options(options))
        self._thread: threading.Thread | None = None

    def start(self, session: tf.compat.v1.Session) -> None:
        """Begins, in a thread of its own."""
        self._thread = start_held("input-release", partial(self._run, session))

    def is_done(self) -> bool:
        """Waits a moment for what was started; the iterator may be started again only after it."""
        if self._thread is not None:
            self._thread.join(_PATIENCE_SECONDS)
        return self._thread is None or not self._thread.is_alive()

    def _run(self, session: tf.compat.v1.Session) -> None:
        try:
            session.run(self._operation)
        except (tf.errors.OpError, RuntimeError) as error:  # the session was closed meanwhile
            log.debug("releasing an input: %s", error)
