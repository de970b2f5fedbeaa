"""Which processes belong to a run or a task, and how to be rid of all of them.

A process belongs to a task when it is in the task's session, or carries the
run directory and the task's name in the environment it was started with. That
finds processes which made a session of their own and whose parent is gone.
Linux only: reads /proc.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from orchestrator.cluster.records import ENV_RUN_DIR, ENV_TASK

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36
CLEAN_UP_SECONDS = 5.0
"""What Python's resource trackers get at most to remove the shared memory that their program has left."""
_RESOURCE_TRACKER = b"multiprocessing.resource_tracker"


@dataclass(frozen=True)
class ProcessEntry:
    """One line of the process table."""

    pid: int
    parent: int
    group: int
    session: int
    state: str
    start_ticks: int
    """Start in clock ticks since boot: with `pid`, what tells a process from a later one of the same id."""

    @property
    def alive(self) -> bool:
        """A zombie is dead: it only waits for its parent."""
        return self.state not in ("Z", "X", "x")

    @property
    def suspended(self) -> bool:
        """SIGSTOP holds it; a debugger that holds it is something else."""
        return self.state == "T"


def read_entry(pid: int) -> ProcessEntry | None:
    """The process of that id, or None when there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes().decode("utf-8", errors="replace")
    except OSError:
        return None
    fields = text[text.rindex(")") + 2 :].split()  # the name before it may hold blanks and brackets
    return ProcessEntry(pid, int(fields[1]), int(fields[2]), int(fields[3]), fields[0], int(fields[19]))


def catches(pid: int, number: int) -> bool:
    """Whether a process has a handler of its own for a signal, so that the signal does not end it."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    caught = next((line.split()[1] for line in text.splitlines() if line.startswith("SigCgt:")), "0")
    return bool(int(caught, 16) & 1 << (number - 1))


def process_table() -> list[ProcessEntry]:
    """Every process that can be seen, zombies included."""
    entries = (read_entry(int(name)) for name in os.listdir("/proc") if name.isdigit())
    return [entry for entry in entries if entry is not None]


def has_mark(pid: int, marks: Collection[bytes]) -> bool:
    """Whether all of `marks` (`NAME=value`) stand in the environment the process was started with."""
    try:
        environ = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False
    return set(marks) <= set(environ.split(b"\0"))


def run_mark(run_dir: Path) -> bytes:
    """What every process of a run has in its environment."""
    return os.fsencode(f"{ENV_RUN_DIR}={run_dir}")


def task_mark(task: str) -> bytes:
    """What every process of a task has in its environment, beside `run_mark`."""
    return f"{ENV_TASK}={task}".encode()


def processes_of_run(run_dir: Path, spare: Collection[int] = ()) -> list[ProcessEntry]:
    """Living processes that carry the run's mark, without this one and `spare`."""
    marks = (run_mark(run_dir),)
    return [
        e
        for e in process_table()
        if e.alive and e.pid not in (os.getpid(), *spare) and has_mark(e.pid, marks)
    ]


def processes_of_task(
    run_dir: Path, task: str, session: int | None, spare: Collection[int] = ()
) -> list[ProcessEntry]:
    """Living processes in the task's session, or with its mark, without this one and `spare`."""
    marks = (run_mark(run_dir), task_mark(task))
    return [
        e
        for e in process_table()
        if e.alive
        and e.pid not in (os.getpid(), *spare)
        and ((session is not None and e.session == session) or has_mark(e.pid, marks))
    ]


def descendants(pid: int, table: Collection[ProcessEntry] | None = None) -> list[ProcessEntry]:
    """Living children of a process, and theirs, in `table` (the present one where none is given)."""
    table = process_table() if table is None else table
    children: dict[int, list[ProcessEntry]] = {}
    for entry in table:
        children.setdefault(entry.parent, []).append(entry)
    found, ahead = [], [pid]
    while ahead:
        below = children.get(ahead.pop(), [])
        found += [entry for entry in below if entry.alive]
        ahead += [entry.pid for entry in below]
    return found


def kill(entry: ProcessEntry, number: int = signal.SIGKILL) -> None:
    """Signals exactly that process, or nobody when it is gone and its id was given away."""
    with suppress(ProcessLookupError, PermissionError):
        if not hasattr(os, "pidfd_open"):
            if read_entry(entry.pid) == entry:
                os.kill(entry.pid, number)
            return
        handle = os.pidfd_open(entry.pid)
        try:
            now = read_entry(entry.pid)
            if now is not None and now.start_ticks == entry.start_ticks:
                signal.pidfd_send_signal(handle, number)
        finally:
            os.close(handle)


def kill_until_gone(
    find: Callable[[], Collection[ProcessEntry]],
    limit: float,
    between: Callable[[], object] = lambda: None,
) -> Collection[ProcessEntry]:
    """Kills what `find` finds until it finds nothing; what is left after `limit` seconds is returned.

    Looks again and again, since a process may fork between the look and the
    signal. `between` is called after each round (to reap children). Python's
    resource trackers leave by themselves when everybody else is gone.
    """
    begin = time.monotonic()
    end, patience = begin + limit, begin + min(limit, CLEAN_UP_SECONDS)
    pause = 0.002
    while True:
        found = find()
        if not found:
            return ()
        patient = time.monotonic() < patience
        for entry in found:
            if not (patient and is_resource_tracker(entry.pid)):
                kill(entry)
        between()
        if time.monotonic() > end:
            return find()
        time.sleep(pause)
        pause = min(pause * 2, 0.05)


def is_resource_tracker(pid: int) -> bool:
    """Whether a process removes what a Python program leaves in shared memory when that was killed."""
    try:
        return _RESOURCE_TRACKER in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _prctl(option: int, value: int | bytes) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_char_p(value) if isinstance(value, bytes) else value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def die_with_parent(parent: int, number: int = signal.SIGKILL) -> None:
    """Has the kernel signal this process when the thread that started it ends.

    `parent` is the process that started this one. ProcessLookupError when it is gone already.
    """
    _prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        raise ProcessLookupError(f"process {parent}, which started this one, is gone")


def adopt_orphans() -> None:
    """Makes this process the parent of every descendant whose own parent ends."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def set_thread_name(name: str) -> None:
    """What `top` shows for this process; the kernel keeps 15 bytes."""
    _prctl(_PR_SET_NAME, name.encode()[:15])
