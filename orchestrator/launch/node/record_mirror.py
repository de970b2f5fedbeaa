"""Finds the records of tasks that have changed, so that the launcher can keep copies of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from orchestrator.cluster.task import TaskId

MAX_RECORD_BYTES = 16 << 20
"""Of a file that grows beyond (stacks asked for again and again) the last part is passed on."""
_Stamp = tuple[int, int, int]


@dataclass(frozen=True)
class RecordChange:
    """A record as it is now."""

    task: TaskId
    name: str
    data: bytes | None
    """None: it was removed."""


class RecordMirror:
    """Looks at the record directories of tasks under `RUN_DIR/tasks`."""

    def __init__(self, run_dir: Path) -> None:
        self._directory = run_dir / "tasks"
        self._seen: dict[tuple[TaskId, str], _Stamp] = {}

    def changes(self, task: TaskId) -> Iterator[RecordChange]:
        """The records of a task that were written, replaced or removed since the last look."""
        present = dict(self._files(task))
        for name, stamp in present.items():
            if self._seen.get((task, name)) == stamp:
                continue
            data = _read(self._directory / str(task) / name)
            if data is not None:
                self._seen[task, name] = stamp
                yield RecordChange(task, name, data)
        for key in [key for key in self._seen if key[0] == task and key[1] not in present]:
            del self._seen[key]
            yield RecordChange(task, key[1], None)

    def _files(self, task: TaskId) -> Iterator[tuple[str, _Stamp]]:
        try:
            with os.scandir(self._directory / str(task)) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name):
                    if entry.name.startswith(".") or not entry.is_file(follow_symlinks=False):
                        continue
                    status = entry.stat(follow_symlinks=False)
                    yield entry.name, (status.st_mtime_ns, status.st_size, status.st_ino)
        except OSError:
            return  # not there, or replaced this very moment: the next look tells


def _read(path: Path) -> bytes | None:
    try:
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            stream.seek(max(0, size - MAX_RECORD_BYTES))
            return stream.read(MAX_RECORD_BYTES)
    except OSError:
        return None
