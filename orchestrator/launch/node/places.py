"""Our directories on a host: packages, code, and one for each run.

Everything lies under one root that is its owner's alone. A run's directory is
a `RunDir` with the agent's own files beside.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from orchestrator.errors import OrchestratorError
from orchestrator.launch.node.bootstrap import make_private

SOCKET = "agent.sock"
AGENT_LOG = "agent.log"
LOCK = "agent.lock"
UNSENT = "unsent"
KEEP_SECONDS = 7 * 24 * 3600.0
"""How long what nobody uses any more stays."""


class PlaceError(OrchestratorError):
    """A path that would lead out of the run directory."""


@dataclass(frozen=True)
class Places:
    """The directories of one run on this host."""

    root: Path
    run_dir: Path

    @staticmethod
    def of(root: Path, run_id: str) -> Places:
        return Places(root, root / "runs" / run_id)

    @property
    def packages(self) -> Path:
        return self.root / "packages"

    @property
    def unsent(self) -> Path:
        """What an agent had to tell when it ended."""
        return self.run_dir / UNSENT

    def create(self) -> None:
        """Makes what is missing, for the owner alone. OSError as the file system raises it."""
        for path in (self.run_dir.parent, self.run_dir, self.run_dir / "logs", self.run_dir / "tasks"):
            make_private(str(path))

    def inside(self, path: str) -> Path:
        """A file below the run directory, by its relative path. Raises PlaceError for one that is not."""
        parts = PurePosixPath(path).parts
        if not parts or path.startswith("/") or ".." in parts or "\0" in path:
            raise PlaceError(f"{path!r} does not lie in a run directory")
        target = self.run_dir.joinpath(*parts)
        if not target.parent.resolve().is_relative_to(self.run_dir.resolve()):
            raise PlaceError(f"{path!r} leads out of the run directory")
        return target

    def keep_fresh(self, package: Path) -> None:
        """Shows other runs that this one still uses its directory and its package."""
        for path in (self.run_dir, package):
            with suppress(OSError):
                os.utime(path)

    def clean(self) -> None:
        """Removes runs and packages that nobody has used for a week."""
        for path in (*_old(self.run_dir.parent), *_old(self.packages)):
            if path == self.run_dir:
                continue
            with suppress(OSError), _locked(path / LOCK) as free:
                if free:
                    shutil.rmtree(path, ignore_errors=True)


def _old(directory: Path) -> list[Path]:
    before = time.time() - KEEP_SECONDS
    with suppress(OSError):
        return [path for path in directory.iterdir() if path.is_dir() and path.lstat().st_mtime < before]
    return []


@contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Holds a lock file meanwhile, where there is one; False where someone else holds it."""
    if not path.exists():
        yield True
        return
    with path.open("rb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


@contextmanager
def _where_locks_work() -> Iterator[None]:
    """Goes on without a lock on a network file system that has none."""
    try:
        yield
    except BlockingIOError:
        raise
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
            raise


def take_lock(path: Path) -> int | None:
    """A descriptor that holds the lock file until it is closed; None while another process holds it.

    The file may be removed together with its directory at any time: a lock on
    a file that is gone is none.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        with _where_locks_work():
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(handle).st_ino == path.stat().st_ino:
            return handle
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(handle)
    return None
