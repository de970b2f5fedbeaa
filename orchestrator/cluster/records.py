"""What a task tells the launcher, and the launcher a task: environment and files.

The launcher and the training engine share no code but this layer. A task finds
its place by the environment variables named here and leaves its records under
`RUN_DIR/tasks/<task>/`; each record is one JSON file, replaced as a whole.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

from orchestrator.cluster.files import read_json, write_json_atomically
from orchestrator.cluster.task import TaskId

ENV_RUN_DIR = "ORCHESTRATOR_RUN_DIR"
"""Absolute run directory; also the mark by which every process of a run is found."""
ENV_TASK = "ORCHESTRATOR_TASK"
"""The task as printed, `worker-1`."""
ENV_ATTEMPT = "ORCHESTRATOR_ATTEMPT"
"""How often the whole job was started before, from 0."""
ENV_MODEL_DIR = "ORCHESTRATOR_MODEL_DIR"
"""Absolute model directory (a URL is passed through)."""
ENV_DATA_DIR = "ORCHESTRATOR_DATA_DIR"
"""Where prepared data sets lie; unset means TensorFlow Datasets' own default."""
ENV_CONTROL_FD = "ORCHESTRATOR_CONTROL_FD"
"""Number of an inherited pipe: byte `S` asks for checkpoint and stop, end of file means leave now."""
ENV_EVERY_CHECKPOINT = "ORCHESTRATOR_EVERY_CHECKPOINT"
"""Set where every checkpoint is to be evaluated, not only the newest."""
ENV_FAULTS = "ORCHESTRATOR_FAULTS"
"""Set where the run injects faults: experiments then hang at HANG_SIGNAL."""
HANG_SIGNAL = signal.SIGUSR2

CONTROL_STOP = b"S"
"""The byte on the control pipe that asks a task for a checkpoint and a clean end."""


class Phase(str, Enum):
    """What a task is doing; each phase may take its own time before it counts as hung."""

    STARTING = "starting"
    WAITING = "waiting_for_peers"
    STEPPING = "stepping"
    SAVING = "saving"
    EVALUATING = "evaluating"
    EXPORTING = "exporting"
    SERVING = "serving"
    DONE = "done"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class ProgressRecord:
    """How far a task is. Times are seconds since the epoch; rates are per second."""

    phase: Phase
    time: float
    step: int | None = None
    max_steps: int | None = None
    loss: float | None = None
    steps_per_second: float | None = None
    examples_per_second: float | None = None
    checkpoint_step: int | None = None
    """Step of the newest checkpoint that this task knows to be complete."""
    stopped: bool = False
    """The task ended because it was asked to, before `max_steps`."""
    stopped_with_peer: bool = False
    """It was another task that was asked; this one steps together with it."""
    batches: int | None = None
    """Batches of the evaluation under way: they count as progress where no step is taken."""


@dataclass(frozen=True)
class EvaluationRecord:
    """The newest evaluation: metrics as plain floats, without `global_step`."""

    time: float
    global_step: int
    metrics: dict[str, float]
    name: str | None = None
    checkpoint: str | None = None
    final: bool = False
    """This is the evaluation of the last checkpoint: nothing follows."""


@dataclass(frozen=True)
class FailureRecord:
    """The exception that ended a task."""

    time: float
    type: str
    message: str
    traceback: str
    step: int | None = None
    user_error: bool = False
    """A mistake in the input (ConfigError and the like): the message says it all."""


@dataclass(frozen=True)
class ExitRecord:
    """How a task's process ended, written by whoever waited for it."""

    time: float
    attempt: int
    start: int
    """How often this task was started before, from 0."""
    pid: int
    code: int
    """Exit code; 128 + N after signal N, as shells count."""
    signal: int | None = None
    requested: bool = False
    """The launcher had asked the task to end."""
    host_lost: str | None = None
    """What became of the task's host, in words, where the task ended with it."""


Record = TypeVar("Record", ProgressRecord, EvaluationRecord, FailureRecord, ExitRecord)
_FILE_NAMES: dict[type, str] = {
    ProgressRecord: "progress.json",
    EvaluationRecord: "evaluation.json",
    FailureRecord: "failure.json",
    ExitRecord: "exit.json",
}


@dataclass(frozen=True)
class TaskRecords:
    """The records of one task in a run directory."""

    directory: Path

    @staticmethod
    def of(run_dir: Path, task: TaskId) -> TaskRecords:
        """Those of `task`; the directory need not exist yet."""
        return TaskRecords(run_dir / "tasks" / str(task))

    def write(self, record: Record) -> None:
        """Replaces the record of that kind; OSError as the file system raises it."""
        self.directory.mkdir(parents=True, exist_ok=True)
        write_json_atomically(self.directory / _FILE_NAMES[type(record)], asdict(record))

    def read(self, kind: type[Record]) -> Record | None:
        """The record of that kind, or None where there is none (yet)."""
        value = read_json(self.directory / _FILE_NAMES[kind])
        if not isinstance(value, dict):
            return None
        known = {f.name for f in fields(kind)}
        plain: dict[str, Any] = {key: item for key, item in value.items() if key in known}
        try:
            if kind is ProgressRecord and "phase" in plain:
                plain["phase"] = Phase(plain["phase"])
            return kind(**plain)
        except (TypeError, ValueError):
            return None

    def remove(self, kind: type[Record]) -> None:
        """Forgets the record of that kind, so that an old one is not taken for a new one."""
        (self.directory / _FILE_NAMES[kind]).unlink(missing_ok=True)


@dataclass(frozen=True)
class TaskEnvironment:
    """What a task that runs under the launcher is told beside its TF_CONFIG."""

    run_dir: Path
    task: TaskId
    attempt: int
    model_dir: str | None = None
    data_dir: str | None = None
    control_fd: int | None = None
    every_checkpoint: bool = False
    """Every checkpoint is to be evaluated, not only the newest."""
    records: TaskRecords = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "records", TaskRecords.of(self.run_dir, self.task))

    @staticmethod
    def read(environ: Mapping[str, str] | None = None) -> TaskEnvironment | None:
        """Reads the environment; None where the process was not started by the launcher."""
        env = os.environ if environ is None else environ
        if ENV_RUN_DIR not in env or ENV_TASK not in env:
            return None
        control = env.get(ENV_CONTROL_FD)
        return TaskEnvironment(
            run_dir=Path(env[ENV_RUN_DIR]),
            task=TaskId.parse(env[ENV_TASK]),
            attempt=int(env.get(ENV_ATTEMPT, "0")),
            model_dir=env.get(ENV_MODEL_DIR),
            data_dir=env.get(ENV_DATA_DIR),
            control_fd=int(control) if control else None,
            every_checkpoint=bool(env.get(ENV_EVERY_CHECKPOINT)),
        )

    def as_environment(self) -> dict[str, str]:
        """The variables that `read` reads back."""
        values = {
            ENV_RUN_DIR: str(self.run_dir),
            ENV_TASK: str(self.task),
            ENV_ATTEMPT: str(self.attempt),
            ENV_MODEL_DIR: self.model_dir,
            ENV_DATA_DIR: self.data_dir,
            ENV_CONTROL_FD: None if self.control_fd is None else str(self.control_fd),
            ENV_EVERY_CHECKPOINT: "1" if self.every_checkpoint else None,
        }
        return {key: value for key, value in values.items() if value is not None}
