"""The run directory: every path of a run, in one place.

RUN_DIR/
  plan.json             the resolved plan of the newest attempt, TF_CONFIG of each task among it
  plan-<attempt>.json   that of each attempt, from 0
  experiment.json       what the train-and-evaluate program is to do (experiments only)
  launcher.json         pid, start time and boot id of the launcher, and its state
  events.jsonl          what happened, one object a line
  processes.jsonl       pid, start time and boot id of each process that was started on this machine
  resources.jsonl       samples of CPU, memory and GPU memory by task
  verdict.json          the first failure, its victims, and what was restarted
  summary.json          metrics, global_step, wall_seconds, exit and peak memory by task
  logs/<task>.log       output of a task, all starts after each other, marked from the second on
  tasks/<task>/         the records of `orchestrator.cluster.records`
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from orchestrator.cluster.records import TaskRecords
from orchestrator.cluster.task import TaskId
from orchestrator.errors import RunDirectoryError


@dataclass(frozen=True)
class RunDir:
    """Paths of one run."""

    path: Path

    @property
    def plan(self) -> Path:
        return self.path / "plan.json"

    def plan_of(self, attempt: int) -> Path:
        """The plan of one attempt, from 0."""
        return self.path / f"plan-{attempt}.json"

    @property
    def experiment(self) -> Path:
        return self.path / "experiment.json"

    @property
    def launcher(self) -> Path:
        return self.path / "launcher.json"

    @property
    def events(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def resources(self) -> Path:
        return self.path / "resources.jsonl"

    @property
    def processes(self) -> Path:
        return self.path / "processes.jsonl"

    @property
    def verdict(self) -> Path:
        return self.path / "verdict.json"

    @property
    def summary(self) -> Path:
        return self.path / "summary.json"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    def log(self, task: TaskId) -> Path:
        """The log file of one task."""
        return self.logs / f"{task}.log"

    @property
    def preparation_log(self) -> Path:
        return self.logs / "prepare.log"

    @property
    def warm_parent_log(self) -> Path:
        return self.logs / "warm-parent.log"

    @property
    def tensorboard_log(self) -> Path:
        return self.logs / "tensorboard.log"

    def records(self, task: TaskId) -> TaskRecords:
        """The records of one task."""
        return TaskRecords.of(self.path, task)

    def create(self) -> None:
        """Makes the directories, readable by their owner only.

        Raises RunDirectoryError when they cannot be made, or when another run has left its records there.
        """
        if self.launcher.exists():
            raise RunDirectoryError(
                f"run directory {self.path} already holds a run;"
                " give another --run-dir, or leave it out for a new one."
            )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self.path.chmod(0o700)
            self.logs.mkdir(exist_ok=True)
            (self.path / "tasks").mkdir(exist_ok=True)
        except OSError as error:
            raise RunDirectoryError(f"cannot make run directory {self.path}: {error.strerror}.") from error

    def create_records(self, tasks: Iterable[TaskId]) -> None:
        """Makes the record directory of every task, so that each task sees from the start who takes part.

        Raises RunDirectoryError when one cannot be made.
        """
        for task in tasks:
            directory = self.records(task).directory
            try:
                directory.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise RunDirectoryError(f"cannot make {directory}: {error.strerror}.") from error
