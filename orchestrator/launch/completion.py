"""When a job is over: the states of its tasks give the stage, nothing else does.

Exit codes of the launcher, in one place:

    0     every training task ended with 0, and the evaluator has seen the last checkpoint
    1     the job failed; the verdict names the task that failed first
    2     a file, an option, an argument or the experiment's own input is wrong
    3     the machine lacks what the job needs
    130   stopped by SIGINT (Ctrl-C)
    143   stopped by SIGTERM or SIGHUP
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from orchestrator.cluster.records import ExitRecord
from orchestrator.cluster.task import TaskId, TaskType
from orchestrator.launch.job import StrategyKind

EXIT_SUCCEEDED = 0
EXIT_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_ENVIRONMENT = 3
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143

PREEMPTED_CODES = (42, 143)
"""How TensorFlow programs say "preempted, and a checkpoint is written"."""


class Stage(str, Enum):
    """How far a job is, judged by its tasks alone."""

    TRAINING = "training"
    DRAINING = "draining"
    """Training is over; the evaluator still has the last checkpoint to evaluate."""
    OVER = "over"
    """Nothing is left to wait for; tasks that still run are only to be stopped."""

    def __str__(self) -> str:
        return self.value


def exit_code_after_preparation(record: ExitRecord | None) -> int:
    """The launcher's exit code when the preparation failed: that of the command where it means the same."""
    known = (EXIT_BAD_INPUT, EXIT_ENVIRONMENT)
    return record.code if record is not None and record.code in known else EXIT_FAILED


@dataclass(frozen=True)
class TaskState:
    """What completion needs to know of one task."""

    task: TaskId
    running: bool
    """Running, or about to be restarted."""
    code: int | None = None
    """Exit code of the last start that has ended; None before the first end."""
    given_up: bool = False
    """Nothing waits for it any more: a side-car out of restarts, or out of time."""

    @property
    def done(self) -> bool:
        """Ended with 0 and is not started again."""
        return not self.running and self.code == 0

    @property
    def settled(self) -> bool:
        """Nothing more is to be expected of it."""
        return self.done or self.given_up


def leader(tasks: Sequence[TaskId]) -> TaskId | None:
    """The task that TensorFlow takes for the chief: chief, master, else worker 0."""
    trainers = sorted(task for task in tasks if task.trains)
    return trainers[0] if trainers else None


def deciding_tasks(tasks: Sequence[TaskId], kind: StrategyKind) -> tuple[TaskId, ...]:
    """The tasks whose end is the end of training.

    Under a coordinator only the chief's: its workers and ps are servers that
    never end by themselves. Where no task trains, every task counts but ps.
    """
    first = leader(tasks)
    if first is None:
        others = tuple(task for task in tasks if task.type is not TaskType.PS)
        return others or tuple(tasks)
    if kind is StrategyKind.COORDINATOR:
        return (first,)
    return tuple(task for task in tasks if task.trains)


def stage(states: Sequence[TaskState], kind: StrategyKind) -> Stage:
    """The stage that the states of all tasks amount to."""
    deciding = deciding_tasks([state.task for state in states], kind)
    by_task = {state.task: state for state in states}
    if not all(by_task[task].settled for task in deciding):
        return Stage.TRAINING
    evaluators = [state for state in states if state.task.type is TaskType.EVALUATOR]
    return Stage.OVER if all(state.settled for state in evaluators) else Stage.DRAINING


def to_reap(states: Sequence[TaskState], kind: StrategyKind) -> tuple[TaskId, ...]:
    """Running tasks that have nothing left to do and never end by themselves.

    A coordinator's workers and ps go as soon as the chief is done; other ps
    stay until the evaluator has finished too.
    """
    now = stage(states, kind)
    running = [state.task for state in states if state.running]
    if now is Stage.OVER:
        return tuple(running)
    if now is Stage.DRAINING and kind is StrategyKind.COORDINATOR:
        return tuple(task for task in running if task.type is not TaskType.EVALUATOR)
    return ()


def describe_exit(code: int, number: int | None = None) -> str:
    """An exit code in words: `exit code 1`, `SIGKILL (exit code 137)`."""
    if number is None and code > 128:
        number = code - 128
    if number is not None:
        try:
            return f"{signal.Signals(number).name} (exit code {code})"
        except ValueError:
            pass
    return f"exit code {code}"
