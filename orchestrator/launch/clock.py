"""Time, as the supervisor is given it."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Two clocks: one for durations, one for what is written into records."""

    def monotonic(self) -> float:
        """Seconds since some fixed point; never jumps."""

    def time(self) -> float:
        """Seconds since the epoch; may jump when the machine's clock is set."""


class SystemClock:
    """The machine's clocks."""

    def monotonic(self) -> float:
        return time.monotonic()

    def time(self) -> float:
        return time.time()
