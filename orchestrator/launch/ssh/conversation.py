"""What is said to one host, and heard from it, over as many connections as that takes.

Every command has a number and is kept until the host has told that it was
received; every event has a sequence and is acknowledged. So a new connection
goes on where the last one broke off, and nothing is lost or done twice.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum

from orchestrator.errors import EnvironmentProblem
from orchestrator.launch.node.delivery import PROTOCOL, Package, opening
from orchestrator.launch.node.frames import Header, encode
from orchestrator.launch.ssh.connection_state import ConnectionState, LinkPhase
from orchestrator.launch.ssh.link import Link

_HUMAN_SECONDS = 600.0


class Signpost(str, Enum):
    """What the conversation itself has to say, beside the events of the host."""

    WELCOME = "welcome"
    """A connection stands; the header is the host's."""
    BROKEN = "broken"
    """The connection, or a try to make one, has ended; `message` says why."""
    REFUSED = "failed"
    """The host cannot take part, or is another than before; `kind`, `message`."""
    CLOSED = "closed"
    GIVEN_UP = "given_up"
    """It was out of reach for so long that all that ran there has ended."""


@dataclass(frozen=True)
class Terms:
    """What a host is told first. Durations are seconds."""

    run_id: str
    """Unique for run and host."""
    root: str | None
    lease: float
    grace: float


Deliver = Callable[[Header, bytes], None]


