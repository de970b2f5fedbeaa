"""`processes.jsonl`: the processes that the launcher started on this machine, for whoever clears up."""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from orchestrator.launch.process_identity import ProcessIdentity
from orchestrator.launch.process_tree import ProcessEntry, descendants, has_mark, process_table, run_mark


@dataclass(frozen=True)
class RecordedProcess:
    """One process that was started: what it was for, and which one it is."""

    label: str
    identity: ProcessIdentity


def record(path: Path, label: str, pid: int) -> None:
    """Adds a process that was just started, unless it has ended already; OSError where it cannot."""
    identity = ProcessIdentity.of(pid)
    if identity is None:
        return
    line = json.dumps({"label": label, **identity.as_json()}) + "\n"
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, line.encode())
    finally:
        os.close(fd)


def recorded(path: Path) -> list[RecordedProcess]:
    """What was recorded; lines that cannot be read are left out."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    return [found for found in map(_parse, lines) if found is not None]


def left_over(processes: Collection[RecordedProcess], run_dir: Path) -> list[ProcessEntry]:
    """Recorded processes that still live, with boot id, id and start time as recorded, and what they started.

    Of a recorded process that has ended, those in its session count that carry
    the run's mark: a later session of the same number carries another.
    """
    table = process_table()
    living = {process.identity.pid for process in processes if process.identity.alive()}
    boots = {process.identity.pid for process in processes if process.identity.same_boot}
    below = {entry.pid for pid in living for entry in descendants(pid, table)}
    marks = (run_mark(run_dir),)

    def belongs(entry: ProcessEntry) -> bool:
        if entry.pid in living or entry.pid in below:
            return True
        return entry.session in boots and has_mark(entry.pid, marks)

    return [entry for entry in table if entry.alive and entry.pid != os.getpid() and belongs(entry)]


def _parse(line: str) -> RecordedProcess | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    identity = ProcessIdentity.from_json(value)
    return None if identity is None else RecordedProcess(str(value.get("label", "")), identity)
