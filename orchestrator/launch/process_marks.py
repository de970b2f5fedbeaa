"""What /proc says of a forked task: its name in the environment, its command as title.

/proc/PID/environ and /proc/PID/cmdline show the memory that the process was
*started* with. A forked task shares its warm parent's, so it writes its own
name and command there; whatever it forks itself then carries the mark too.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path

from orchestrator.cluster.records import ENV_TASK

PLACEHOLDER = "_" * 64
"""Value of ORCHESTRATOR_TASK in the warm parent's environment: the room for the name of a task."""
TITLE_ROOM = " " * 512
"""An argument of the warm parent: the room for the command of a task."""


def write_mark(task: str) -> bool:
    """Replaces the placeholder by the task's name; False where there is no such room."""
    bounds = _memory_bounds()
    name = task.encode()
    if bounds is None or len(name) > len(PLACEHOLDER):
        return False
    start, end = bounds[1]
    position = ctypes.string_at(start, end - start).find(f"{ENV_TASK}={PLACEHOLDER}\0".encode())
    if position < 0:
        return False
    ctypes.memmove(
        start + position + len(ENV_TASK) + 1, name.ljust(len(PLACEHOLDER), b"\0"), len(PLACEHOLDER)
    )
    return True


def write_title(command: Sequence[str]) -> None:
    """Shows `command` as the process's command line, cut to the room there is."""
    bounds = _memory_bounds()
    if bounds is None:
        return
    start, end = bounds[0]
    room = end - start
    if room > 1:
        text = "\0".join(command).encode("utf-8", errors="replace")[: room - 1]
        ctypes.memmove(start, text.ljust(room, b"\0"), room)


def _memory_bounds() -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Addresses of the arguments and of the environment that this process was started with."""
    try:
        text = Path("/proc/self/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = [int(field) for field in text[text.rindex(")") + 2 :].split()[45:49]]
    if len(fields) < 4 or not all(fields):
        return None
    return (fields[0], fields[1]), (fields[2], fields[3])
