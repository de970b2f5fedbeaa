"""The hosts of a run as the launcher speaks to them: questions with answers, and news."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from orchestrator.errors import Abandoned, EnvironmentProblem, WaitTimeout
from orchestrator.launch.node.frames import Header
from orchestrator.launch.ssh.conversation import Conversation, Deliver, Signpost
from orchestrator.launch.ssh.switchboard import Arrival, Switchboard

ANSWER_SECONDS = 600.0
"""Within which a host that can be reached answers a question."""
_TURN_SECONDS = 0.5
_BEGUN_SECONDS = 10.0
"""How long it is waited at the end for an agent that is just starting, so that it can be told to leave."""

MakeConversation = Callable[[str, bool, Deliver], Conversation]
"""For a host; whether somebody may be asked for a password; where to put what it says."""
Answer = tuple[Header, bytes]


@dataclass
class RemoteHost:
    """One host, as far as it is known."""

    name: str
    welcome: Header = field(default_factory=dict)
    """What it said of itself when it was first reached, and each time since."""
    welcomed: bool = False
    connected: bool = False
    over: bool = False
    """This conversation has ended; whatever ran there has ended too."""
    reason: str = ""
    """Why it cannot be reached, or takes no part."""
    skew: float = 0.0
    """How many seconds its clock is ahead of ours."""
    heard_at: float = 0.0
    """When it last said anything, in seconds since the epoch."""
    code_dir: str = ""
    """Its copy of the code; empty before that was brought."""
    warm: bool = False
    """It was told to import TensorFlow."""
    sought: bool = False
    """It is tried until it is reached."""

    @property
    def usable(self) -> bool:
        """Whether tasks can be started there."""
        return self.welcomed and not self.over and not self.welcome.get("ending")


class RemoteHosts:
    """Every host of a run. To be used from one thread."""

    def __init__(
        self, make: MakeConversation, switchboard: Switchboard, clock: Callable[[], float] = time.time
    ) -> None:
        self._make = make
        self._switchboard = switchboard
        self._clock = clock
        self.stopped: Callable[[], bool] = lambda: False
        """Whether nobody wants to wait any more."""
        self._hosts: dict[str, RemoteHost] = {}
        self._requests = itertools.count(1)
        self._answers: dict[int, Answer] = {}
        self._news: deque[Arrival] = deque()

    def __getitem__(self, name: str) -> RemoteHost:
        return self._hosts[name]

    def known(self) -> Collection[RemoteHost]:
        """The hosts that were tried so far."""
        return self._hosts.values()

    def usable(self, name: str) -> bool:
        """Whether a host was reached and takes part."""
        return name in self._hosts and self._hosts[name].usable

    def connect(self, names: Collection[str], ask: bool) -> dict[str, str]:
        """Begins anew with hosts that are not usable; why they cannot be reached, for those that cannot.

        With `ask` they are taken one after the other, so that questions do not mix.
        Raises Abandoned.
        """
        waiting = [name for name in names if not self.usable(name)]
        for name in waiting:
            self._switchboard.drop(name)
        self.pump(0)  # nothing that an earlier conversation has said is taken for this one's
        self._hosts.update({name: RemoteHost(name) for name in waiting})
        try:
            for group in [[name] for name in waiting] if ask else [waiting]:
                for name in group:
                    self._switchboard.open(name, lambda deliver, name=name: self._make(name, ask, deliver))  # type: ignore[misc]
                while not all(self._decided(name) for name in group):
                    self.wait(_TURN_SECONDS)
        finally:
            failed = [name for name in waiting if not self._hosts[name].usable]
            # What has begun on a host by then is for `close` to end.
            for name in [n for n in failed if not (self.stopped() and self._switchboard.begun(n))]:
                self._hosts[name].over = True
                self._switchboard.drop(name)
        return {name: self._hosts[name].reason for name in failed}

    def seek(self, names: Collection[str]) -> None:
        """Begins anew with hosts that are not usable, waiting for none: each is tried until it is reached."""
        for name in names:
            host = self._hosts.get(name)
            if host is not None and (host.usable or (host.sought and not host.over)):
                continue
            self._hosts[name] = RemoteHost(name, sought=True)
            self._switchboard.open(name, lambda deliver, name=name: self._make(name, False, deliver))  # type: ignore[misc]

    def tell(self, name: str, header: Header, payload: bytes = b"") -> None:
        """Says something that must arrive, sooner or later."""
        self._switchboard.command(name, header, payload)

    def send(self, name: str, header: Header, payload: bytes = b"") -> None:
        """Says something that may be lost with the connection."""
        self._switchboard.pass_by(name, header, payload)

    def unsent_bytes(self, name: str) -> int:
        """What waits to be written to a host."""
        return self._switchboard.unsent_bytes(name)

    def ask(self, questions: Mapping[str, Header], payload: bytes = b"") -> dict[str, Answer]:
        """Asks hosts, all at once, and waits for what each answers.

        A host that is lost meanwhile, or was before, answers with the event `gone`.
        Raises WaitTimeout for one that can be reached and says nothing, and Abandoned.
        """
        numbers = {name: next(self._requests) for name in questions}
        for name, number in numbers.items():
            self.tell(name, {**questions[name], "request": number}, payload)
        deadline = time.monotonic() + ANSWER_SECONDS
        while any(n not in self._answers and not self._hosts[name].over for name, n in numbers.items()):
            self.wait(_TURN_SECONDS)
            if time.monotonic() > deadline:
                silent = [name for name, n in numbers.items() if n not in self._answers]
                what = next(iter(questions.values()))["do"]
                raise WaitTimeout(f"no answer from {', '.join(silent)} to '{what}' in {ANSWER_SECONDS:g} s.")
        gone: Answer = ({"event": "gone"}, b"")
        return {name: self._answers.pop(number, gone) for name, number in numbers.items()}

    def wait(self, timeout: float) -> None:
        """As `pump`, for something that somebody wants. Raises Abandoned when nobody does any more."""
        if self.stopped():
            raise Abandoned("the run is to end.")
        self.pump(timeout)

    def pump(self, timeout: float) -> None:
        """Takes what hosts say, waiting up to `timeout` seconds for something; news are for `news`."""
        arrival = self._switchboard.take(timeout)
        while arrival is not None:
            self._take(arrival)
            arrival = self._switchboard.take(0)

    def news(self, timeout: float) -> list[Arrival]:
        """What hosts have said that answers no question; waits up to `timeout` seconds for something."""
        if not self._news:
            self.pump(timeout)
        found, self._news = list(self._news), deque()
        return found

    def close(self, seconds: float) -> None:
        """Has every host that can be reached end all and clear up, within that time; then hangs up."""
        asked = [host for host in self._hosts.values() if not host.over]
        for host in asked:
            self.tell(host.name, {"do": "close"})
        start = time.monotonic()
        while (waited := time.monotonic() - start) < seconds:
            if not any(self._is_leaving(host, waited) for host in asked):
                break
            self.pump(_TURN_SECONDS)
        self._switchboard.close()

    def _is_leaving(self, host: RemoteHost, waited: float) -> bool:
        """Whether it may still tell that it has ended all."""
        begins = waited < _BEGUN_SECONDS and self._switchboard.begun(host.name)
        return not host.over and (host.connected or begins)

    def _decided(self, name: str) -> bool:
        """Whether the first connection to a host stands, or has failed."""
        host = self._hosts[name]
        return host.welcomed or bool(host.reason) or host.over

    def _take(self, arrival: Arrival) -> None:
        name, header, payload = arrival
        host, event = self._hosts[name], header.get("event")
        if event not in (Signpost.BROKEN.value, Signpost.GIVEN_UP.value):
            host.heard_at = self._clock()
        if event == Signpost.WELCOME.value:
            self._welcome(host, header)
        elif event == Signpost.BROKEN.value:
            host.connected, host.reason = False, str(header["message"]) or "the connection ended"
        elif event in (Signpost.REFUSED.value, Signpost.GIVEN_UP.value, Signpost.CLOSED.value):
            host.connected, host.over = False, True
            host.reason = str(header.get("message", "")) or host.reason
        if header.get("request") is not None:
            self._answers[header["request"]] = (header, payload)
        else:
            self._news.append(arrival)

    def _welcome(self, host: RemoteHost, header: Header) -> None:
        host.welcome, host.welcomed, host.connected, host.reason = header, True, True, ""
        host.skew = float(header["time"]) - self._clock()


def problem(failures: Mapping[str, str]) -> EnvironmentProblem:
    """One error for hosts that cannot be used, in words of ssh and of the hosts."""
    lines = [f"{name}: {reason or 'no reason was given'}" for name, reason in failures.items()]
    if len(lines) == 1:
        return EnvironmentProblem(f"host {lines[0]}")
    return EnvironmentProblem("\n  ".join([f"{len(lines)} hosts cannot be used:", *lines]))
