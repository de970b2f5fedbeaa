"""What is to be started: a job, and the plan of one attempt at it."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any

from orchestrator.cluster.records import Phase
from orchestrator.cluster.secrets import Masker
from orchestrator.cluster.spec import ClusterSpec
from orchestrator.cluster.task import TaskId, TaskType


class StartMethod(str, Enum):
    """How a task's process comes to be."""

    FORK = "fork"
    """Forked from the warm parent, which has imported TensorFlow, and run as `__main__`."""
    EXEC = "exec"
    """A new program."""

    def __str__(self) -> str:
        return self.value


class StrategyKind(str, Enum):
    """What a lost task means to the others."""

    SINGLE = "single"
    """One training process: none, one device, mirrored, central storage."""
    SYNCHRONOUS = "synchronous"
    """Tasks step together in collectives: multi-worker mirrored."""
    ASYNCHRONOUS = "asynchronous"
    """Between-graph parameter servers: every task steps alone."""
    COORDINATOR = "coordinator"
    """Eager ParameterServerStrategy: the chief drives workers and ps."""
    UNKNOWN = "unknown"
    """A command whose strategy was not declared: treated as synchronous."""

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class TaskRequest:
    """How many tasks of one type, and what each is given."""

    replicas: int
    hosts: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    cpus: float | None = None
    memory_bytes: int | None = None
    gpus: int | None = None
    command: tuple[str, ...] | None = None
    """Overrides the job's command for this type."""


@dataclass(frozen=True)
class HangLimits:
    """How long a task may stay in each phase without progress, in seconds; None: for ever.

    Progress is another step, another phase, another checkpoint or another batch
    of an evaluation. Before its first step `RunPolicy.start_timeout_seconds` holds.
    """

    stepping: float | None = 600.0
    saving: float | None = 1800.0
    evaluating: float | None = 1800.0
    exporting: float | None = 1800.0
    waiting_for_peers: float | None = 1800.0
    """After its first step."""
    done: float | None = 600.0
    """Its work is done, and its process does not end."""
    suspended: float | None = 30.0
    """SIGSTOP holds its process, in whatever phase."""

    def of(self, phase: Phase) -> float | None:
        """The limit of a phase; None where there is none."""
        limit: float | None = getattr(self, phase.value, None)
        return limit


@dataclass(frozen=True)
class RunPolicy:
    """When to restart, and how long to wait. Durations are seconds."""

    max_restarts: int = 3
    restart_delay_seconds: float = 1.0
    grace_seconds: float = 30.0
    """From the request to stop until SIGKILL."""
    start_timeout_seconds: float = 1800.0
    """From the start of a task until its first step, where it keeps a progress record."""
    hang_seconds: HangLimits = field(default_factory=HangLimits)
    """From one sign of progress to the next, by phase."""
    drain_timeout_seconds: float = 600.0
    """For the evaluator, after training has ended, to evaluate the last checkpoint."""
    total_timeout_seconds: float | None = None
    evaluate_every_checkpoint: bool = False
    """Every checkpoint is evaluated, not only the newest; experiments only."""
    evaluator_may_fail: bool = True
    """The job succeeds without the evaluation of the last checkpoint, and says so."""
    restart: Mapping[TaskType, str] = field(default_factory=dict)
    """`task`, `attempt` or `never` by task type, where the strategy's own choice is not wanted."""


@dataclass(frozen=True)
class LogLimits:
    """When the log of a task is put aside for a new one."""

    max_bytes: int | None = 100 * 2**20
    """None: never."""
    keep: int = 3
    """So many older ones stay beside it, as `<task>.log.1` (the newest) and on."""


@dataclass(frozen=True)
class Job:
    """One command on one cluster. Pure data: can be rendered, saved and compared."""

    name: str
    tasks: Mapping[TaskType, TaskRequest]
    command: tuple[str, ...]
    strategy: StrategyKind
    run_dir: Path
    working_dir: Path
    model_dir: str
    data_dir: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    secret_env: tuple[str, ...] = ()
    """Variables whose values are never shown, beside those whose names say so."""
    start_method: StartMethod | None = None
    """None: fork where no GPU is visible, exec where one is."""
    isolated: bool = False
    """All processes of the job have a private network, which nothing outside can reach."""
    prepare_command: tuple[str, ...] | None = None
    """Run once, to its end, before the tasks start (data preparation)."""
    is_experiment: bool = False
    """The command is our own train-and-evaluate program, which keeps progress and evaluation records."""
    launcher_options: Mapping[str, Any] = field(default_factory=dict)
    policy: RunPolicy = field(default_factory=RunPolicy)
    log_limits: LogLimits = field(default_factory=LogLimits)

    def masker(self, environ: Mapping[str, str] | None = None) -> Masker:
        """What hides the secrets of the job and of `environ` (that of this process by default)."""
        of_tasks = (request.env for request in self.tasks.values())
        return Masker([os.environ if environ is None else environ, self.env, *of_tasks], self.secret_env)

    @property
    def size(self) -> int:
        """Number of tasks."""
        return sum(request.replicas for request in self.tasks.values())


@dataclass(frozen=True)
class TaskPlan:
    """Everything about the start of one task."""

    task: TaskId
    host: str
    address: str | None
    """`host:port` in the cluster; None for a task without one."""
    env: Mapping[str, str]
    """What is set for this task beside what it inherits (TF_CONFIG among it)."""
    command: tuple[str, ...]
    start_method: StartMethod
    why: str
    """Why that start method, in one clause for people."""
    log_path: Path

    @property
    def tf_config(self) -> str | None:
        """The exact TF_CONFIG string, or None for a lone process."""
        return self.env.get("TF_CONFIG")


@dataclass(frozen=True)
class LaunchPlan:
    """One attempt at a job, resolved: what `submit` will do and nothing else."""

    job: Job
    attempt: int
    cluster: ClusterSpec | None
    """None for a lone process, which has no TF_CONFIG."""
    tasks: tuple[TaskPlan, ...]
    launcher: str
    notes: tuple[str, ...] = ()
    away: frozenset[TaskId] = frozenset()
    """Side-cars that cannot be started with the others: no host is there for them at present."""

    def moved(self, other: LaunchPlan, tasks: Collection[TaskId]) -> LaunchPlan:
        """This plan with another one's cluster and parts for `tasks`."""
        parts = tuple(other.task(part.task) if part.task in tasks else part for part in self.tasks)
        return replace(self, cluster=other.cluster, tasks=parts, away=self.away.difference(tasks))

    def task(self, task: TaskId) -> TaskPlan:
        """The plan of one task; KeyError when it is not part of the attempt."""
        for plan in self.tasks:
            if plan.task == task:
                return plan
        raise KeyError(str(task))
