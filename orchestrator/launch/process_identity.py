"""Which process a record speaks of, safe against reuse of process ids and reboots."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.launch.process_tree import read_entry

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class ProcessIdentity:
    """A process id together with what makes it unique on this machine."""

    pid: int
    start_ticks: int
    """Start time as the kernel counts it: clock ticks since boot, untouched by clock changes."""
    boot_id: str

    @staticmethod
    def of(pid: int) -> ProcessIdentity | None:
        """The identity of a process that lives now; None when it does not (a zombie is dead)."""
        ticks = _start_ticks(pid)
        return None if ticks is None else ProcessIdentity(pid, ticks, boot_id())

    @staticmethod
    def current() -> ProcessIdentity:
        """The identity of this process."""
        return ProcessIdentity(os.getpid(), _start_ticks(os.getpid()) or 0, boot_id())

    @staticmethod
    def from_json(value: Any) -> ProcessIdentity | None:
        """Reads `as_json`; None for anything else."""
        if not isinstance(value, dict):
            return None
        pid, ticks, boot = value.get("pid"), value.get("start_ticks"), value.get("boot_id")
        if isinstance(pid, int) and isinstance(ticks, int) and isinstance(boot, str):
            return ProcessIdentity(pid, ticks, boot)
        return None

    def as_json(self) -> dict[str, Any]:
        return {"pid": self.pid, "start_ticks": self.start_ticks, "boot_id": self.boot_id}

    @property
    def same_boot(self) -> bool:
        """Whether the machine still runs as it did when the process was noted."""
        return self.boot_id == boot_id()

    def alive(self) -> bool:
        """Whether exactly this process still lives."""
        return self.same_boot and _start_ticks(self.pid) == self.start_ticks


def boot_id() -> str:
    """What the kernel drew at boot; empty where there is no such thing."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _start_ticks(pid: int) -> int | None:
    entry = read_entry(pid)
    return entry.start_ticks if entry is not None and entry.alive else None
