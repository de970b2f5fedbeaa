"""The conversation between the launcher and its warm parent: JSON with file descriptors.

One frame is four bytes of length (big endian), then that many bytes of JSON.
Descriptors travel beside the first byte of their frame; the key `fds` says how
many belong to it.
"""

from __future__ import annotations

import array
import json
import os
import socket
import struct
from collections import deque
from collections.abc import Sequence
from typing import Any

_LENGTH = struct.Struct(">I")
_MAX_FDS = 16
_CHUNK = 1 << 16

Message = dict[str, Any]


class ControlChannel:
    """One end of the socket pair. Not for use from several threads."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._received = bytearray()
        self._fds: deque[int] = deque()
        self._send_timeout = 30.0

    def fileno(self) -> int:
        return self._socket.fileno()

    def fds(self) -> list[int]:
        """Every descriptor of this end, received ones that nobody has asked for among them."""
        return [self._socket.fileno(), *self._fds]

    def send(self, message: Message, fds: Sequence[int] = ()) -> None:
        """Sends one message; OSError (BrokenPipeError among it) when the other end is gone or stuck."""
        text = json.dumps({**message, "fds": len(fds)}).encode()
        frame = memoryview(_LENGTH.pack(len(text)) + text)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self._socket.settimeout(self._send_timeout)
        sent = self._socket.sendmsg([frame], rights)
        if sent < len(frame):
            self._socket.sendall(frame[sent:])

    def receive(self) -> tuple[list[tuple[Message, list[int]]], bool]:
        """The complete messages that have arrived, with their descriptors, and whether the other end is gone.

        Never waits.
        """
        closed = False
        self._socket.settimeout(0)
        while not closed:
            try:
                data, ancillary, _, _ = self._socket.recvmsg(
                    _CHUNK, socket.CMSG_SPACE(_MAX_FDS * array.array("i").itemsize)
                )
            except BlockingIOError:
                break
            except OSError:
                closed = True
                break
            self._keep_fds(ancillary)
            self._received += data
            closed = not data
        return self._frames(), closed

    def close(self) -> None:
        """Closes the socket and every descriptor that nobody has asked for."""
        self._socket.close()
        while self._fds:
            os.close(self._fds.popleft())

    def _keep_fds(self, ancillary: list[tuple[int, int, bytes]]) -> None:
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                numbers = array.array("i")
                numbers.frombytes(data[: len(data) - len(data) % numbers.itemsize])
                for number in numbers:
                    os.set_inheritable(number, False)
                    self._fds.append(number)

    def _frames(self) -> list[tuple[Message, list[int]]]:
        frames = []
        while len(self._received) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._received)
            end = _LENGTH.size + length
            if len(self._received) < end:
                break
            message: Message = json.loads(self._received[_LENGTH.size : end])
            del self._received[:end]
            frames.append((message, [self._fds.popleft() for _ in range(message.pop("fds"))]))
        return frames


def channel_pair() -> tuple[ControlChannel, socket.socket]:
    """Our end, and the other end to be handed to the process that is started."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    return ControlChannel(ours), theirs
