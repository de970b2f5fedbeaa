"""Whether the kernel's out-of-memory killer ended a task, as far as this machine tells.

The counters say that it was at work, the kernel's log (where it may be read)
whom it killed. In a container the log speaks of other process ids, so a
process that it does not name may still have been killed.
"""

from __future__ import annotations

import os
import re
from enum import Enum
from pathlib import Path

_VMSTAT = Path("/proc/vmstat")
_OWN_CGROUP = Path("/proc/self/cgroup")
_CGROUPS = Path("/sys/fs/cgroup")
_KERNEL_LOG = Path("/dev/kmsg")
_KILLED = re.compile(r"[Kk]illed process (?P<pid>\d+)\b|oom-kill:.*\bpid=(?P<task>\d+)\b")
_MOST_RECORDS = 20_000


class OomEvidence(str, Enum):
    """What is known of the out-of-memory killer's part in an end."""

    NONE = "none"
    MEANWHILE = "meanwhile"
    """It killed something on this machine while the job ran."""
    NAMED = "named"
    """The kernel's log says that it killed this very process."""


class OomWatch:
    """Remembers how often the killer had struck before the job began."""

    def __init__(
        self,
        vmstat: Path = _VMSTAT,
        own_cgroup: Path = _OWN_CGROUP,
        cgroups: Path = _CGROUPS,
        kernel_log: Path = _KERNEL_LOG,
    ) -> None:
        self._counters = (vmstat, *memory_events(own_cgroup, cgroups))
        self._kernel_log = kernel_log
        self._before = self._count()
        self._named_before = self._named()

    def evidence(self, pid: int) -> OomEvidence:
        """What is known about the end of process `pid`."""
        if pid in self._named() - self._named_before:
            return OomEvidence.NAMED
        return OomEvidence.MEANWHILE if self._count() > self._before else OomEvidence.NONE

    def _count(self) -> int:
        return sum(_oom_kills(path) for path in self._counters)

    def _named(self) -> set[int]:
        return killed_processes(read_kernel_log(self._kernel_log))


def memory_events(own_cgroup: Path, cgroups: Path) -> list[Path]:
    """The `memory.events` of the group this process is in, and those above it (cgroup v2)."""
    try:
        lines = own_cgroup.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    group = next((line[3:].lstrip("/") for line in lines if line.startswith("0::")), None)
    if group is None:
        return []
    place = cgroups / group
    found = [folder / "memory.events" for folder in (place, *place.parents) if folder.is_relative_to(cgroups)]
    return [path for path in found if path.exists()]


def _oom_kills(path: Path) -> int:
    """The counter `oom_kill` of a file of names and numbers; 0 where that is not told."""
    try:
        for line in path.read_text(encoding="ascii").splitlines():
            name, _, value = line.partition(" ")
            if name == "oom_kill":
                return int(value)
    except (OSError, ValueError):
        pass
    return 0


def read_kernel_log(path: Path) -> str:
    """What the kernel has logged, as far as this process may read it; never waits."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    parts: list[bytes] = []
    try:
        while len(parts) < _MOST_RECORDS:
            try:
                data = os.read(handle, 16384)
            except BrokenPipeError:
                continue  # records were overwritten meanwhile: the next read goes on behind them
            except OSError:
                break  # no further record
            if not data:
                break
            parts.append(data)
    finally:
        os.close(handle)
    return b"".join(parts).decode("utf-8", errors="replace")


def killed_processes(kernel_log: str) -> set[int]:
    """The processes that the out-of-memory killer has ended, by that log."""
    return {int(found["pid"] or found["task"]) for found in _KILLED.finditer(kernel_log)}
