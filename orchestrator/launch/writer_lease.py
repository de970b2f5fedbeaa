"""Who may write to a model directory: one run at a time, on this machine or another.

The lease is a file in the directory that its holder keeps locked and renews.
The lock speaks for processes of this machine, and goes with its holder however
that ends; the time of the last renewal speaks for other machines.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from orchestrator.errors import EnvironmentProblem
from orchestrator.launch.process_identity import ProcessIdentity
from orchestrator.launch.process_tree import processes_of_run

FILE_NAME = ".orchestrator-lease.json"
RENEW_SECONDS = 15.0
STALE_SECONDS = 60.0
"""A lease of another machine that was not renewed for so long has lost its holder."""
LEFTOVER_SECONDS = 15.0
"""How long the tasks of a dead holder may take to be gone."""
_TRIES = 20


@dataclass(frozen=True)
class Holder:
    """Who holds, or held, a lease. Times are seconds since the epoch."""

    process: ProcessIdentity
    host: str
    started: float
    renewed: float
    run_dir: str

    def as_json(self) -> dict[str, Any]:
        return {
            **self.process.as_json(),
            "host": self.host,
            "started": self.started,
            "renewed": self.renewed,
            "run_dir": self.run_dir,
        }

    @staticmethod
    def from_json(value: Any) -> Holder | None:
        """Reads `as_json`; None for anything else."""
        process = ProcessIdentity.from_json(value)
        try:
            if process is None:
                return None
            times = float(value["started"]), float(value["renewed"])
            return Holder(process, str(value["host"]), *times, str(value["run_dir"]))
        except (KeyError, TypeError, ValueError):
            return None

    def describe(self) -> str:
        """`process 12 on node3, started 2026-01-01 10:00:00 UTC (runs/digits-...)`."""
        started = datetime.fromtimestamp(self.started, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
        return f"process {self.process.pid} on {self.host}, started {started} ({self.run_dir})"


class WriterLease:
    """The right to write to one model directory, from `take` to `release`."""

    def __init__(
        self,
        model_dir: Path,
        run_dir: Path,
        *,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
        host: str | None = None,
    ) -> None:
        self._model_dir = model_dir
        self._path = model_dir / FILE_NAME
        self._clock = clock
        self._sleep = sleep
        self._host = host or socket.gethostname()
        now = clock()
        self._me = Holder(ProcessIdentity.current(), self._host, now, now, str(run_dir))
        self._fd: int | None = None
        self._renew_at = 0.0
        self._trouble_told = False

    def take(self) -> str | None:
        """Takes the lease; a note about the dead holder before, if there was one.

        Raises EnvironmentProblem when another run holds it, or cannot be told
        to be dead, or the file cannot be written.
        """
        try:
            self._fd = self._locked()
            before = _read(self._fd)
            note = self._look_at(before) if before is not None else None
            self._write()
        except OSError as error:
            self._close()
            raise EnvironmentProblem(f"cannot write {self._path}: {error.strerror}.") from error
        except BaseException:
            self._close()
            raise
        return note

    def renew(self, now: float) -> str | None:
        """Says that the holder lives; `now` is monotonic seconds. To be called often.

        Returns what people should know, once: that the file cannot be written,
        or that the directory is gone or was taken by somebody else.
        """
        if self._fd is None or now < self._renew_at:
            return None
        self._renew_at = now + RENEW_SECONDS
        try:
            trouble = None if self._still_ours() else f"{self._path} was removed or replaced while in use"
            self._write()
        except OSError as error:
            trouble = f"cannot renew {self._path}: {error.strerror}"
        if trouble is None or self._trouble_told:
            return None
        self._trouble_told = True
        return f"{trouble}: nothing keeps another run from writing to {self._model_dir}"

    def release(self) -> None:
        """Lets go; may be called twice."""
        if self._fd is not None:
            with suppress(OSError):
                if self._still_ours():
                    self._path.unlink()
        self._close()

    def _locked(self) -> int:
        for _ in range(_TRIES):
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = _read(fd)
                os.close(fd)
                raise self._refusal(holder) from None
            except OSError as error:
                if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS):
                    os.close(fd)
                    raise
            self._fd = fd
            if self._still_ours():
                return fd
            os.close(fd)  # its holder removed it between our open and our lock
            self._fd = None
        raise EnvironmentProblem(f"{self._path} changes hands all the time.")

    def _look_at(self, before: Holder) -> str:
        """A note about a holder that is dead; EnvironmentProblem where it may live."""
        age = self._clock() - before.renewed
        if before.host != self._host:
            if age < STALE_SECONDS:
                raise self._refusal(before)
        elif before.process.alive() and before.process != self._me.process:
            raise self._refusal(before)
        else:
            self._wait_for_leftovers(before)
        ago = f"{max(0.0, age):.0f} s ago"
        return (
            f"took over the model directory of {before.describe()}, which last gave a sign {ago} and is gone"
        )

    def _wait_for_leftovers(self, before: Holder) -> None:
        end = time.monotonic() + LEFTOVER_SECONDS
        while processes_of_run(Path(before.run_dir)):
            if time.monotonic() > end:
                raise EnvironmentProblem(
                    f"model directory {self._model_dir}: its last run, {before.describe()}, is dead, but"
                    f" tasks of it still run. End them with: orchestrator stop {before.run_dir}"
                )
            self._sleep(0.1)

    def _refusal(self, holder: Holder | None) -> EnvironmentProblem:
        who = "another run" if holder is None else holder.describe()
        return EnvironmentProblem(
            f"model directory {self._model_dir} is in use by {who}. Two runs would overwrite each other's"
            " checkpoints: stop that one, or give another --model-dir."
        )

    def _still_ours(self) -> bool:
        assert self._fd is not None
        try:
            there = self._path.stat()
        except OSError:
            return False
        ours = os.fstat(self._fd)
        return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)

    def _write(self) -> None:
        # In place: a rename would leave the lock on a file that nobody opens.
        assert self._fd is not None
        value = {**self._me.as_json(), "renewed": self._clock()}
        text = json.dumps(value, indent=2).encode() + b"\n"
        os.pwrite(self._fd, text, 0)
        os.ftruncate(self._fd, len(text))

    def _close(self) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)


def _read(fd: int) -> Holder | None:
    """What the file says; None where it is empty or half written."""
    try:
        return Holder.from_json(json.loads(os.pread(fd, 65536, 0)))
    except (OSError, ValueError):
        return None
