"""What is said and heard when connections come and go: a scripted link, a clock that is set."""

from __future__ import annotations

import random
from typing import Any

from orchestrator.launch.node.delivery import PROTOCOL, Package
from orchestrator.launch.node.frames import FrameReader, Header
from orchestrator.launch.ssh.connection_state import ConnectionState, LinkPhase
from orchestrator.launch.ssh.conversation import Conversation, Terms

LEASE = 15.0


class ScriptedLink:
    """Remembers what is sent, and gives back what a test puts in."""

    def __init__(self, interactive: bool) -> None:
        self.interactive = interactive
        self.sent: list[Header] = []
        self.arriving: list[tuple[Header, bytes]] = []
        self.ended = self.closed = False
        self.why = ""
        self.unsent_bytes = 0

    def send(self, data: bytes) -> None:
        self.sent += [header for header, _ in FrameReader().feed(data)]

    def serve(self) -> list[tuple[Header, bytes]]:
        arrived, self.arriving = self.arriving, []
        return arrived

    def reason(self) -> str:
        return self.why

    def close(self) -> None:
        self.closed = self.ended = True

    def said(self, do: str) -> list[Header]:
        return [header for header in self.sent if header["do"] == do]


class Talk:
    """A conversation and its other end."""

    def __init__(self, interactive: bool = False) -> None:
        self.links: list[ScriptedLink] = []
        self.heard: list[Header] = []
        self.now = 100.0
        self.keeping_up = True
        self.conversation = Conversation(
            terms=Terms("r-h1", None, LEASE, 30.0),
            package=Package("abc", b"zip"),
            connect=self._connect,
            deliver=lambda header, _: self.heard.append(header),
            state=ConnectionState(LEASE, 30.0, self.now, random.Random(1)),
            interactive=interactive,
            keeping_up=lambda: self.keeping_up,
        )
        self.conversation.begin(self.now)

    def _connect(self, interactive: bool) -> Any:
        self.links.append(ScriptedLink(interactive))
        return self.links[-1]

    @property
    def link(self) -> ScriptedLink:
        return self.links[-1]

    def hears(self, *headers: Header, after: float = 0.0) -> None:
        self.link.arriving += [(header, b"") for header in headers]
        self.waits(after)

    def waits(self, seconds: float) -> None:
        self.now += seconds
        self.conversation.serve(self.now)

    def is_welcome(self, received: int = 0, **more: Any) -> None:
        self.hears({"event": "welcome", "instance": "i1", "clock": 7.0, "received": received, **more})

    def breaks(self, why: str = "cut") -> None:
        self.link.ended, self.link.why = True, why
        self.waits(0)

    def connects_again(self) -> None:
        before = len(self.links)
        for _ in range(100):
            if len(self.links) > before:
                return
            self.waits(0.1)
        raise AssertionError("no further connection")

    def events(self) -> list[str]:
        return [header["event"] for header in self.heard]


def test_the_package_is_sent_when_asked_for_and_commands_wait_for_the_welcome() -> None:
    talk = Talk()
    assert talk.link.sent[0]["do"] == "hello"
    hello = {
        "run_id": "r-h1",
        "package": "abc",
        "protocol": PROTOCOL,
        "lease_seconds": LEASE,
        "instance": None,
    }
    assert hello.items() <= talk.link.sent[0].items()
    talk.conversation.command({"do": "stop"})
    talk.hears({"event": "need_package"})
    assert [header["do"] for header in talk.link.sent] == ["hello", "package"]
    talk.is_welcome()
    assert [(header["do"], header.get("number")) for header in talk.link.sent[2:4]] == [
        ("stop", 1),
        ("heartbeat", None),
    ]
    assert talk.events() == ["welcome"]


def test_commands_that_were_not_received_are_said_again_and_no_others() -> None:
    talk = Talk()
    talk.is_welcome()
    for do in ("one", "two", "three"):
        talk.conversation.command({"do": do})
    talk.hears({"event": "alive", "received": 1, "clock": 8.0})
    talk.breaks()
    talk.conversation.command({"do": "four"})
    talk.connects_again()
    assert talk.link.said("hello")[0]["instance"] == "i1"
    assert talk.link.said("hello")[0]["echo"] == 8.0
    talk.is_welcome(received=2)
    numbered = [(header["do"], header["number"]) for header in talk.link.sent if "number" in header]
    assert numbered == [("three", 3), ("four", 4)]


def test_events_are_delivered_once_and_acknowledged_at_once() -> None:
    talk = Talk()
    talk.is_welcome()
    talk.hears({"event": "output", "sequence": 1}, {"event": "output", "sequence": 4})
    assert talk.link.said("acknowledge") == [{"do": "acknowledge", "sequence": 4}]
    talk.breaks()
    talk.connects_again()
    assert talk.link.said("hello")[0]["acknowledged"] == 4
    talk.is_welcome()
    talk.hears({"event": "output", "sequence": 4}, {"event": "exited", "sequence": 5})
    assert talk.events() == ["welcome", "output", "output", "broken", "welcome", "exited"]


def test_nothing_is_acknowledged_while_nobody_takes_it() -> None:
    talk = Talk()
    talk.is_welcome()
    talk.keeping_up = False
    talk.hears({"event": "output", "sequence": 1})
    assert talk.link.said("acknowledge") == []
    talk.keeping_up = True
    talk.waits(0)
    assert talk.link.said("acknowledge") == [{"do": "acknowledge", "sequence": 1}]


def test_heartbeats_go_out_five_times_a_lease_with_what_was_heard_last() -> None:
    talk = Talk()
    talk.is_welcome()
    for turn in range(30):
        talk.hears({"event": "alive", "received": 0, "clock": 7.0 + turn}, after=1.0)
    beats = talk.link.said("heartbeat")
    assert len(beats) == 11
    assert [beats[0]["echo"], beats[-1]["echo"]] == [7.0, 36.0]


def test_silence_ends_a_connection_and_at_last_the_conversation() -> None:
    talk = Talk()
    talk.is_welcome()
    talk.waits(9.1)
    assert talk.links[0].closed
    assert talk.heard[-1] == {"event": "broken", "message": "the host does not answer any more"}
    talk.connects_again()
    talk.breaks("No route to host")
    talk.waits(LEASE + 30.0)
    assert talk.heard[-1] == {"event": "given_up", "message": "No route to host"}
    assert talk.conversation.state.phase is LinkPhase.GIVEN_UP
    connections = len(talk.links)
    talk.waits(100.0)
    assert len(talk.links) == connections
    assert not talk.conversation.usable


def test_a_first_connection_without_an_answer_is_given_up() -> None:
    talk = Talk()
    talk.link.why = "Last login: today"
    talk.waits(60.1)
    assert talk.heard == [{"event": "broken", "message": "no answer within 60 s: Last login: today"}]


def test_people_are_given_time_to_type_and_asked_once() -> None:
    talk = Talk(interactive=True)
    talk.waits(300.0)
    assert talk.heard == []
    talk.breaks("Permission denied")
    talk.connects_again()
    assert [link.interactive for link in talk.links] == [True, False]


def test_a_host_that_cannot_take_part_says_why_and_is_left_alone() -> None:
    talk = Talk()
    talk.hears({"event": "failed", "kind": "python", "message": "Python 3.8 is too old"})
    assert talk.heard[-1]["message"] == "Python 3.8 is too old"
    assert talk.links[0].closed
    talk.waits(100.0)
    assert len(talk.links) == 1
