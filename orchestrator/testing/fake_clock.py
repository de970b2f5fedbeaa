"""A clock that moves only when it is told to."""

from __future__ import annotations


class FakeClock:
    """Both clocks of `orchestrator.launch.clock.Clock`; times in seconds.

    `time` can be made to jump, as when a machine's clock is set, while
    `monotonic` goes on.
    """

    def __init__(self, now: float = 1000.0, epoch: float = 1_700_000_000.0) -> None:
        self._now = now
        self._epoch_offset = epoch - now

    def monotonic(self) -> float:
        """Seconds since some fixed point."""
        return self._now

    def time(self) -> float:
        """Seconds since the epoch."""
        return self._now + self._epoch_offset

    def advance(self, seconds: float) -> None:
        """Lets time pass on both clocks."""
        if seconds < 0:
            raise ValueError(f"time does not go back: {seconds}")
        self._now += seconds

    def jump(self, seconds: float) -> None:
        """Sets the wall clock forward or back; durations do not notice."""
        self._epoch_offset += seconds
