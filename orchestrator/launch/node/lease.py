"""How long an agent goes on without a word from its launcher. Pure: told the time."""

from __future__ import annotations

import time


class Lease:
    """Renewed by every word; over for good once there was none for `seconds`."""

    def __init__(self, seconds: float, now: float) -> None:
        self.seconds = seconds
        self._heard_at = now
        self._over = False

    def heard(self, at: float, now: float) -> None:
        """The launcher has said something at `at`; known at `now`, which may be later."""
        if not self.over(now):
            self._heard_at = max(self._heard_at, min(at, now))

    def over(self, now: float) -> bool:
        """Whether the launcher counts as gone."""
        self._over |= now - self._heard_at >= self.seconds
        return self._over


def seconds_since_boot() -> float:
    """A clock that cannot be set, and that goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
