"""A launcher as a user has it: a process of its own, watched through its run directory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from orchestrator.cluster.task import TaskType
from orchestrator.errors import OrchestratorError
from orchestrator.launch.process_tree import processes_of_run
from orchestrator.launch.run_dir import RunDir
from orchestrator.launch.run_state import RunState
from orchestrator.launch.snapshot import RunPhase, Snapshot

LIMIT = 240.0
"""Seconds that anything may take before a test gives up on it; generous, since machines are shared."""
COMMAND_LINE = (sys.executable, "-m", "orchestrator.cli.main")


def orchestrator(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs the command line to its end."""
    return subprocess.run(
        [*COMMAND_LINE, *words], cwd=cwd, capture_output=True, text=True, timeout=LIMIT, check=False
    )


class Launched:
    """`orchestrator run WORDS`, started; killed at the end of the `with` block if it still runs."""

    def __init__(self, cwd: Path, *words: str, env: dict[str, str] | None = None, name: str = "run") -> None:
        self.run_dir = RunDir(cwd / name)
        self.output_path = cwd / f"{name}-output.txt"
        options, command = (words, ()) if "--" not in words else _split(words)
        self.output_path.touch()
        words = (*COMMAND_LINE, "run", *options, "--run-dir", str(self.run_dir.path), *command)
        self.process = self._start(list(words), cwd, {**os.environ, **(env or {})})

    def _start(self, command: list[str], cwd: Path, env: dict[str, str]) -> subprocess.Popen[bytes]:
        with self.output_path.open("wb") as stream:
            return subprocess.Popen(
                command,
                cwd=cwd,
                stdout=stream,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=env,
            )

    def __enter__(self) -> Launched:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait(LIMIT)
        self.wait_until_nothing_is_left()

    @property
    def output(self) -> str:
        return self.output_path.read_text(errors="replace")

    @property
    def summary(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.run_dir.summary.read_text())
        return value

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.run_dir.events.read_text().splitlines()]

    def restarts(self) -> list[str]:
        """What was restarted, in order: a task, or `attempt`."""
        names = {"task_restarting": lambda e: e["task"], "attempt_restarting": lambda e: "attempt"}
        return [names[event["event"]](event) for event in self.events if event["event"] in names]

    def state(self) -> RunState | None:
        """The record in the run directory; None where there is none yet."""
        try:
            return RunState.read(self.run_dir)
        except OrchestratorError:
            return None

    def wait_for(self, what: str, condition: Callable[[RunState, Snapshot], bool]) -> None:
        """Waits until `condition` holds while the launcher lives."""

        def holds() -> bool:
            state = self.state()
            found = state is not None and condition(state, state.snapshot(self.run_dir))
            assert found or self.process.poll() is None, f"the launcher ended before {what}:\n{self.output}"
            return found

        wait_until(holds, lambda: f"{what}; so far:\n{self.output}")

    def wait_for_phase(self, *phases: RunPhase) -> None:
        self.wait_for(f"phase {phases}", lambda state, _: state.phase in phases)

    def wait_for_step(self, step: int, task: str = "chief-0") -> None:
        """Waits until that task has reached that global step."""

        def reached(state: RunState, snapshot: Snapshot) -> bool:
            found = [v.progress for v in snapshot.tasks if str(v.task) == task and v.progress is not None]
            return any(progress.step is not None and progress.step >= step for progress in found)

        self.wait_for(f"step {step} of {task}", reached)

    def wait_for_checkpoint(self, step: int) -> None:
        """Waits until the chief has reported a checkpoint of at least that step: then it is complete."""

        def reached(state: RunState, snapshot: Snapshot) -> bool:
            chiefs = [view.progress for view in snapshot.tasks if view.task.type is TaskType.CHIEF]
            steps = [progress.checkpoint_step for progress in chiefs if progress is not None]
            return any(found is not None and found >= step for found in steps)

        self.wait_for(f"a checkpoint of step {step}", reached)

    def pid_of(self, task: str) -> int:
        """The process of a running task."""
        self.wait_for(f"the process of {task}", lambda state, _: bool(state.tasks.get(task, {}).get("pid")))
        state = self.state()
        assert state is not None
        return int(state.tasks[task]["pid"])

    def kill_task(self, task: str, number: int = signal.SIGKILL) -> None:
        os.kill(self.pid_of(task), number)

    def signal(self, number: int) -> None:
        """Signals the launcher."""
        self.process.send_signal(number)

    def wait(self, limit: float = LIMIT) -> int:
        """The exit code of the launcher, which has `limit` seconds; nothing of the run is left behind it."""
        try:
            code = self.process.wait(limit)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the launcher did not end; its output:\n{self.output}") from None
        left = processes_of_run(self.run_dir.path)
        assert not left, f"left running: {left}"
        return code

    def wait_until_nothing_is_left(self) -> None:
        """For after a SIGKILL of the launcher: the tasks must follow it."""
        wait_until(
            lambda: not processes_of_run(self.run_dir.path),
            lambda: f"end of {processes_of_run(self.run_dir.path)}",
        )


def wait_until(holds: Callable[[], bool], what: Callable[[], str], limit: float = LIMIT) -> None:
    """Waits for a condition; an AssertionError that says what was waited for when it never holds."""
    end = time.monotonic() + limit
    while not holds():
        assert time.monotonic() < end, f"waited {limit:g} s for {what()}"
        time.sleep(0.05)


def _split(words: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    at = words.index("--")
    return words[:at], words[at:]
