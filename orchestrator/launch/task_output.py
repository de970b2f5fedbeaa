"""The output of a task: read from its pipe, appended to its log, cut into whole lines."""

from __future__ import annotations

import codecs
import fcntl
import os
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.launch.job import LogLimits
from orchestrator.launch.log_stream import older_log
from orchestrator.launch.masked_stream import MaskedStream

MAX_LINE_BYTES = 64 * 1024
"""A line longer than that is passed on in pieces."""
_READ = 64 * 1024
_PIPE_SIZE = 1 << 20
_SET_PIPE_SIZE = 1031


class LineSplitter:
    """Cuts a stream of bytes into whole lines of text; undecodable bytes become U+FFFD."""

    def __init__(self) -> None:
        self._rest = b""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, data: bytes) -> str:
        """The lines that `data` completes, each with its line end; '' while there is none."""
        whole, end, rest = (self._rest + data).rpartition(b"\n")
        if len(rest) > MAX_LINE_BYTES:
            whole, end, rest = whole + end + rest, b"", b""
        self._rest = rest
        text = self._decoder.decode(whole + end)
        return text if end or not text else text + "\n"

    def finish(self) -> str:
        """The last line, where it was left without an end."""
        text = self._decoder.decode(self._rest, final=True)
        self._rest = b""
        return text + "\n" if text else ""


@dataclass
class LogFile:
    """A log that is appended to for as long as the disk takes it.

    What cannot be written is counted and left out; nothing is raised.
    """

    path: Path
    limits: LogLimits = field(default_factory=LogLimits)
    mark: str = ""
    """A line that each further file begins with, once the one before was put aside."""
    lost_bytes: int = 0
    error: str | None = None
    """Why the log is incomplete, as the system says it; None while it is complete."""
    _fd: int | None = None
    _ends_line: bool = True
    _size: int = 0
    _gap: int = 0
    """Bytes lost since the last that were written."""
    _put_aside: bool = False

    def append(self, data: bytes) -> None:
        """Writes `data`, or as much of it as can be written."""
        begin = self.mark.encode() if self._put_aside and data else b""
        rest = memoryview(begin + self._gap_mark() + data)
        try:
            fd = self._open()
            while rest:
                written = os.write(fd, rest)
                self._put_aside = False
                self._ends_line = rest[written - 1] == 0x0A
                self._gap = 0
                rest = rest[written:]
                self._size += written
            if self._ends_line and self.limits.max_bytes and self._size >= self.limits.max_bytes:
                self._rotate()
        except OSError as error:
            lost = min(len(rest), len(data))
            self.lost_bytes += lost
            self._gap += lost
            self.error = error.strerror or str(error)

    def close(self) -> None:
        """Ends an unfinished last line and closes the file."""
        if self._fd is None:
            return
        if not self._ends_line:
            self.append(b"\n")
        self._close()
        self._ends_line = True

    def _rotate(self) -> None:
        """Puts the log aside under the name of an older one, and forgets the oldest."""
        self._close()
        for age in range(self.limits.keep, 0, -1):
            newer = older_log(self.path, age - 1)
            if newer.exists():
                os.replace(newer, older_log(self.path, age))
        if self.limits.keep == 0:
            self.path.unlink(missing_ok=True)
        self._put_aside = True

    def _close(self) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def _gap_mark(self) -> bytes:
        if not self._gap:
            return b""
        start = b"" if self._ends_line else b"\n"
        return start + f"[{self._gap} bytes are missing here: {self.error}]\n".encode()

    def _open(self) -> int:
        if self._fd is None:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            self._fd = os.open(self.path, flags, 0o600)
            self._size = os.fstat(self._fd).st_size
        return self._fd


class OutputPipe:
    """The launcher's end of a task's output."""

    def __init__(self, log: LogFile, secrets: Collection[str] = ()) -> None:
        """`secrets` stand neither in the log nor in what `read` returns."""
        self.log = log
        self._masked = MaskedStream(secrets)
        self._splitter = LineSplitter()
        self.read_fd, self.write_fd = os.pipe()
        os.set_blocking(self.read_fd, False)
        with suppress(OSError):  # where that is not allowed, the default size does
            # Room for a burst while the launcher is busy, so that training does not wait for it.
            fcntl.fcntl(self.write_fd, _SET_PIPE_SIZE, _PIPE_SIZE)

    @property
    def open(self) -> bool:
        """Whether more output may come."""
        return self.read_fd >= 0

    def release_write_end(self) -> None:
        """To be called once the task has it."""
        if self.write_fd >= 0:
            os.close(self.write_fd)
            self.write_fd = -1

    def read(self, limit: int = 1 << 20) -> str:
        """What has arrived, in whole lines, up to about `limit` bytes; at the end of the pipe, closes it."""
        text = ""
        while limit > 0 and self.open:
            try:
                data = os.read(self.read_fd, _READ)
            except BlockingIOError:
                break
            if not data:
                return text + self.finish()
            limit -= len(data)
            text += self._take(self._masked.feed(data))
        return text

    def finish(self) -> str:
        """Closes the pipe and the log; the unfinished last line, if any."""
        self.release_write_end()
        if self.open:
            os.close(self.read_fd)
            self.read_fd = -1
        text = self._take(self._masked.finish())
        self.log.close()
        return text + self._splitter.finish()

    def _take(self, data: bytes) -> str:
        if not data:
            return ""
        self.log.append(data)
        return self._splitter.feed(data)
