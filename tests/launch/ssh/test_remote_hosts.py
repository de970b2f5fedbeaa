"""Hosts that are connected, sought and left, over a switchboard that plays what they say."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.errors import Abandoned
from orchestrator.launch.node.frames import Header
from orchestrator.launch.ssh.conversation import Conversation, Deliver
from orchestrator.launch.ssh.remote_hosts import RemoteHosts
from orchestrator.launch.ssh.switchboard import Arrival, Switchboard

WELCOME = {"event": "welcome", "time": 0.0}
BROKEN = {"event": "broken", "message": "timed out"}


class Scripted(Switchboard):
    """Says what a test has put in; time does not pass."""

    def __init__(self) -> None:
        self.arriving: deque[Arrival] = deque()
        self.says: dict[str, list[Header]] = {}
        """What a host says when a conversation begins."""
        self.opened: list[str] = []
        self.dropped: list[str] = []
        self.told: list[tuple[str, str]] = []
        self.begun_on: set[str] = set()
        self.begins_on: set[str] = set()
        """Where our program begins as soon as there is a connection."""
        self.on_take: Callable[[], None] = lambda: None

    def open(self, host: str, make: Callable[[Deliver], Conversation]) -> None:
        self.opened.append(host)
        self.begun_on |= {host} & self.begins_on
        self.arriving += [(host, header, b"") for header in self.says.get(host, [])]

    def drop(self, host: str) -> None:
        self.dropped.append(host)
        self.begun_on.discard(host)

    def begun(self, host: str) -> bool:
        return host in self.begun_on

    def command(self, host: str, header: Header, payload: bytes = b"") -> None:
        self.told.append((host, header["do"]))

    def take(self, timeout: float) -> Arrival | None:
        self.on_take()
        return self.arriving.popleft() if self.arriving else None

    def close(self) -> None:
        self.told.append(("", "hang up"))


def made() -> tuple[RemoteHosts, Scripted]:
    scripted = Scripted()
    conversation: Any = None
    return RemoteHosts(lambda name, ask, deliver: conversation, scripted), scripted


def test_what_has_begun_on_a_host_when_nobody_waits_any_more_is_ended_there() -> None:
    hosts, scripted = made()
    scripted.begins_on = {"h1"}
    hosts.stopped = lambda: True
    with pytest.raises(Abandoned):
        hosts.connect(["h1", "h2"], ask=False)
    assert "h1" in scripted.begun_on, "it was not hung up on"
    answers = iter([WELCOME, {"event": "closed"}])

    def answer() -> None:
        header = next(answers, None)
        if header is not None:
            scripted.arriving.append(("h1", header, b""))

    scripted.on_take = answer
    hosts.close(3600)
    assert scripted.told == [("h1", "close"), ("", "hang up")]
    assert hosts["h1"].over


def test_a_host_on_which_nothing_has_begun_is_not_waited_for_at_the_end() -> None:
    hosts, scripted = made()
    hosts.stopped = lambda: True
    with pytest.raises(Abandoned):
        hosts.connect(["h1"], ask=False)
    hosts.close(3600)
    assert scripted.told == [("", "hang up")]


def test_a_host_that_is_sought_is_tried_until_it_is_there() -> None:
    hosts, scripted = made()
    scripted.says["h1"] = [BROKEN]
    assert hosts.connect(["h1"], ask=False) == {"h1": "timed out"}
    scripted.says["h1"] = [BROKEN, BROKEN]
    hosts.seek(["h1"])
    hosts.pump(0)
    hosts.seek(["h1"])
    assert scripted.opened == ["h1", "h1"], "one conversation goes on"
    assert not hosts.usable("h1")
    scripted.arriving.append(("h1", WELCOME, b""))
    hosts.pump(0)
    assert hosts.usable("h1")
    hosts.seek(["h1"])
    assert scripted.opened == ["h1", "h1"]


def test_what_an_earlier_conversation_has_said_is_not_taken_for_the_new_ones() -> None:
    hosts, scripted = made()
    hosts.seek(["h1"])
    scripted.arriving += [("h1", {**WELCOME, "run_dir": "old"}, b"")]
    scripted.says["h1"] = [{**WELCOME, "run_dir": "new"}]
    scripted.drop("h1")
    assert hosts.connect(["h1"], ask=False) == {}
    assert hosts["h1"].welcome["run_dir"] == "new"
