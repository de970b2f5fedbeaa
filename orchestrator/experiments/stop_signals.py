"""What asks a task to stop: its control pipe and its signals, both turned into the engine's stop request."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

from orchestrator.cluster.records import CONTROL_STOP

STOPPED = 143
"""Exit code of a task that was asked to stop and did."""
SIGNALS = (signal.SIGTERM, signal.SIGINT)


def handle_signals(ask: Callable[[], None]) -> None:
    """Calls `ask` for SIGTERM and SIGINT. From the main thread only.

    Call it again after a strategy was made: TensorFlow's collective strategies
    put a handler of their own for SIGTERM, which only takes note of it.
    """
    for number in SIGNALS:
        signal.signal(number, lambda *_: ask())


def watch_control_pipe(descriptor: int, ask: Callable[[], None]) -> threading.Thread:
    """Reads the control pipe in a daemon thread, for ever.

    The stop byte calls `ask`: unlike a signal handler this also works while
    the main thread is blocked inside of TensorFlow. The end of the file means
    that the launcher is gone, and then the process leaves at once.
    """
    thread = threading.Thread(target=_read, args=(descriptor, ask), name="control-pipe", daemon=True)
    thread.start()
    return thread


def _read(descriptor: int, ask: Callable[[], None]) -> None:
    while True:
        try:
            data = os.read(descriptor, 64)
        except InterruptedError:
            continue
        except OSError:
            return  # no pipe of ours: a variable inherited from somewhere else
        if not data:
            os._exit(STOPPED)
        if CONTROL_STOP in data:
            ask()
