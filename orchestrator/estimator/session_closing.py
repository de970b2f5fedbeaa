"""Closing sessions that TensorFlow may hold for a while."""

from __future__ import annotations

import sys
from functools import partial

import tensorflow as tf

from orchestrator.estimator.held_threads import start_held
from orchestrator.estimator.logger import log

_PATIENCE_SECONDS = 0.05


def close_quietly(session: tf.compat.v1.Session) -> None:
    """Closes a session whose peers may be gone, and lets it close on its own where that takes long.

    A `predict` that was never read to its end is closed when Python clears its
    variables: no thread runs any more then, and the session ends with the process.
    """
    if sys.is_finalizing():
        return
    start_held("session-close", partial(_close, session)).join(_PATIENCE_SECONDS)


def _close(session: tf.compat.v1.Session) -> None:
    try:
        session.close()
    except tf.errors.OpError as error:
        log.debug("closing a session: %s", error)
