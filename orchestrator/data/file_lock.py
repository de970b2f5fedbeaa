"""A lock between processes, held on a file and freed by the kernel when its holder dies."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestrator.errors import EnvironmentProblem, WaitTimeout

POLL_SECONDS = 0.1


@contextmanager
def hold_file_lock(
    path: Path,
    purpose: str,
    wait_seconds: float,
    *,
    say: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[None]:
    """Holds an exclusive lock on `path` inside the `with` block.

    Another holder is waited for at most `wait_seconds`; `say` is told once
    whom and what (`purpose`, as in "prepare mnist") the wait is for. The file
    stays behind: removing it would let two processes lock two files of one name.

    Raises WaitTimeout at the limit and EnvironmentProblem when the file
    cannot be made or locked.
    """
    descriptor = _open(path)
    deadline = clock() + wait_seconds
    told = False
    try:
        while not _try_lock(descriptor, path):
            holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "another process"
            if clock() >= deadline:
                raise WaitTimeout(
                    f"waited {wait_seconds:g} s to {purpose}: {holder} still holds the lock {path}. "
                    "Wait for that process or end it."
                )
            if not told:
                say(f"waiting at most {wait_seconds:g} s to {purpose}: {holder} holds the lock {path}")
                told = True
            sleep(POLL_SECONDS)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise EnvironmentProblem(f"cannot make the lock file {path}: {error.strerror}.") from error


def _try_lock(descriptor: int, path: Path) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise EnvironmentProblem(f"cannot lock {path}: {error.strerror}.") from error
    return True
