"""A temporary directory of a run's own, so that nothing of a killed task stays in the machine's.

The launcher chooses its path, the warm parent makes it, with a directory in it
for each task that runs. The parent removes them when the task, and the run,
have ended, also after its launcher was killed; the launcher removes what a
parent that was killed has left; what both have left, as when the machine lost
its power, the next run removes, which finds it without a lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Collection, Mapping
from pathlib import Path

VARIABLE = "TMPDIR"
_LONGEST = 64
"""Bytes of the path: the address of a Unix socket has 108, and programs put theirs deep into it."""
_RANDOM_BYTES = 4
_PREFIX = "orchestrator-run-"
_NAME = re.compile(rf"{_PREFIX}.*-[0-9a-f]{{{2 * _RANDOM_BYTES}}}")
_ABANDONED_SECONDS = 60.0
"""A younger one may be about to be locked."""


def choose_path(run_dir: Path, environ: Mapping[str, str]) -> Path:
    """A path that does not exist yet, named after the run, where `environ` has its temporary files."""
    parent = Path(environ.get(VARIABLE, ""))
    if not (parent.is_absolute() and parent.is_dir()):
        parent = Path(tempfile.gettempdir())
    random = secrets.token_hex(_RANDOM_BYTES)
    room = _LONGEST - len(os.fsencode(parent)) - len(random) - 2
    name = f"{_PREFIX}{run_dir.name}".encode()[: max(len("tmp"), room)].decode(errors="ignore")
    return parent / f"{name.rstrip('.-')}-{random}"


class TaskDirectories:
    """The directory of a run, and those of its tasks in it, on the side that makes them."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock: int | None = None

    @property
    def fds(self) -> Collection[int]:
        """What a forked process must close."""
        return () if self._lock is None else (self._lock,)

    def make(self, task: str) -> Path:
        """An empty directory for one start of a task, readable by its owner only. Raises OSError."""
        self._root.mkdir(mode=0o700, exist_ok=True)
        if self._root.lstat().st_uid != os.geteuid():
            raise PermissionError(f"{self._root} belongs to somebody else")
        if self._lock is None:
            self._lock = _locked(self._root)
            remove_abandoned(self._root.parent, time.time())
        directory = self._root / task
        remove(directory)
        directory.mkdir(mode=0o700)
        return directory

    def remove(self, task: str) -> None:
        """Removes what a task that has ended left."""
        remove(self._root / task)

    def close(self) -> None:
        """Removes everything."""
        remove(self._root)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def remove_abandoned(parent: Path, now: float) -> None:
    """Removes what runs of this user have left that ended without anybody to clear up.

    `now` is seconds since the epoch.
    """
    for path in parent.iterdir():
        with contextlib.suppress(OSError):
            if _NAME.fullmatch(path.name) is None:
                continue
            about = path.lstat()
            own = stat.S_ISDIR(about.st_mode) and about.st_uid == os.geteuid()
            if own and now - about.st_mtime > _ABANDONED_SECONDS:
                lock = _locked(path)  # BlockingIOError while its run lives
                remove(path)
                os.close(lock)


def _locked(directory: Path) -> int:
    """A descriptor that holds the lock of a directory. Raises OSError where another process holds it."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise
    return fd


def remove(directory: Path) -> None:
    """Removes a directory with all that is in it, as far as that is allowed."""
    shutil.rmtree(directory, ignore_errors=True)
