"""Reading the logs of a run: tails, followed files, lines with their task in front."""

from __future__ import annotations

import itertools
import os
import re
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from orchestrator.cluster.task import TaskId

TAIL_BYTES = 64 * 1024
FOLLOW_SECONDS = 0.2
_CHUNK = 256 * 1024
_START_MARK = re.compile(r"==== \S+: start (?P<start>[0-9]+), attempt (?P<attempt>[0-9]+)(, goes on)? ====")
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class LogMark:
    """A place in a log: what is written from now on comes behind it."""

    inode: int = 0
    size: int = 0

    @staticmethod
    def end_of(path: Path) -> LogMark:
        """The present end of a log; the beginning where there is none."""
        try:
            status = path.stat()
        except OSError:
            return LogMark()
        return LogMark(status.st_ino, status.st_size)


def older_log(path: Path, age: int) -> Path:
    """The log that was put aside `age` times ago; 0 is the present one."""
    return path if age == 0 else path.with_name(f"{path.name}.{age}")


def tail(path: Path, lines: int, since: LogMark | None = None, limit: int = TAIL_BYTES) -> tuple[str, ...]:
    """The last `lines` lines of a log behind `since`, reading at most `limit` bytes of a file.

    Empty when there is no log. One that was put aside since the mark counts too.
    """
    mark = since or LogMark()
    found = _tail_of_file(path, lines, mark, limit)
    before = older_log(path, 1)
    if len(found) < lines and mark.inode and LogMark.end_of(path).inode != mark.inode:
        found = (*_tail_of_file(before, lines - len(found), mark, limit), *found)
    return found


def _tail_of_file(path: Path, lines: int, mark: LogMark, limit: int) -> tuple[str, ...]:
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            same = os.fstat(stream.fileno()).st_ino == mark.inode and mark.size <= size
            first = mark.size if same else 0
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
    """Whole lines of a growing log, those put aside first; starts anew when it was replaced or cut."""

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
        while True:
            files = [path for path in _with_older(self._path) if LogMark.end_of(path).inode]
            at = next((i for i, p in enumerate(files) if LogMark.end_of(p).inode == self._inode), None)
            if at is None:  # the first call, or what was read last is gone
                if not files:
                    return b""
                self._start_with(files[-1 if self._inode is not None else 0])
                continue
            data = self._read_from(files[at])
            if data or at == len(files) - 1:
                return data
            self._inode, self._position = LogMark.end_of(files[at + 1]).inode, 0

    def _start_with(self, path: Path) -> None:
        self._inode, self._position, self._rest = LogMark.end_of(path).inode, 0, b""

    def _read_from(self, path: Path) -> bytes:
        try:
            with path.open("rb") as stream:
                status = os.fstat(stream.fileno())
                if status.st_ino != self._inode:
                    return b""  # put aside this very moment: the next call finds it
                if status.st_size < self._position:
                    self._position, self._rest = 0, b""
                stream.seek(self._position)
                data = stream.read(_CHUNK)
        except OSError:
            return b""
        self._position += len(data)
        return data


def _with_older(path: Path) -> list[Path]:
    """The files of a log, the oldest first."""
    found = []
    for age in itertools.count(1):
        if not older_log(path, age).exists():
            break
        found.append(older_log(path, age))
    return [*reversed(found), path]


def start_mark(task: str, attempt: int, start: int, *, goes_on: bool = False) -> str:
    """The line that stands in a log before what a later start of the task writes; both count from 0.

    One that `goes_on` stands in front of what follows the part that was put aside.
    """
    return f"==== {task}: start {start + 1}, attempt {attempt + 1}{', goes on' if goes_on else ''} ====\n"


def part_of(
    lines: Iterable[tuple[Key, str]], *, start: int | None = None, attempt: int | None = None
) -> Iterator[tuple[Key, str]]:
    """What each task wrote during its `start`-th start, or those in an attempt, from 1; without the marks."""
    current: dict[Key, tuple[int, int]] = {}
    for key, line in lines:
        mark = _START_MARK.fullmatch(line)
        if mark is not None:
            current[key] = int(mark["start"]), int(mark["attempt"])
            continue
        now = current.get(key, (1, 1))
        if start in (None, now[0]) and attempt in (None, now[1]):
            yield key, line


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
