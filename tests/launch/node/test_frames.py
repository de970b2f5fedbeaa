"""Tests for orchestrator.launch.node.frames."""

from __future__ import annotations

import json
import os
import struct

import pytest

from orchestrator.launch.node.frames import (
    MAX_HEADER_BYTES,
    MAX_PAYLOAD_BYTES,
    FrameError,
    FrameReader,
    encode,
)

FRAMES = [
    ({"do": "heartbeat"}, b""),
    ({"event": "output", "task": "worker-1"}, bytes(range(256)) * 300),
    ({"env": {"A": "x y, 'z' \"$HOME\"\n\t\\ é \u2028", "B": os.fsdecode(b"\xff\xfe")}}, b"\0"),
]


@pytest.mark.parametrize("size", [1, 2, 7, 8, 9, 1000, 1 << 20])
def test_frames_arrive_whole_however_they_are_cut(size: int) -> None:
    stream = b"".join(encode(header, payload) for header, payload in FRAMES)
    reader = FrameReader()
    found = []
    for at in range(0, len(stream), size):
        found += reader.feed(stream[at : at + size])
    assert found == FRAMES
    assert reader.waiting == 0


def test_an_incomplete_frame_waits() -> None:
    frame = encode({"do": "close"}, b"12345")
    reader = FrameReader()
    assert reader.feed(frame[:-1]) == []
    assert reader.waiting == len(frame) - 1
    assert reader.feed(frame[-1:]) == [({"do": "close"}, b"12345")]


def test_the_header_is_plain_ascii() -> None:
    frame = encode({"text": "é\n"})
    assert json.loads(frame[8:].decode("ascii")) == {"text": "é\n"}


@pytest.mark.parametrize(
    "stream",
    [
        struct.pack("!II", MAX_HEADER_BYTES + 1, 0),
        struct.pack("!II", 2, MAX_PAYLOAD_BYTES + 1),
        struct.pack("!II", 2, 0) + b"[]",
        struct.pack("!II", 2, 0) + b"{]",
        struct.pack("!II", 2, 0) + b"\xff\xff",
        b"Welcome to this host! Last login: never\n",
    ],
)
def test_what_is_no_frame_is_refused(stream: bytes) -> None:
    with pytest.raises(FrameError):
        FrameReader().feed(stream)


def test_a_greeting_of_the_login_shell_is_left_out() -> None:
    reader = FrameReader(marker=b"\0here\0")
    assert reader.feed(b"Last login: never\n\0he") == []
    assert reader.feed(b"re\0" + encode({"a": 1})) == [({"a": 1}, b"")]
    assert reader.feed(encode({"b": 2})) == [({"b": 2}, b"")]


def test_an_endless_greeting_is_refused() -> None:
    reader = FrameReader(marker=b"\0here\0")
    with pytest.raises(FrameError, match="welcome"):
        reader.feed(b"welcome " * (1 << 20))
