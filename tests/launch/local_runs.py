"""Running small programs through the local launcher."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent
from typing import Any

from orchestrator.cluster.records import ExitRecord
from orchestrator.cluster.task import TaskId, TaskType
from orchestrator.launch.job import Job, LaunchPlan, StrategyKind, TaskRequest
from orchestrator.launch.launcher import (
    Launcher,
    LauncherNote,
    TaskEvent,
    TaskExited,
    TaskOutput,
    TaskStarted,
)
from orchestrator.launch.local import LocalLauncher
from orchestrator.launch.process_tree import processes_of_run
from orchestrator.launch.run_dir import RunDir

LIMIT = 240.0
"""Seconds that anything here may take on a busy machine."""
CHIEF = TaskId(TaskType.CHIEF, 0)
WORKER = TaskId(TaskType.WORKER, 0)


def write_program(folder: Path, text: str, name: str = "program.py") -> Path:
    """Writes a program, its text indented as it stands in the test."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dedent(text))
    return path


def local_job(
    folder: Path,
    command: Sequence[str],
    env: Mapping[TaskType, Mapping[str, str]] | None = None,
    *,
    options: Mapping[str, Any] | None = None,
    **replicas: int,
) -> Job:
    """A job that runs `command` in `folder`; one chief unless `replicas` says otherwise."""
    run = RunDir(folder / "run")
    if not run.path.exists():
        run.create()
    wanted = replicas or {"chief": 1}
    return Job(
        name="test",
        tasks={
            TaskType(name): TaskRequest(count, env=(env or {}).get(TaskType(name), {}))
            for name, count in wanted.items()
        },
        command=tuple(command),
        strategy=StrategyKind.UNKNOWN,
        run_dir=run.path,
        working_dir=folder,
        model_dir=str(folder / "model"),
        launcher_options=options or {},
    )


@contextmanager
def launcher(job: Job, **arguments: Any) -> Iterator[LocalLauncher]:
    """A launcher whose warm parent imports nothing heavy; asserts that it leaves no process behind."""
    made = LocalLauncher(job.run_dir, **{"imports": ("json",), **arguments})
    try:
        yield made
    finally:
        made.close()
        made.close()
    assert processes_of_run(job.run_dir) == []


class Watch:
    """Everything that a launcher has said so far."""

    def __init__(self, source: Launcher) -> None:
        self.source = source
        self.events: list[TaskEvent] = []

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Polls until `condition` holds; fails after LIMIT seconds."""
        end = time.monotonic() + LIMIT
        while not condition():
            assert time.monotonic() < end, f"{what}: not within {LIMIT} s; so far: {self.events}"
            self.events += self.source.poll(0.1)

    def until_output(self, task: TaskId, text: str) -> None:
        self.until(lambda: text in self.output(task), f"'{text}' from {task}")

    def until_exited(self, tasks: Collection[TaskId], times: int = 1) -> None:
        names = sorted(map(str, tasks))
        self.until(lambda: all(len(self.exits(task)) >= times for task in tasks), f"exit of {names}")

    def output(self, task: TaskId) -> str:
        return "".join(e.text for e in self.events if isinstance(e, TaskOutput) and e.task == task)

    def exits(self, task: TaskId) -> list[ExitRecord]:
        return [e.record for e in self.events if isinstance(e, TaskExited) and e.task == task]

    def starts(self, task: TaskId) -> list[TaskStarted]:
        return [e for e in self.events if isinstance(e, TaskStarted) and e.task == task]

    def notes(self) -> list[str]:
        return [e.text for e in self.events if isinstance(e, LauncherNote)]


def run_to_end(job: Job, **arguments: Any) -> tuple[LaunchPlan, Watch]:
    """Plans and runs a job until all of its tasks have ended."""
    with launcher(job, **arguments) as made:
        plan = made.plan(job, 0)
        watch = Watch(made)
        made.submit(plan)
        watch.until_exited([p.task for p in plan.tasks])
    return plan, watch


def python(*arguments: str | Path) -> tuple[str, ...]:
    """A command that is forked."""
    return (sys.executable, *map(str, arguments))


def alive(pid: int) -> bool:
    """Whether a process lives; a zombie does not, nor what is just being removed."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Waits for a state that no launcher reports."""
    end = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {LIMIT} s"
        time.sleep(0.02)


def environment(**extra: str) -> dict[str, str]:
    """The environment of the test, with more variables."""
    return {**os.environ, **extra}
