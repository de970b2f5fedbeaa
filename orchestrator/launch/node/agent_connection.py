"""The agent's end of a connection; never waits."""

from __future__ import annotations

import socket

from orchestrator.launch.node.frames import FrameError, FrameReader, Header, encode

_CHUNK = 1 << 18


class AgentConnection:
    """One accepted connection: frames in, frames out, and whether it has ended."""

    def __init__(self, end: socket.socket, now: float) -> None:
        end.setblocking(False)
        self._socket = end
        self._reader = FrameReader()
        self._unsent = bytearray()
        self.accepted_at = now
        self.ended = False

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def pending(self) -> int:
        """Bytes that wait to be sent."""
        return len(self._unsent)

    def send(self, header: Header) -> None:
        """Sends a header without payload, behind what waits."""
        self.send_frames(encode(header))

    def send_frames(self, frames: bytes) -> None:
        """Sends frames, as far as the other end takes them now; `flush` sends the rest."""
        self._unsent += frames
        self.flush()

    def flush(self) -> None:
        """Sends what waits, as far as the other end takes it now."""
        try:
            while self._unsent and not self.ended:
                del self._unsent[: self._socket.send(self._unsent[:_CHUNK])]
        except BlockingIOError:
            return
        except OSError:
            self.ended = True

    def receive(self) -> list[tuple[Header, bytes]]:
        """The frames that have arrived; sets `ended` at the end, and where something else arrives."""
        frames: list[tuple[Header, bytes]] = []
        try:
            data = self._socket.recv(_CHUNK)
            self.ended |= not data
            frames = self._reader.feed(data)
        except BlockingIOError:
            pass
        except (OSError, FrameError):
            self.ended = True
        return frames

    def close(self) -> None:
        """Ends the connection; what waits is lost."""
        self.ended = True
        self._socket.close()
