"""When lost hosts that an attempt cannot do without are looked for again. Pure: told the time."""

from __future__ import annotations

FIRST_PAUSE_SECONDS = 2.0
LONGEST_PAUSE_SECONDS = 15.0


class HostWait:
    """One wait after another, each from the first look in vain to `found` or to its end."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._pause = FIRST_PAUSE_SECONDS

    @property
    def waiting(self) -> bool:
        """Whether a wait is under way."""
        return self._since is not None

    def next_look(self, now: float, patience: float) -> float | None:
        """When to look again, after a look in vain; None once `patience` seconds are over.

        The last look is at the very end. All times are monotonic seconds.
        """
        if self._since is None:
            self._since, self._pause = now, FIRST_PAUSE_SECONDS
        end = self._since + patience
        if now >= end:
            self._since = None
            return None
        at = min(end, now + self._pause)
        self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
        return at

    def found(self) -> None:
        """They are there: the next wait begins anew."""
        self._since = None
