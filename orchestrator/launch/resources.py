"""What each task uses: CPU, memory and GPU memory of all its processes together."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from typing import Any

from orchestrator.cluster.task import TaskId
from orchestrator.launch.launcher import PeakUsage
from orchestrator.launch.process_tree import descendants, process_table

SAMPLE_SECONDS = 2.0
SHARE_SECONDS = 10.0
_MIB = 1 << 20
_GPU_QUERY = ("--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits")


@dataclass(frozen=True)
class TreeUsage:
    """What a process and its descendants use at one moment."""

    cpu_seconds: float
    memory_bytes: int
    proportional: bool
    """Memory is proportional set size; else resident size, which counts shared pages in every process."""
    pids: frozenset[int]


@dataclass(frozen=True)
class ProcessUsage:
    """What one process uses at one moment."""

    cpu_seconds: float
    """Of the process and of its children that were waited for."""
    resident: int
    """Bytes in memory, shared ones among them."""


@dataclass(frozen=True)
class Usage:
    """What one task's processes together use at one sample."""

    cpu_percent: float | None
    """100 is one core; None in the first sample."""
    memory_bytes: int


@dataclass(frozen=True)
class _Share:
    """A process's proportional set size, and its resident size at that moment."""

    taken_at: float
    proportional: int
    resident: int


class TreeMeter:
    """Measures processes together with their descendants.

    The kernel walks all pages of a process for its proportional set size: 10
    to 20 ms for one that has TensorFlow in it, which has to wait meanwhile. So
    that is read now and then only, and carried forward in between by what the
    resident size grew, since what a task adds is its own.
    """

    def __init__(self, share_of: Callable[[int], int | None] | None = None) -> None:
        self._share_of = proportional_memory if share_of is None else share_of
        self._shares: dict[int, _Share] = {}

    def measure(self, roots: Collection[int], now: float) -> dict[int, TreeUsage]:
        """The use of each of these processes that lives, at `now` seconds of the monotonic clock."""
        table = process_table()
        trees = {root: [root, *(entry.pid for entry in descendants(root, table))] for root in roots}
        seen = {pid for pids in trees.values() for pid in pids}
        self._shares = {pid: share for pid, share in self._shares.items() if pid in seen}
        measured = {root: self._measure_tree(pids, now) for root, pids in trees.items()}
        return {root: usage for root, usage in measured.items() if usage is not None}

    def _measure_tree(self, members: Collection[int], now: float) -> TreeUsage | None:
        cpu, memory, proportional, pids = 0.0, 0, True, set()
        for pid in members:
            usage = process_usage(pid)
            if usage is None:
                continue  # ended meanwhile
            share = self._share(pid, usage.resident, now)
            proportional &= share is not None
            cpu += usage.cpu_seconds
            memory += usage.resident if share is None else share
            pids.add(pid)
        return TreeUsage(cpu, memory, proportional, frozenset(pids)) if pids else None

    def _share(self, pid: int, resident: int, now: float) -> int | None:
        last = self._shares.get(pid)
        if last is None or now - last.taken_at >= SHARE_SECONDS:
            proportional = self._share_of(pid)
            if proportional is None:
                return None
            last = self._shares[pid] = _Share(now, proportional, resident)
        return max(0, last.proportional + resident - last.resident)


