"""Tests for orchestrator.launch.node.outbox."""

from __future__ import annotations

from orchestrator.launch.node.frames import FrameReader
from orchestrator.launch.node.outbox import Outbox


def sequences(frames: bytes) -> list[int]:
    return [header["sequence"] for header, _ in FrameReader().feed(frames)]


def filled(count: int) -> Outbox:
    outbox = Outbox()
    for number in range(count):
        outbox.add({"event": "note", "text": str(number)})
    return outbox


def test_events_are_numbered_and_sent_once() -> None:
    outbox = filled(3)
    assert sequences(outbox.next_frames()) == [1, 2, 3]
    assert outbox.next_frames() == b""
    outbox.add({"event": "note"})
    assert sequences(outbox.next_frames()) == [4]


def test_what_was_not_acknowledged_is_sent_again_on_a_new_connection() -> None:
    outbox = filled(5)
    outbox.next_frames()
    outbox.acknowledge(2)
    outbox.rewind(3)
    assert sequences(outbox.next_frames()) == [4, 5]
    outbox.acknowledge(5)
    assert len(outbox) == 0


def test_a_connection_that_broke_before_it_acknowledged_loses_nothing() -> None:
    outbox = filled(2)
    outbox.next_frames()
    outbox.rewind(0)
    outbox.add({"event": "note"})
    assert sequences(outbox.next_frames()) == [1, 2, 3]


def test_no_more_than_a_window_is_under_way() -> None:
    outbox = Outbox(window=100)
    for _ in range(4):
        outbox.add({"event": "output"}, b"x" * 100)
    assert sequences(outbox.next_frames()) == [1]
    assert outbox.next_frames() == b""
    outbox.acknowledge(1)
    assert sequences(outbox.next_frames()) == [2]
    outbox.rewind(1)
    assert sequences(outbox.next_frames()) == [2]


def test_output_beyond_the_limit_is_left_out_and_counted() -> None:
    outbox = Outbox(output_limit=10)
    assert outbox.add_output("worker-0", {"event": "output"}, b"12345678")
    assert not outbox.add_output("worker-0", {"event": "output"}, b"9abcd")
    assert not outbox.add_output("worker-0", {"event": "output"}, b"efg")
    assert outbox.add_output("ps-0", {"event": "output"}, b"x")
    outbox.add({"event": "exited"})
    assert outbox.take_left_out("worker-0") == 8
    assert outbox.take_left_out("worker-0") == 0
    assert outbox.take_left_out("ps-0") == 0
    assert sequences(outbox.next_frames()) == [1, 2, 3]
    outbox.acknowledge(2)
    assert outbox.add_output("worker-0", {"event": "output"}, b"0123456789")


def test_what_an_ended_agent_left_goes_on_with_its_numbers() -> None:
    before = Outbox(output_limit=10)
    before.add({"event": "note"})
    before.add_output("worker-0", {"event": "output"}, b"1234567")
    before.add({"event": "exited"})
    before.next_frames()
    before.acknowledge(1)
    after = Outbox(output_limit=10)
    after.restore(before.everything())
    after.add({"event": "note"})
    assert not after.add_output("worker-0", {"event": "output"}, b"1234567")
    after.rewind(1)
    frames = FrameReader().feed(after.next_frames())
    assert [(header["event"], header["sequence"], payload) for header, payload in frames] == [
        ("output", 2, b"1234567"),
        ("exited", 3, b""),
        ("note", 4, b""),
    ]


def test_nothing_is_left_of_what_was_cleared() -> None:
    outbox = Outbox(output_limit=4, window=1)
    assert outbox.add_output("worker-0", {"event": "output"}, b"1234")
    assert not outbox.add_output("worker-0", {"event": "output"}, b"1")
    outbox.next_frames()
    outbox.clear()
    assert outbox.take_left_out("worker-0") == 0
    assert outbox.add_output("worker-0", {"event": "output"}, b"1234")
    assert sequences(outbox.next_frames()) == [1]
