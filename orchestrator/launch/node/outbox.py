"""What an agent has to tell, kept until the launcher has acknowledged it. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from orchestrator.launch.node.frames import FrameReader, Header, encode

OUTPUT_LIMIT = 64 << 20
"""Bytes of tasks' output that are kept; what comes beyond stays in the log file on the host alone."""

WINDOW = 256 << 10
"""Bytes that may be under way. On a slow line more of them would only make heartbeats wait for longer."""


@dataclass(frozen=True)
class _Kept:
    sequence: int
    frame: bytes
    output: int
    """Bytes of output in it."""


class Outbox:
    """Events in order, each with its number in `sequence`; numbers begin at 1 and only rise."""

    def __init__(self, output_limit: int = OUTPUT_LIMIT, window: int = WINDOW) -> None:
        self._limit = output_limit
        self._window = window
        self._last = 0
        self._kept: deque[_Kept] = deque()
        self._sent = 0
        self._under_way = 0
        self._output = 0
        self._left_out: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def last(self) -> int:
        """The number of the newest event."""
        return self._last

    def add(self, header: Header, payload: bytes = b"") -> None:
        """Keeps one event."""
        self._add(header, payload, 0)

    def add_output(self, source: str, header: Header, payload: bytes) -> bool:
        """Keeps output of `source`; False, and left out, where too much is kept already."""
        if self._output + len(payload) > self._limit:
            self._left_out[source] = self._left_out.get(source, 0) + len(payload)
            return False
        self._add(header, payload, len(payload))
        return True

    def take_left_out(self, source: str) -> int:
        """How many bytes of output of `source` were left out since the last time of asking."""
        return self._left_out.pop(source, 0)

    def acknowledge(self, sequence: int) -> None:
        """Forgets everything up to that number."""
        while self._kept and self._kept[0].sequence <= sequence:
            gone = self._kept.popleft()
            self._output -= gone.output
            if gone.sequence <= self._sent:
                self._under_way -= len(gone.frame)

    def rewind(self, acknowledged: int) -> None:
        """A new connection has begun whose other end knows everything up to that number."""
        self.acknowledge(acknowledged)
        self._sent = acknowledged
        self._under_way = 0

    def clear(self) -> None:
        """Forgets everything; numbers begin at 1 again."""
        self._kept.clear()
        self._left_out.clear()
        self._last = self._sent = self._under_way = self._output = 0

    def next_frames(self) -> bytes:
        """Frames that were not sent yet, as far as the window lets them; from now on they count as sent."""
        parts: list[bytes] = []
        at = self._first_unsent()
        while at < len(self._kept) and self._under_way < self._window:
            kept = self._kept[at]
            parts.append(kept.frame)
            self._under_way += len(kept.frame)
            self._sent = kept.sequence
            at += 1
        return b"".join(parts)

    def everything(self) -> bytes:
        """Every frame that is kept, for a file."""
        return b"".join(kept.frame for kept in self._kept)

    def restore(self, frames: bytes) -> None:
        """Takes what `everything` gave an earlier outbox, with its numbers."""
        for header, payload in FrameReader().feed(frames):
            self._keep(header, payload, len(payload) if header["event"] == "output" else 0)

    def _add(self, header: Header, payload: bytes, output: int) -> None:
        self._keep({**header, "sequence": self._last + 1}, payload, output)

    def _keep(self, header: Header, payload: bytes, output: int) -> None:
        self._last = header["sequence"]
        self._kept.append(_Kept(self._last, encode(header, payload), output))
        self._output += output

    def _first_unsent(self) -> int:
        """Numbers of what is kept follow each other, so the place can be counted."""
        if not self._kept:
            return 0
        return max(0, self._sent + 1 - self._kept[0].sequence)
