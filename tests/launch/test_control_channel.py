from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from threading import Thread

import pytest

from orchestrator.launch.control_channel import ControlChannel, Message, channel_pair

Pair = tuple[ControlChannel, ControlChannel]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, other = channel_pair()
    theirs = ControlChannel(other)
    yield ours, theirs
    ours.close()
    theirs.close()


def receive(channel: ControlChannel, count: int) -> list[tuple[Message, list[int]]]:
    found: list[tuple[Message, list[int]]] = []
    while len(found) < count:
        messages, closed = channel.receive()
        found += messages
        assert not closed
    return found


def test_messages_arrive_whole_and_in_order(pair: Pair) -> None:
    sent = [{"do": "a", "text": "x" * n, "odd": "\udcff ü\n"} for n in (0, 1, 70_000, 3)]
    sender = Thread(target=lambda: [pair[0].send(message) for message in sent])
    sender.start()
    assert receive(pair[1], 4) == [(message, []) for message in sent]
    sender.join()
    assert pair[1].receive() == ([], False)


def test_a_message_larger_than_the_socket_buffer(pair: Pair) -> None:
    message = {"env": {"BIG": "y" * 3_000_000}}
    sender = Thread(target=pair[0].send, args=(message,))
    sender.start()
    assert receive(pair[1], 1) == [(message, [])]
    sender.join()


def test_descriptors_belong_to_their_message(pair: Pair) -> None:
    pipes = [os.pipe() for _ in range(3)]
    pair[0].send({"id": 0}, pipes[0])
    pair[0].send({"id": 1})
    pair[0].send({"id": 2}, (*pipes[1], *pipes[2]))
    for message, fds in receive(pair[1], 3):
        assert len(fds) == [2, 0, 4][message["id"]]
        for read, write in zip(fds[::2], fds[1::2], strict=True):
            os.write(write, b"!")
            assert os.read(read, 1) == b"!"
            assert not os.get_inheritable(read)
            os.close(read)
            os.close(write)
    for fd in (fd for pipe in pipes for fd in pipe):
        os.close(fd)


def test_the_end_is_told_after_the_last_message(pair: Pair) -> None:
    pair[0].send({"last": True})
    pair[0].close()
    assert pair[1].receive() == ([({"last": True}, [])], True)
    with pytest.raises(BrokenPipeError):
        pair[1].send({"too": "late"})


def test_descriptors_of_half_a_message_are_known_and_closed() -> None:
    theirs, raw = channel_pair()
    read, write = os.pipe()
    socket.send_fds(raw, [(1000).to_bytes(4, "big") + b'{"half'], [write])
    assert theirs.receive() == ([], False)
    assert len(theirs.fds()) == 2
    os.close(write)
    theirs.close()
    raw.close()
    assert os.read(read, 1) == b"", "no copy of the write end is left"
    os.close(read)
