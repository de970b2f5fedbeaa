"""The state of a run at one moment: what displays and `status` show."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from orchestrator.cluster.records import EvaluationRecord, ProgressRecord
from orchestrator.cluster.task import TaskId
from orchestrator.launch.completion import leader
from orchestrator.launch.events import RunEvent
from orchestrator.launch.task_table import TaskRow


class RunPhase(str, Enum):
    """What the launcher is doing; the value stands in `launcher.json`."""

    PLANNING = "planning"
    PREPARING = "preparing"
    RUNNING = "running"
    DRAINING = "draining"
    """Training is over; the evaluator has the last checkpoint to evaluate."""
    RESTARTING = "restarting"
    STOPPING = "stopping"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"

    def __str__(self) -> str:
        return self.value

    @property
    def final(self) -> bool:
        """Nothing happens after it."""
        return self in (RunPhase.SUCCEEDED, RunPhase.FAILED, RunPhase.STOPPED)


@dataclass(frozen=True)
class TaskView:
    """One task as it is shown."""

    task: TaskId
    state: str
    """`waiting`, `running`, `restarting`, `done`, `failed` or `stopped`."""
    pid: int | None = None
    starts: int = 0
    code: int | None = None
    address: str | None = None
    host: str = ""
    """Where it runs, as the cluster file calls it."""
    progress: ProgressRecord | None = None
    evaluation: EvaluationRecord | None = None

    @staticmethod
    def of(row: TaskRow) -> TaskView:
        return TaskView(
            task=row.task,
            state=_state_word(row),
            pid=row.pid if row.running else None,
            starts=row.starts,
            code=row.exit.code if row.exit is not None else None,
            address=row.plan.address,
            host=row.plan.host,
            progress=row.progress,
            evaluation=row.evaluation,
        )


@dataclass(frozen=True)
class Snapshot:
    """All tasks at one moment. Durations are seconds."""

    phase: RunPhase
    attempt: int
    tasks: tuple[TaskView, ...]
    stop_seconds_left: float | None = None
    """While tasks are asked to stop: how long until they are killed."""
    saves: bool = False
    """Training tasks write a checkpoint when they are asked to stop."""

    @staticmethod
    def of(phase: RunPhase, attempt: int, rows: Iterable[TaskRow]) -> Snapshot:
        return Snapshot(phase, attempt, tuple(TaskView.of(row) for row in rows))

    @property
    def lead(self) -> ProgressRecord | None:
        """Progress of the chief, else of the training task that is furthest."""
        first = leader([view.task for view in self.tasks])
        for view in self.tasks:
            if view.task == first and view.progress is not None:
                return view.progress
        found = [view.progress for view in self.tasks if view.task.trains and view.progress is not None]
        return max(found, key=lambda progress: progress.step or 0, default=None)

    @property
    def step(self) -> int | None:
        """The furthest global step that a training task reported."""
        steps = [
            v.progress.step
            for v in self.tasks
            if v.task.trains and v.progress and v.progress.step is not None
        ]
        return max(steps, default=None)

    @property
    def evaluation(self) -> EvaluationRecord | None:
        """The evaluation of the furthest step."""
        found = [view.evaluation for view in self.tasks if view.evaluation is not None]
        return max(found, key=lambda item: (item.global_step, item.time), default=None)

    @property
    def seconds_left(self) -> float | None:
        """Estimated time until `max_steps`, where a rate is known."""
        lead, step = self.lead, self.step
        if lead is None or step is None or lead.max_steps is None or not lead.steps_per_second:
            return None
        return max(0.0, (lead.max_steps - step) / lead.steps_per_second)


class Observer(Protocol):
    """Who is told what happens; called from the supervisor's loop, so it must not block."""

    def event(self, event: RunEvent) -> None:
        """Something happened."""

    def output(self, source: str, text: str) -> None:
        """A task, or `prepare`, wrote whole lines."""

    def progress(self, snapshot: Snapshot) -> None:
        """The state of the run, about twice a second."""


class SilentObserver:
    """Tells nobody."""

    def event(self, event: RunEvent) -> None:
        """Ignored."""

    def output(self, source: str, text: str) -> None:
        """Ignored."""

    def progress(self, snapshot: Snapshot) -> None:
        """Ignored."""


def _state_word(row: TaskRow) -> str:
    if row.running:
        return "running"
    if row.restart_at is not None:
        return "restarting"
    if row.exit is None:
        return "stopped" if row.ended_by_us else "waiting"
    if row.exit.code == 0:
        return "done"
    return "stopped" if row.ended_by_us else "failed"
