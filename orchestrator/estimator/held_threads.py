"""Threads that TensorFlow may hold for a while, and that nobody waits for but the end of the interpreter.

An input pipeline that tunes itself holds whoever takes it away until the tuner
looks up again: as long as the pipeline has run, at most a minute. A thread
that comes back from TensorFlow while Python shuts down would abort the process.
"""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable

_TUNER_SECONDS = 70.0
_started: list[threading.Thread] = []


def start_held(name: str, work: Callable[[], None]) -> threading.Thread:
    """Runs `work`, which handles its errors, in a thread of its own."""
    thread = threading.Thread(target=work, name=name, daemon=True)
    thread.start()
    _started[:] = [other for other in (*_started, thread) if other.is_alive()]
    return thread


@atexit.register
def wait_for_held_threads() -> None:
    """Waits, at the end of the interpreter, at most as long as a tuner sleeps.

    A program that leaves by `os._exit` needs no waiting and may unregister it.
    """
    for thread in _started:
        thread.join(_TUNER_SECONDS)