def process_usage(pid: int) -> ProcessUsage | None:
    """What the kernel says of a process; None where there is none, or a dead one only."""
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes().decode("utf-8", errors="replace")
    except OSError:
        return None
    fields = text[text.rindex(")") + 2 :].split()  # the name before it may hold blanks and brackets
    ticks, pages = fields[11:15], int(fields[21])
    if not pages:  # a zombie
        return None
    return ProcessUsage(sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK"), pages * os.sysconf("SC_PAGE_SIZE"))


def proportional_memory(pid: int) -> int | None:
    """Proportional set size in bytes; None where the kernel does not tell."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return None
    for line in text.splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return None


class GpuMemory:
    """GPU memory by process, asked of nvidia-smi without waiting for its answer."""

    def __init__(self, command: str | None = None) -> None:
        self._command = which("nvidia-smi") if command is None else command
        self._asked: subprocess.Popen[str] | None = None
        self._by_pid: dict[int, int] | None = None

    def of(self, pids: Collection[int]) -> int | None:
        """Bytes used by `pids` as of the last answer; None while there is none."""
        if self._by_pid is None:
            return None
        return sum(self._by_pid.get(pid, 0) for pid in pids)

    def refresh(self) -> None:
        """Takes the answer to the last question, if it is there, and asks again."""
        if self._command is None:
            return
        if self._asked is not None:
            if self._asked.poll() is None:
                return
            answer = self._asked.communicate()[0]
            self._by_pid = parse_gpu_memory(answer) if self._asked.returncode == 0 else None
        try:
            self._asked = subprocess.Popen(
                [self._command, *_GPU_QUERY],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        except OSError:
            self._command = None

    def close(self) -> None:
        """Ends a question that is still open."""
        if self._asked is not None:
            self._asked.kill()
            self._asked.communicate()
            self._asked = None


def parse_gpu_memory(answer: str) -> dict[int, int]:
    """Bytes by process id out of nvidia-smi's `pid, MiB` lines; lines that say otherwise are left out."""
    used: dict[int, int] = {}
    for line in answer.splitlines():
        pid, _, mebibytes = line.partition(",")
        with suppress(ValueError):
            used[int(pid)] = used.get(int(pid), 0) + int(mebibytes) * _MIB
    return used


class ResourceSampler:
    """Samples tasks every couple of seconds into a file of JSON lines, and keeps their peaks.

    A line has `time`, `task`, `pid`, `cpu_percent` (100 is one core; null in
    the first sample), `memory_bytes`, `memory_kind` (`pss` or `rss`),
    `gpu_memory_bytes` (or null) and `processes`.
    """

    def __init__(
        self,
        path: Path,
        clock: Callable[[], float],
        gpu: GpuMemory | None = None,
        measure: Callable[[Collection[int], float], Mapping[int, TreeUsage]] | None = None,
    ) -> None:
        self._path = path
        self._clock = clock
        self._gpu = GpuMemory() if gpu is None else gpu
        self._measure = TreeMeter().measure if measure is None else measure
        self._due = float("-inf")
        self._last: dict[int, tuple[float, float]] = {}
        self._spent: dict[TaskId, dict[int, float]] = {}
        self._peaks: dict[TaskId, PeakUsage] = {}
        self._notes: list[str] = []
        self._trouble_told = False

    def sample(self, now: float, pids: Mapping[TaskId, int]) -> Mapping[TaskId, Usage]:
        """Measures tasks by their first process; nothing until `SAMPLE_SECONDS` after the last time."""
        if now < self._due:
            return {}
        self._due = now + SAMPLE_SECONDS
        if pids:
            self._gpu.refresh()
        used = self._measure(pids.values(), now) if pids else {}
        notes = {
            t: self._note_usage(t, pid, used[pid], now) for t, pid in sorted(pids.items()) if pid in used
        }
        self._append("".join(json.dumps(note) + "\n" for note in notes.values()))
        return {task: Usage(note["cpu_percent"], note["memory_bytes"]) for task, note in notes.items()}

    def peaks(self) -> Mapping[TaskId, PeakUsage]:
        """The peak of each task so far, over all its starts."""
        return dict(self._peaks)

    def take_notes(self) -> list[str]:
        """What people should know, once."""
        notes, self._notes = self._notes, []
        return notes

    def close(self) -> None:
        """Leaves no helper process behind."""
        self._gpu.close()

    def _note_usage(self, task: TaskId, pid: int, usage: TreeUsage, now: float) -> dict[str, Any]:
        percent = None
        if pid in self._last:
            then, spent = self._last[pid]
            percent = max(0.0, 100.0 * (usage.cpu_seconds - spent) / max(now - then, 1e-3))
        self._last[pid] = (now, usage.cpu_seconds)
        by_start = self._spent.setdefault(task, {})
        by_start[pid] = max(by_start.get(pid, 0.0), usage.cpu_seconds)
        gpu = self._gpu.of(usage.pids)
        before = self._peaks.get(task, PeakUsage(0, 0.0, 0.0))
        gpu_peak = before.gpu_memory_bytes if gpu is None else max(gpu, before.gpu_memory_bytes or 0)
        self._peaks[task] = PeakUsage(
            memory_bytes=max(before.memory_bytes, usage.memory_bytes),
            cpu_percent=max(before.cpu_percent, percent or 0.0),
            cpu_seconds=sum(by_start.values()),
            gpu_memory_bytes=gpu_peak,
        )
        return {
            "time": self._clock(),
            "task": str(task),
            "pid": pid,
            "cpu_percent": None if percent is None else round(percent, 1),
            "memory_bytes": usage.memory_bytes,
            "memory_kind": "pss" if usage.proportional else "rss",
            "gpu_memory_bytes": gpu,
            "processes": len(usage.pids),
        }

    def _append(self, text: str) -> None:
        if not text:
            return
        try:
            fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.write(fd, text.encode())
            finally:
                os.close(fd)
        except OSError as error:
            if not self._trouble_told:
                self._trouble_told = True
                self._notes.append(f"resource samples cannot be written to {self._path}: {error.strerror}")
