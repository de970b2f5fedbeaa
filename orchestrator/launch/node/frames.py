"""The frames of the conversation with a host: a JSON object and raw bytes. Pure.

One frame is the length of the header and that of the payload (four bytes each,
big endian), the header in UTF-8, and the payload.
"""

from __future__ import annotations

import json
import struct
from typing import Any

from orchestrator.errors import OrchestratorError

MAX_HEADER_BYTES = 64 << 20
MAX_PAYLOAD_BYTES = 1 << 30
MAX_GREETING_BYTES = 1 << 20
_LENGTHS = struct.Struct("!II")

Header = dict[str, Any]


class FrameError(OrchestratorError):
    """What arrived is no frame: the other end is not ours, or something else writes on the connection."""


def encode(header: Header, payload: bytes = b"") -> bytes:
    """One frame. Raises FrameError where it would be refused by the other end.

    Strings may hold what `os.fsdecode` makes of undecodable bytes.
    """
    text = json.dumps(header, separators=(",", ":")).encode("ascii")
    _check(len(text), len(payload))
    return b"".join((_LENGTHS.pack(len(text), len(payload)), text, payload))


class FrameReader:
    """Puts frames together from the pieces in which they arrive.

    With `marker`, everything before its first appearance is left out: a login
    shell may greet its user before anything of ours runs.
    """

    def __init__(self, marker: bytes = b"") -> None:
        self._received = bytearray()
        self._marker = marker

    def feed(self, data: bytes) -> list[tuple[Header, bytes]]:
        """The frames that `data` completes. Raises FrameError; nothing can be read after that."""
        self._received += data
        if self._marker and not self._find_marker():
            return []
        frames: list[tuple[Header, bytes]] = []
        start = 0
        while len(self._received) - start >= _LENGTHS.size:
            header_size, payload_size = _LENGTHS.unpack_from(self._received, start)
            _check(header_size, payload_size)
            middle = start + _LENGTHS.size + header_size
            end = middle + payload_size
            if len(self._received) < end:
                break
            header = _object(bytes(self._received[start + _LENGTHS.size : middle]))
            frames.append((header, bytes(self._received[middle:end])))
            start = end
        del self._received[:start]
        return frames

    def _find_marker(self) -> bool:
        at = self._received.find(self._marker)
        if at >= 0:
            del self._received[: at + len(self._marker)]
            self._marker = b""
        elif len(self._received) > MAX_GREETING_BYTES:
            start = bytes(self._received[:200]).decode(errors="replace")
            raise FrameError(f"nothing of ours answers, but a text that begins with {start!r}")
        return at >= 0

    @property
    def marked(self) -> bool:
        """Whether the marker has come, where there is to be one."""
        return not self._marker

    @property
    def waiting(self) -> int:
        """Bytes of a frame that is not complete yet."""
        return len(self._received)


def _check(header_size: int, payload_size: int) -> None:
    if header_size > MAX_HEADER_BYTES or payload_size > MAX_PAYLOAD_BYTES:
        raise FrameError(f"a frame of {header_size} + {payload_size} bytes is no frame of this protocol")


def _object(text: bytes) -> Header:
    try:
        header = json.loads(text)
    except ValueError as error:
        raise FrameError(f"the header of a frame is not JSON: {error}") from error
    if not isinstance(header, dict):
        raise FrameError("the header of a frame is not a JSON object")
    return header
