"""Tests for orchestrator.launch.node.relay: bytes in both directions."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import pytest

from orchestrator.launch.node.relay import carry
from tests.launch.node.host import PATIENCE

BIG = bytes(range(256)) * (1 << 14)


@dataclass
class Ends:
    """What surrounds a relay that runs."""

    agent: socket.socket
    stdin: int
    stdout: int
    thread: threading.Thread

    def read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = os.read(self.stdout, size - len(data))
            assert part
            data += part
        return data

    def ended(self) -> bool:
        self.thread.join(PATIENCE)
        return not self.thread.is_alive()


@pytest.fixture
def ends() -> Iterator[Ends]:
    agent, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    source, stdin = os.pipe()
    stdout, sink = os.pipe()

    def run() -> None:
        try:
            carry(theirs, source, sink)
        finally:
            theirs.close()
            os.close(source)
            os.close(sink)

    thread = threading.Thread(target=run)
    thread.start()
    agent.settimeout(PATIENCE)
    made = Ends(agent, stdin, stdout, thread)
    yield made
    agent.close()
    for fd in (made.stdin, made.stdout):
        if fd >= 0:
            os.close(fd)
    assert made.ended()


def receive(end: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = end.recv(size - len(data))
        assert part
        data += part
    return data


def test_bytes_go_both_ways(ends: Ends) -> None:
    writer = threading.Thread(target=lambda: ends.agent.sendall(BIG))
    writer.start()
    assert ends.read(len(BIG)) == BIG
    writer.join()
    os.write(ends.stdin, b"hello")
    assert receive(ends.agent, 5) == b"hello"


def test_a_reader_that_is_stuck_does_not_hold_up_what_comes_in(ends: Ends) -> None:
    ends.agent.setblocking(False)
    sent = 0
    with suppress(BlockingIOError):
        while sent < 1 << 26:
            sent += ends.agent.send(BIG)
    assert sent < 1 << 26, "the relay takes without end what nobody reads"
    ends.agent.settimeout(PATIENCE)
    os.write(ends.stdin, b"heartbeat")
    assert receive(ends.agent, 9) == b"heartbeat"


def test_it_ends_with_its_input_and_hands_on_the_last_words(ends: Ends) -> None:
    os.write(ends.stdin, b"close")
    os.close(ends.stdin)
    ends.stdin = -1
    assert receive(ends.agent, 5) == b"close"
    assert ends.agent.recv(1) == b""
    assert ends.ended()


def test_it_ends_with_the_agent_and_hands_on_its_last_words(ends: Ends) -> None:
    ends.agent.sendall(b"closed")
    ends.agent.close()
    assert ends.read(6) == b"closed"
    assert ends.ended()
    assert os.read(ends.stdout, 1) == b""


def test_what_comes_in_for_an_agent_that_has_left_does_not_cost_its_last_words() -> None:
    agent, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    source, stdin = os.pipe()
    stdout, sink = os.pipe()
    os.write(stdin, b"heartbeat")
    agent.sendall(b"closed")
    agent.close()
    carry(theirs, source, sink)
    assert os.read(stdout, 100) == b"closed"
    theirs.close()
    for fd in (source, stdin, stdout, sink):
        os.close(fd)


def test_it_ends_when_nobody_reads_any_more(ends: Ends) -> None:
    os.close(ends.stdout)
    ends.stdout = -1
    assert ends.ended()
