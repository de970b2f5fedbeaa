"""A temporary directory of a run's own, so that nothing of a killed task stays in the machine's.

The launcher chooses its path, the warm parent makes it, with a directory in it
for each task that runs. The parent removes them when the task, and the run,
have ended, also after its launcher was killed; the launcher removes what a
parent that was killed has left.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

VARIABLE = "TMPDIR"
_LONGEST = 64
"""Bytes of the path: the address of a Unix socket has 108, and programs put theirs deep into it."""
_RANDOM_BYTES = 4


def choose_path(run_dir: Path, environ: Mapping[str, str]) -> Path:
    """A path that does not exist yet, named after the run, where `environ` has its temporary files."""
    parent = Path(environ.get(VARIABLE, ""))
    if not (parent.is_absolute() and parent.is_dir()):
        parent = Path(tempfile.gettempdir())
    random = secrets.token_hex(_RANDOM_BYTES)
    room = _LONGEST - len(os.fsencode(parent)) - len(random) - 2
    name = f"orchestrator-{run_dir.name}".encode()[: max(len("tmp"), room)].decode(errors="ignore")
    return parent / f"{name.rstrip('.-')}-{random}"


class TaskDirectories:
    """The directory of a run, and those of its tasks in it, on the side that makes them."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def make(self, task: str) -> Path:
        """An empty directory for one start of a task, readable by its owner only. Raises OSError."""
        self._root.mkdir(mode=0o700, exist_ok=True)
        if self._root.lstat().st_uid != os.geteuid():
            raise PermissionError(f"{self._root} belongs to somebody else")
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


def remove(directory: Path) -> None:
    """Removes a directory with all that is in it, as far as that is allowed."""
    shutil.rmtree(directory, ignore_errors=True)