@dataclass
class Conversation:
    """One host. Everything here is called by one thread at a time; time is the monotonic clock's.

    `connect` starts a connection; it is told whether somebody may be asked for
    a password. `deliver` is given each event of the host once and in order, and
    the signposts.
    """

    terms: Terms
    package: Package
    connect: Callable[[bool], Link]
    deliver: Deliver
    state: ConnectionState
    patience: float = 60.0
    """For the host's side to answer over a connection that is being made."""
    interactive: bool = False
    """Somebody may be asked for a password over the first connection, and takes their time."""
    link: Link | None = None
    closed: bool = False
    keeping_up: Callable[[], bool] = lambda: True
    """Whether what is delivered is taken; where not, the host keeps what comes."""
    welcomed: bool = False
    """The present connection has got through to the agent."""
    _instance: str | None = None
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _kept: deque[tuple[int, bytes]] = field(default_factory=deque)
    _sequence: int = 0
    _acknowledged: int = 0
    _echo: float | None = None
    _answer_by: float = 0.0
    _beat_at: float = 0.0

    @property
    def usable(self) -> bool:
        """Whether the host is reached, or may be again."""
        return not self.closed and self.state.phase is not LinkPhase.GIVEN_UP

    @property
    def unsent_bytes(self) -> int:
        """What waits to be written to the connection."""
        return 0 if self.link is None else self.link.unsent_bytes

    @property
    def begun(self) -> bool:
        """Our program has begun on the host, and is about to get through to the agent or has done so."""
        return self.usable and self.link is not None and self.link.answers

    def begin(self, now: float) -> None:
        """Makes the first connection."""
        self._open(now)

    def command(self, header: Header, payload: bytes = b"") -> None:
        """Says something that must arrive, now or over a later connection."""
        number = next(self._numbers)
        data = encode({**header, "number": number}, payload)
        self._kept.append((number, data))
        self._send(data)

    def pass_by(self, header: Header, payload: bytes = b"") -> None:
        """Says something that is of no use over a later connection."""
        self._send(encode(header, payload))

    def serve(self, now: float) -> None:
        """Takes what has arrived and does what is due."""
        if self.closed:
            return
        if self.link is not None:
            for header, payload in self.link.serve():
                self._take(header, payload, now)
            if self.closed or self.link is None:
                return
            if self.link.ended:
                self._break(now, self.link.reason())
            elif self.state.silent(now):
                self._break(now, "the host does not answer any more")
            elif not self.welcomed and now > self._answer_by:
                said = self.link.reason()
                limit = f"no answer within {self.patience:g} s"
                self._break(now, f"{limit}: {said}" if said else limit)
            elif self.welcomed:
                self._beat(now)
                self._acknowledge()
        elif self.state.due(now):
            self._open(now)
        if not self.closed and self.state.overdue(now):
            self._give_up()

    def next_time(self) -> float | None:
        """When `serve` is due although nothing arrives."""
        waiting = self.link is not None and not self.welcomed
        times = [
            self.state.next_time(),
            self._beat_at if self.welcomed else None,
            self._answer_by if waiting else None,
        ]
        return min((time for time in times if time is not None), default=None)

    def end(self) -> None:
        """Ends the connection; the host is told nothing."""
        self.closed = True
        self._drop()

    def _open(self, now: float) -> None:
        self._answer_by = now + (_HUMAN_SECONDS if self.interactive else self.patience)
        ask, self.interactive = self.interactive, False  # later, a question would not be seen
        try:
            self.link = self.connect(ask)
        except EnvironmentProblem as error:
            self._break(now, str(error))
            return
        hello = {
            "do": "hello",
            "protocol": PROTOCOL,
            "run_id": self.terms.run_id,
            "root": self.terms.root,
            "package": self.package.digest,
            "lease_seconds": self.terms.lease,
            "grace_seconds": self.terms.grace,
            "acknowledged": self._sequence,
            "instance": self._instance,
            "echo": self._echo,
        }
        self.link.send(encode(hello))

    def _take(self, header: Header, payload: bytes, now: float) -> None:
        event = header.get("event")
        if self.welcomed:
            self.state.heard(now)  # what comes before is not from the agent, and renews nothing
        self._forget_received(header)
        sequence = header.get("sequence")
        if sequence is not None:
            if sequence > self._sequence:
                self._sequence = sequence
                self.deliver(header, payload)
        elif event == "need_package":
            if self.link is not None:
                self.link.send(encode({"do": "package"}, self.package.data))
        elif event == "welcome":
            self._welcome(header, now)
        elif event == "alive":
            self._echo = header["clock"]
        elif event in (Signpost.REFUSED, Signpost.CLOSED):
            self.end()
            self.deliver(header, payload)
        else:
            self.deliver(header, payload)

    def _welcome(self, header: Header, now: float) -> None:
        self._instance, self._acknowledged = header["instance"], 0
        self._echo = header["clock"]
        self.welcomed = True
        self.state.connected(now)
        self._beat_at = now
        for _, data in self._kept:
            self._send(data)
        self.deliver(header, b"")

    def _forget_received(self, header: Header) -> None:
        received = header.get("received")
        while received is not None and self._kept and self._kept[0][0] <= received:
            self._kept.popleft()

    def _beat(self, now: float) -> None:
        if now < self._beat_at:
            return
        self._beat_at = now + self.terms.lease / 5
        self.pass_by({"do": "heartbeat", "echo": self._echo})

    def _acknowledge(self) -> None:
        if self._sequence > self._acknowledged and self.keeping_up():
            self._acknowledged = self._sequence
            self.pass_by({"do": "acknowledge", "sequence": self._sequence})

    def _send(self, data: bytes) -> None:
        if self.link is not None and self.welcomed:
            self.link.send(data)

    def _break(self, now: float, reason: str) -> None:
        self._drop()
        self.state.broken(now, reason)
        self.deliver({"event": Signpost.BROKEN.value, "message": reason}, b"")

    def _give_up(self) -> None:
        self.end()
        self.deliver({"event": Signpost.GIVEN_UP.value, "message": self.state.reason}, b"")

    def _drop(self) -> None:
        link, self.link, self.welcomed = self.link, None, False
        if link is not None:
            link.close()


def begin_link(argv: list[str]) -> Link:
    """A connection with the words that every conversation begins with."""
    return Link(argv, opening())
