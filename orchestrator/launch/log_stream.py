"""Reading the logs of a run: tails, followed files, lines with their task in front."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from orchestrator.cluster.task import TaskId

TAIL_BYTES = 64 * 1024
FOLLOW_SECONDS = 0.2
_CHUNK = 256 * 1024
Key = TypeVar("Key", bound=Hashable)


def tail(path: Path, lines: int, since: int = 0, limit: int = TAIL_BYTES) -> tuple[str, ...]:
    """The last `lines` lines of a log behind byte `since`, reading at most `limit` bytes.

    Empty when there is no log; a log shorter than `since` was replaced and counts whole.
    """
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            first = since if since <= size else 0
            start = max(first, size - limit)
            stream.seek(start)
            data = stream.read()
    except OSError:
        return ()
    found = data.decode("utf-8", errors="replace").splitlines()
    if start > first and found:
        found = found[1:]  # the first one may be cut
    return tuple(found[-lines:])


class LineReader:
    """Whole lines of a growing file; starts anew when the file was replaced or cut."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = 0
        self._inode: int | None = None
        self._rest = b""

    def read(self) -> list[str]:
        """The lines that were completed since the last call; empty while there is no file."""
        lines: list[str] = []
        while True:
            data = self._read_chunk()
            if not data:
                return lines
            *whole, self._rest = (self._rest + data).split(b"\n")
            lines += [line.decode("utf-8", errors="replace") for line in whole]

    def rest(self) -> list[str]:
        """What stands after the last line end, for when nothing more is to come."""
        rest, self._rest = self._rest, b""
        return [rest.decode("utf-8", errors="replace")] if rest else []

    def _read_chunk(self) -> bytes:
        try:
            with self._path.open("rb") as stream:
                status = os.fstat(stream.fileno())
                if status.st_ino != self._inode or status.st_size < self._position:
                    self._inode, self._position, self._rest = status.st_ino, 0, b""
                stream.seek(self._position)
                data = stream.read(_CHUNK)
        except OSError:
            return b""
        self._position += len(data)
        return data


def prefix_width(tasks: Sequence[TaskId]) -> int:
    """The width that makes the prefixes of `tasks` line up."""
    return max((len(str(task)) for task in tasks), default=0)


def prefixed(source: TaskId | str, line: str, width: int) -> str:
    """`worker-1 | line`; carriage returns of progress bars leave their last state only."""
    shown = line.rstrip("\r\n").rsplit("\r", 1)[-1]
    return f"{source!s:<{width}} | {shown}"


def read_logs(
    paths: Mapping[Key, Path],
    finished: Callable[[], bool] | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[tuple[Key, str]]:
    """The lines of several logs; with `finished`, follows them until it says so.

    Without `finished` the logs come one after the other; followed, lines come
    as they are written.
    """
    readers = {name: LineReader(path) for name, path in paths.items()}
    while True:
        last = finished is None or finished()  # asked first, so that what was written before the end is read
        for name, reader in readers.items():
            lines = reader.read() + (reader.rest() if last else [])
            yield from ((name, line) for line in lines)
        if last:
            return
        sleep(FOLLOW_SECONDS)
