"""Whether a host can be reached: connected, lost, tried again ever more slowly, given up. Pure."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from enum import Enum

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 5.0
MARGIN_SECONDS = 5.0
"""How much longer than a host may take to end its tasks one waits before their addresses are used again."""


class LinkPhase(str, Enum):
    """What is known of the connection to a host."""

    CONNECTING = "connecting"
    """A connection is being made."""
    CONNECTED = "connected"
    WAITING = "waiting"
    """The connection is lost; the next try is due later."""
    GIVEN_UP = "given_up"
    """The host was out of reach for so long that its tasks have ended, whatever has become of it."""

    def __str__(self) -> str:
        return self.value


@dataclass
class ConnectionState:
    """One host's connection over time. Times are seconds of a monotonic clock.

    `lease` is how long the host keeps its tasks without hearing from the
    launcher, `grace` how long these then have until they are killed.
    """

    lease: float
    grace: float
    started: float
    rng: random.Random = field(default_factory=random.Random)
    phase: LinkPhase = LinkPhase.CONNECTING
    heard_at: float | None = None
    """When the host last said anything; None before the first word."""
    lost_at: float | None = None
    """Since when there is no connection, for one that there was; None while there is one."""
    reason: str = ""
    """Why the last connection, or the last try, ended."""
    next_try: float = 0.0
    _pause: float = FIRST_PAUSE_SECONDS

    @property
    def silence_limit(self) -> float:
        """So long after its last word a connection is taken for dead: several heartbeats went unanswered."""
        return 0.6 * self.lease

    @property
    def give_up_at(self) -> float | None:
        """When the host's tasks must have ended by themselves; None while that is not at issue."""
        if self.phase in (LinkPhase.CONNECTED, LinkPhase.GIVEN_UP) or self.heard_at is None:
            return None
        return self.heard_at + self.lease + self.grace + MARGIN_SECONDS

    def heard(self, now: float) -> None:
        """The host said something."""
        self.heard_at = max(now, self.heard_at or now)

    def connected(self, now: float) -> None:
        """The host's side of the conversation has answered."""
        self.heard(now)
        self.phase, self.lost_at, self._pause = LinkPhase.CONNECTED, None, FIRST_PAUSE_SECONDS

    def broken(self, now: float, reason: str) -> None:
        """The connection, or the try to make one, has ended."""
        if self.phase is LinkPhase.GIVEN_UP:
            return
        if self.lost_at is None:
            self.lost_at = now
        self.phase, self.reason = LinkPhase.WAITING, reason or self.reason
        self.next_try = now + self._pause * self.rng.uniform(0.5, 1.0)
        self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)

    def silent(self, now: float) -> bool:
        """Whether a connection that seems to stand is dead."""
        if self.phase is not LinkPhase.CONNECTED or self.heard_at is None:
            return False
        return now - self.heard_at > self.silence_limit

    def due(self, now: float) -> bool:
        """Whether to try again now; the state is CONNECTING afterwards."""
        if self.phase is not LinkPhase.WAITING or now < self.next_try:
            return False
        self.phase = LinkPhase.CONNECTING
        return True

    def overdue(self, now: float) -> bool:
        """Whether to give up now; the state is GIVEN_UP afterwards."""
        limit = self.give_up_at
        if limit is None or now < limit:
            return False
        self.phase = LinkPhase.GIVEN_UP
        return True

    def next_time(self) -> float | None:
        """When this state wants to be looked at again; None: only when something happens."""
        if self.phase is LinkPhase.CONNECTED:
            return None if self.heard_at is None else self.heard_at + self.silence_limit
        times = [self.give_up_at, self.next_try if self.phase is LinkPhase.WAITING else None]
        return min((time for time in times if time is not None), default=None)
