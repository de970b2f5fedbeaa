"""Tasks that end with exit code 0 although the job still needs them: that is a failure too. Pure.

A server (a ps; a worker under a coordinator) has work as long as somebody
trains: without it the others wait for ever. A training task of an experiment
says so when it is done; one that ends without a word has left in the middle,
by a `sys.exit()` somewhere in the program or in a library.
"""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.cluster.records import Phase
from orchestrator.cluster.task import TaskId, TaskType
from orchestrator.launch import completion
from orchestrator.launch.completion import Stage
from orchestrator.launch.job import Job, StrategyKind
from orchestrator.launch.root_cause import FailureKind
from orchestrator.launch.task_table import TaskRow, TaskTable

FOREIGN_SECONDS = 10.0
"""How long a server of a program that is not ours may be gone: it may know before us that all is done."""
_TRAINING = (Phase.STARTING, Phase.WAITING, Phase.STEPPING, Phase.SAVING)
"""What a task is in the middle of, when it has not said that it is done."""


class EarlyExits:
    """Looks for them at every turn of the supervisor."""

    def __init__(self, job: Job, table: TaskTable) -> None:
        self._job = job
        self._table = table
        self._gone_since: dict[tuple[TaskId, int], float] = {}

    def blame(self, now: float) -> None:
        """Makes failures of them; `now` is monotonic seconds."""
        for row in self._table:
            if not _left_well(row):
                continue
            if _left_in_the_middle(row, self._table, self._job):
                _blame(row, f"ended with exit code 0 in the middle of training{_where(row)}")
            elif self._is_missed(row):
                since = self._gone_since.setdefault((row.task, row.starts), now)
                if now - since >= (0.0 if self._job.is_experiment else FOREIGN_SECONDS):
                    _blame(row, "ended with exit code 0 while others still needed it")

    def explain_loss(self) -> bool:
        """Blames a server that left before somebody lost a peer; whether there is one."""
        for row in self._table:
            if _left_well(row) and self._serves(row.task):
                _blame(row, "ended with exit code 0 while others still needed it")
                return True
        return False

    def _serves(self, task: TaskId) -> bool:
        coordinated = self._job.strategy is StrategyKind.COORDINATOR
        return task.type is TaskType.PS or (coordinated and task.type is TaskType.WORKER)

    def _is_missed(self, row: TaskRow) -> bool:
        """It is a server, and somebody whom it serves still runs."""
        if not self._serves(row.task):
            return False
        if completion.stage(self._table.states, self._job.strategy) is not Stage.TRAINING:
            return False
        deciding = completion.deciding_tasks([other.task for other in self._table], self._job.strategy)
        return any(self._table[task].running for task in deciding if task != row.task)


def _left_well(row: TaskRow) -> bool:
    if row.running or row.exit is None or row.restart_at is not None or row.end_reason is not None:
        return False
    return row.exit.code == 0 and not row.ended_by_us and not row.given_up


def _left_in_the_middle(row: TaskRow, rows: Iterable[TaskRow], job: Job) -> bool:
    if not job.is_experiment or not row.task.trains:
        return False
    together = job.strategy in (StrategyKind.SYNCHRONOUS, StrategyKind.UNKNOWN)
    if together and sum(other.task.trains for other in rows) > 1:
        return False  # `uneven_data` knows more about it
    record = row.progress
    return record is None or (record.phase in _TRAINING and not record.stopped)


def _where(row: TaskRow) -> str:
    record = row.progress
    if record is None or record.step is None:
        return ""
    return (
        f" (step {record.step})"
        if record.max_steps is None
        else f" (step {record.step} of {record.max_steps})"
    )


def _blame(row: TaskRow, reason: str) -> None:
    row.end_reason, row.end_kind = reason, FailureKind.EXIT_CODE
