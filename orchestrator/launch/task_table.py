"""What the supervisor knows of each task of a run."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

from orchestrator.cluster.records import EvaluationRecord, ExitRecord, ProgressRecord
from orchestrator.cluster.task import TaskId, TaskType
from orchestrator.launch.completion import TaskState
from orchestrator.launch.job import Job, LaunchPlan, TaskPlan
from orchestrator.launch.log_stream import LogMark
from orchestrator.launch.root_cause import FailureKind
from orchestrator.launch.run_dir import RunDir


@dataclass
class TaskRow:
    """One task: its process now, and what its earlier ones left."""

    plan: TaskPlan
    starts: int = 0
    """How often it was started."""
    running: bool = False
    pid: int | None = None
    exit: ExitRecord | None = None
    started_at: float = 0.0
    """Monotonic seconds of the last start."""
    restart_at: float | None = None
    """Monotonic seconds at which it is to be started again, where that is decided."""
    log_start: LogMark = field(default_factory=LogMark)
    """The end of its log when it was last started."""
    checkpoint_at_start: int | None = None
    first_step: int | None = None
    """First global step that it reported since its last start."""
    progress: ProgressRecord | None = None
    evaluation: EvaluationRecord | None = None
    stop_requested: bool = False
    """The supervisor asked this start to end."""
    end_reason: str | None = None
    """Why the supervisor ended it against its will (a time limit)."""
    end_kind: FailureKind = FailureKind.HANG
    """The kind of failure that goes with `end_reason`."""
    hopeless: str | None = None
    """Why a restart would only bring the same end."""
    given_up: bool = False
    out_of_reach: bool = False
    """Its host does not answer at present."""
    suspended: bool = False
    """SIGSTOP holds its process."""
    ended_by_us: bool = False
    """Ended on request, after which nothing is to be judged."""

    @property
    def task(self) -> TaskId:
        return self.plan.task

    @property
    def stepped(self) -> bool:
        """It took a step since its last start."""
        if self.progress is None or self.progress.step is None or self.first_step is None:
            return False
        # A step leaves its loss: also one that was over when its record was first seen.
        return self.progress.step > self.first_step or self.progress.loss is not None

    @property
    def state(self) -> TaskState:
        """What completion is told of it."""
        code = self.exit.code if self.exit is not None else None
        if code == 0 and self.end_reason is not None:
            code = 1  # it left too early
        return TaskState(self.task, self.running or self.restart_at is not None, code, self.given_up)


class TaskTable:
    """All rows of a run, by task, in the order in which tasks are shown."""

    def __init__(self, plan: LaunchPlan, run_dir: RunDir, resumed_step: int | None = None) -> None:
        """`resumed_step`: of the checkpoint that the model directory holds before the run."""
        self._run_dir = run_dir
        self._resumed_step = resumed_step
        self._rows = {task.task: TaskRow(task) for task in sorted(plan.tasks, key=lambda item: item.task)}
        self.checkpoint_step: int | None = None
        """Step of the newest checkpoint that any task reported."""

    def __iter__(self) -> Iterator[TaskRow]:
        return iter(self._rows.values())

    def __getitem__(self, task: TaskId) -> TaskRow:
        return self._rows[task]

    def __contains__(self, task: object) -> bool:
        return task in self._rows

    @property
    def states(self) -> tuple[TaskState, ...]:
        return tuple(row.state for row in self)

    @property
    def running(self) -> tuple[TaskId, ...]:
        return tuple(row.task for row in self if row.running)

    @property
    def trainers(self) -> tuple[TaskRow, ...]:
        return tuple(row for row in self if row.task.trains)

    def replan(self, plan: LaunchPlan) -> None:
        """Takes over the plan of a new attempt."""
        for task in plan.tasks:
            self._rows[task.task].plan = task

    def starting(self, tasks: Collection[TaskId], now: float) -> None:
        """Notes that `tasks` are about to be started, and forgets how they ended before."""
        for task in tasks:
            row = self._rows[task]
            row.starts += 1
            row.running, row.pid, row.exit = True, None, None
            row.started_at, row.restart_at = now, None
            row.log_start = LogMark.end_of(row.plan.log_path)
            known = self.checkpoint_step
            row.checkpoint_at_start = known if known is not None else self._resumed_step
            row.first_step, row.progress = None, None
            row.stop_requested = row.given_up = row.ended_by_us = False
            row.out_of_reach = row.suspended = False
            row.end_reason = row.hopeless = None
            row.end_kind = FailureKind.HANG

    def ended(self, task: TaskId, record: ExitRecord) -> TaskRow:
        """Notes the end of a task's process."""
        row = self._rows[task]
        row.running, row.out_of_reach, row.suspended, row.exit = False, False, False, record
        row.ended_by_us = row.stop_requested
        self.read_records()  # of all: the decision hangs on what another has saved meanwhile
        return row

    def read_records(self, rows: Iterable[TaskRow] | None = None) -> None:
        """Reads what the tasks report on disk."""
        for row in self if rows is None else rows:
            records = self._run_dir.records(row.task)
            progress = records.read(ProgressRecord)
            if progress is not None:
                row.progress = progress
                if row.first_step is None and progress.step is not None:
                    row.first_step = progress.step
                self._see_checkpoint(progress.checkpoint_step)
            row.evaluation = records.read(EvaluationRecord) or row.evaluation

    def _see_checkpoint(self, step: int | None) -> None:
        if step is not None and (self.checkpoint_step is None or step > self.checkpoint_step):
            self.checkpoint_step = step

    @property
    def newest_evaluation(self) -> EvaluationRecord | None:
        """The evaluation of the furthest step, whoever made it."""
        found = [row.evaluation for row in self if row.evaluation is not None]
        return max(found, key=lambda item: (item.global_step, item.time), default=None)

    @property
    def global_step(self) -> int | None:
        """The furthest step that any training task reported."""
        steps = [row.progress.step for row in self.trainers if row.progress and row.progress.step is not None]
        return max(steps, default=None)

    def already_trained(self) -> tuple[int, int] | None:
        """(step, max_steps) where training had nothing to do from the very start."""
        records = [row.progress for row in self.trainers if row.progress is not None]
        if not records or any(record.loss is not None for record in records):  # a step leaves its loss
            return None
        record = self.trainers[0].progress
        if record is None or record.step is None or record.max_steps is None or self.trainers[0].starts != 1:
            return None
        return (record.step, record.max_steps) if record.step >= record.max_steps else None

    def saves(self, job: Job) -> bool:
        """Whether training tasks write a checkpoint when they are asked to stop, as far as is known."""
        return job.is_experiment or self.checkpoint_step is not None

    def of_type(self, task_type: TaskType) -> tuple[TaskRow, ...]:
        return tuple(row for row in self if row.task.type is task_type)
