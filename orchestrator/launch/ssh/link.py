"""One connection to a host: a client process whose standard streams carry frames."""

from __future__ import annotations

import os
import select
import subprocess
from collections import deque
from collections.abc import Sequence
from contextlib import suppress

from orchestrator.errors import EnvironmentProblem
from orchestrator.launch.node.delivery import MARKER
from orchestrator.launch.node.frames import FrameError, FrameReader, Header

_READ = 256 * 1024
_COMPLAINT_BYTES = 8 * 1024
_COMPLAINT_LINES = 6
_KILL_SECONDS = 10.0


class Link:
    """Starts the client and never waits for it; bytes go and come as `serve` is called.

    `argv` is the client with the remote command, `opening` what is written first.
    """

    def __init__(self, argv: Sequence[str], opening: bytes) -> None:
        try:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
            )
        except OSError as error:
            raise EnvironmentProblem(f"{argv[0]} cannot be started: {error.strerror}.") from error
        streams = (self._process.stdin, self._process.stdout, self._process.stderr)
        self._stdin, self._stdout, self._stderr = (s.fileno() for s in streams if s is not None)
        for fd in (self._stdin, self._stdout, self._stderr):
            os.set_blocking(fd, False)
        self._reader = FrameReader(marker=MARKER)
        self._outgoing: deque[memoryview] = deque([memoryview(opening)])
        self._complaint = b""
        self.unsent_bytes = len(opening)
        self.ended = False
        """Nothing more will arrive."""
        self._error = ""
        self._stderr_open = True

    def send(self, data: bytes) -> None:
        """Puts bytes behind those that wait to be written."""
        self._outgoing.append(memoryview(data))
        self.unsent_bytes += len(data)

    def interest(self) -> dict[int, int]:
        """What the connection can go on with: file descriptors and what to poll them for."""
        if self.ended:
            return {}
        wanted = {self._stdout: select.POLLIN}
        if self._stderr_open:
            wanted[self._stderr] = select.POLLIN
        if self._outgoing:
            wanted[self._stdin] = select.POLLOUT
        return wanted

    def serve(self) -> list[tuple[Header, bytes]]:
        """Writes and reads what can be; the frames that have arrived."""
        self._write()
        self._listen()
        frames: list[tuple[Header, bytes]] = []
        while not self.ended:
            try:
                data = os.read(self._stdout, _READ)
                if not data:
                    self.ended = True
                    break
                frames += self._reader.feed(data)
            except BlockingIOError:
                break
            except FrameError as error:
                self.ended, self._error = True, str(error)
        return frames

    @property
    def answers(self) -> bool:
        """Our program runs at the other end."""
        return self._reader.marked and not self.ended

    def reason(self) -> str:
        """Why the connection ended, as ssh or the host says it."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(0.5 if self.ended else 0)  # so that its last words are there
        self._listen()
        text = self._complaint.decode("utf-8", errors="replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        said = "; ".join(lines[-_COMPLAINT_LINES:])
        code = self._process.poll()
        end = "" if code in (None, 0) else f"the connection ended with code {code}"
        return said or self._error or end

    def close(self) -> None:
        """Ends the client, whatever it does."""
        self.ended = True
        if self._process.poll() is None:
            self._process.kill()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_KILL_SECONDS)
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                with suppress(OSError):
                    stream.close()
        self._outgoing.clear()
        self._stderr_open = False

    def _write(self) -> None:
        while self._outgoing:
            try:
                written = os.write(self._stdin, self._outgoing[0])
            except BlockingIOError:
                return
            except OSError:  # the client is gone, which reading shows with its reason
                self._outgoing.clear()
                self.unsent_bytes = 0
                return
            self.unsent_bytes -= written
            rest = self._outgoing[0][written:]
            if rest:
                self._outgoing[0] = rest
            else:
                self._outgoing.popleft()

    def _listen(self) -> None:
        """Keeps the last of what the client says beside the frames."""
        while self._stderr_open:
            try:
                data = os.read(self._stderr, _READ)
            except OSError:
                return
            self._stderr_open = bool(data)
            self._complaint = (self._complaint + data)[-_COMPLAINT_BYTES:]
