"""Closing sessions that TensorFlow may hold for a while.

An input pipeline that tunes itself holds its session until the tuner looks up
again, up to a minute after training has ended. Nobody waits for that but the
end of the interpreter: a thread that comes back from TensorFlow while Python
shuts down would abort the process.
"""

from __future__ import annotations

import atexit
import threading

import tensorflow as tf

from orchestrator.estimator.logger import log

_PATIENCE_SECONDS = 0.2
_TUNER_SECONDS = 70.0
_closing: list[threading.Thread] = []


def close_quietly(session: tf.compat.v1.Session) -> None:
    """Closes a session whose peers may be gone, and lets it close on its own where that takes long."""
    thread = threading.Thread(target=_close, args=(session,), name="session-close", daemon=True)
    thread.start()
    thread.join(_PATIENCE_SECONDS)
    _closing[:] = [other for other in (*_closing, thread) if other.is_alive()]


@atexit.register
def wait_for_closing_sessions() -> None:
    """Waits, at the end of the interpreter, at most as long as a tuner sleeps.

    A program that leaves by `os._exit` needs no waiting and may unregister it.
    """
    for thread in _closing:
        thread.join(_TUNER_SECONDS)


def _close(session: tf.compat.v1.Session) -> None:
    try:
        session.close()
    except tf.errors.OpError as error:
        log.debug("closing a session: %s", error)
