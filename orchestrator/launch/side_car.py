"""A program beside a job: started, started again a few times when it ends, and ended with the job.

It is no task: it has no place in the cluster, and whatever becomes of it, the
job goes on.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from orchestrator.launch import process_record
from orchestrator.launch.completion import describe_exit
from orchestrator.launch.run_dir import RunDir

MOST_RESTARTS = 3
RESTART_SECONDS = 2.0
"""Pause before the first restart; it doubles with each."""
GRACE_SECONDS = 3.0
NICENESS = 5
"""It never takes a processor from training."""
_TASK_RUNNER = Path(__file__).with_name("task_runner.py")


class SideCar:
    """One such program, of the run in `run_dir`; `name` is that of its log.

    `beat` is to be called now and then from the thread that made the object,
    since the end of that thread is the end of the program.
    """

    def __init__(
        self, name: str, command: Sequence[str], *, run_dir: Path, environ: Mapping[str, str]
    ) -> None:
        self.name = name
        self.command = tuple(command)
        self.log_path = RunDir(run_dir).logs / f"{name}.log"
        self._run_dir = RunDir(run_dir)
        self._environ = dict(environ)
        self._process: subprocess.Popen[bytes] | None = None
        self._restarts = 0
        self._due: float | None = float("-inf")
        """When it is to be started, in monotonic seconds; None while it runs, or never again."""

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return None if self._process is None else self._process.pid

    def beat(self, now: float) -> str | None:
        """Starts it when that is due; what people should know, or None. `now` is the monotonic clock."""
        if self._process is not None:
            return self._look(self._process, now)
        if self._due is None or now < self._due:
            return None
        self._due = None
        try:
            self._start()
        except OSError as error:
            return f"{self.name} cannot be started: {error.strerror}; training goes on without it"
        return None

    def close(self) -> None:
        """Ends it, with what it has started; may be called twice."""
        process, self._process, self._due = self._process, None, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_SECONDS)
        self._kill_rest(process)

    def _look(self, process: subprocess.Popen[bytes], now: float) -> str | None:
        # Left unreaped for now, so that its id, which names its group, is not given away.
        if os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return None
        self._process = None
        self._kill_rest(process)
        code = process.returncode
        how = describe_exit(128 - code, -code) if code < 0 else describe_exit(code)
        if self._restarts >= MOST_RESTARTS:
            why = f"after {MOST_RESTARTS} restarts; training goes on without it; see {self.log_path}"
            return f"{self.name} ended with {how}, {why}"
        self._due = now + RESTART_SECONDS * 2.0**self._restarts
        self._restarts += 1
        return None

    def _start(self) -> None:
        runner = [sys.executable, "-I", "-S", str(_TASK_RUNNER), str(os.getpid()), "--", *self.command]
        log = os.open(self.log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._process = subprocess.Popen(
                runner,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environ,
                cwd=self._run_dir.path,
                start_new_session=True,
            )
        finally:
            os.close(log)
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, self._process.pid, NICENESS)
        with contextlib.suppress(OSError):
            process_record.record(self._run_dir.processes, self.name, self._process.pid)

    @staticmethod
    def _kill_rest(process: subprocess.Popen[bytes]) -> None:
        """Kills whatever is left of its session, itself among it; only then its id may be given away."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
