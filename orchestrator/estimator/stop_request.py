"""The wish that training ends at the next step boundary with a checkpoint.

Set by the control pipe's thread or by a signal handler, read by the loops.
Nothing here may block or take a lock: a signal handler may run anywhere.
"""

from __future__ import annotations

import time


class StopRequested(Exception):
    """Work that leaves nothing behind (an evaluation) was broken off because of a request to stop."""


class StopRequest:
    """A flag that can be set from a signal handler (a threading.Event cannot, it takes a lock)."""

    def __init__(self) -> None:
        self._set = False
        self.of_peer = False
        """It reached another task, and this one has agreed to it."""

    def set(self) -> None:
        """Asks; asking again changes nothing."""
        self._set = True

    def agree(self) -> None:
        """Joins in a request that another task has voted for."""
        self.of_peer = not self._set
        self._set = True

    def is_set(self) -> bool:
        """Whether somebody has asked."""
        return self._set

    def clear(self) -> None:
        """Forgets the request (for the next training in the same process)."""
        self._set = self.of_peer = False

    def wait(self, seconds: float, poll_seconds: float = 0.1) -> bool:
        """Sleeps until the request or the time limit; returns whether it was requested."""
        deadline = time.monotonic() + seconds
        while not self._set:
            left = deadline - time.monotonic()
            if left <= 0:
                break
            time.sleep(min(left, poll_seconds))
        return self._set


_OF_THIS_PROCESS = StopRequest()


def current() -> StopRequest:
    """The request of this process: one for all its training."""
    return _OF_THIS_PROCESS
