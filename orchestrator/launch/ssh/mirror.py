"""The launcher's own copies of what tasks on other hosts write: records, logs, samples."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.cluster.task import TaskId
from orchestrator.launch.job import LogLimits
from orchestrator.launch.launcher import PeakUsage
from orchestrator.launch.run_dir import RunDir
from orchestrator.launch.task_output import LogFile

_RECORD_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_SKEW_THAT_MATTERS = 1.0
"""Seconds; what is less may be the time that the host's words took, and clocks that are kept agree better."""


class Mirror:
    """Writes copies below a run directory. What cannot be written is told once, and left out."""

    def __init__(self, run_dir: RunDir, limits: LogLimits) -> None:
        self._run_dir = run_dir
        self.limits = limits
        self._logs: dict[Path, LogFile] = {}
        self._told: set[Path] = set()

    def record(self, task: TaskId, name: str, data: bytes | None, skew: float) -> str | None:
        """Replaces a record of a task, or removes it; what there is to complain about.

        `skew` is how many seconds the host's clock is ahead of the launcher's.
        """
        if not _RECORD_NAME.fullmatch(name):
            return f"{task}: a record with the name {name!r} is left out"
        path = self._run_dir.records(task).directory / name
        try:
            if data is None:
                path.unlink(missing_ok=True)
                return None
            path.parent.mkdir(parents=True, exist_ok=True)
            beside = path.with_name(f".{name}.copy")
            beside.write_bytes(on_our_clock(data, skew) if name.endswith(".json") else data)
            os.replace(beside, path)
        except OSError as error:
            return self._complain(path, error)
        return None

    def forget(self, task: TaskId) -> None:
        """Removes what an earlier start of a task left: how far it was, how it failed and how it ended."""
        for name in ("progress.json", "failure.json", "exit.json"):
            self.record(task, name, None, 0.0)

    def output(self, path: Path, text: str) -> str | None:
        """Appends whole lines to a log; what there is to complain about."""
        log = self._logs.get(path)
        if log is None:
            log = self._logs[path] = LogFile(path, self.limits)
        before = log.error
        log.append(text.encode("utf-8", errors="replace"))
        if log.error is not None and before is None:
            return f"cannot write {path}: {log.error}. The output is shown, but not kept."
        return None

    def end_of_output(self, path: Path) -> None:
        """Closes a log until something is added to it."""
        log = self._logs.pop(path, None)
        if log is not None:
            log.close()

    def samples(self, lines: bytes) -> str | None:
        """Adds to the samples of what tasks use."""
        path = self._run_dir.resources
        try:
            with path.open("ab") as stream:
                stream.write(lines if lines.endswith(b"\n") else lines + b"\n")
        except OSError as error:
            return self._complain(path, error)
        return None

    def close(self) -> None:
        """Closes what is open."""
        for path in list(self._logs):
            self.end_of_output(path)

    def _complain(self, path: Path, error: OSError) -> str | None:
        if path in self._told:
            return None
        self._told.add(path)
        return f"cannot write {path}: {error.strerror or error}. The run goes on without it."


def on_our_clock(data: bytes, skew: float) -> bytes:
    """A record with its `time` as the launcher's clock would have it; untouched where it has none."""
    if abs(skew) < _SKEW_THAT_MATTERS:
        return data
    try:
        value: Any = json.loads(data)
    except ValueError:
        return data
    time = value.get("time") if isinstance(value, dict) else None
    if not isinstance(time, int | float):
        return data
    return json.dumps({**value, "time": time - skew}).encode()


def highest(one: Mapping[TaskId, PeakUsage], other: Mapping[TaskId, PeakUsage]) -> dict[TaskId, PeakUsage]:
    """The peaks of several agents of a host: the higher of each."""
    merged = dict(one)
    for task, peak in other.items():
        before = merged.get(task)
        merged[task] = peak if before is None else _higher(before, peak)
    return merged


def _higher(one: PeakUsage, other: PeakUsage) -> PeakUsage:
    gpu = [value for value in (one.gpu_memory_bytes, other.gpu_memory_bytes) if value is not None]
    return PeakUsage(
        max(one.memory_bytes, other.memory_bytes),
        max(one.cpu_percent, other.cpu_percent),
        max(one.cpu_seconds, other.cpu_seconds),
        max(gpu, default=None),
    )
