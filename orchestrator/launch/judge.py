"""Which failed tasks are to be decided upon now, and what is decided: no action here."""

from __future__ import annotations

import random
import signal
from dataclasses import dataclass

from orchestrator.cluster.task import TaskId, TaskType
from orchestrator.launch import completion, restart, uneven_data
from orchestrator.launch.completion import Stage
from orchestrator.launch.early_exit import EarlyExits
from orchestrator.launch.incidents import failure_of, task_end
from orchestrator.launch.job import Job
from orchestrator.launch.oom import OomEvidence, OomWatch
from orchestrator.launch.restart import Action, Decision
from orchestrator.launch.root_cause import THIS_MACHINE, RootCause, TaskEnd, find_root_cause
from orchestrator.launch.run_dir import RunDir
from orchestrator.launch.task_table import TaskRow, TaskTable

KILLED_CODE = 137
"""What a shell makes of SIGKILL."""
SETTLE_SECONDS = 5.0
"""How long a failure that reads like a lost peer waits for the task that failed first to show itself."""
VICTIM_WINDOW_SECONDS = 60.0
"""How long after another task's failure a lost connection is put down to it."""


@dataclass(frozen=True)
class Judgement:
    """A decision about one failed task, and all failures that were known when it was made."""

    row: TaskRow
    end: TaskEnd
    decision: Decision
    ends: tuple[TaskEnd, ...]

    @property
    def user_error(self) -> bool:
        return RootCause(self.end).user_error


class Judge:
    """Keeps the history of a run's failures and asks the restart policy about each new one."""

    def __init__(self, job: Job, table: TaskTable, rng: random.Random) -> None:
        self._job = job
        self._run_dir = RunDir(job.run_dir)
        self._table = table
        self._rng = rng
        self._history: list[restart.Failure] = []
        self._failed_at: dict[TaskId, float] = {}
        self._suspect_since: float | None = None
        self._oom = OomWatch()
        self._early_exits = EarlyExits(job, table)

    def judge(self, now: float) -> list[Judgement]:
        """Decisions about the failures that are open, the first cause first.

        A decision about a whole attempt, or about the job, is the last of the
        list: it settles whatever else is open.
        """
        self._early_exits.blame(now)
        failed = [row for row in self._table if _is_open(row)]
        found = [
            self._decide(row, self.end_of(row), now, victim=False, ends=())
            for row in failed
            if row.task.type is TaskType.EVALUATOR
        ]
        others = [row for row in failed if row.task.type is not TaskType.EVALUATOR]
        if others and completion.stage(self._table.states, self._job.strategy) is Stage.TRAINING:
            found += self._judge_cluster(others, now)
        return found

    def end_of(self, row: TaskRow) -> TaskEnd:
        """What a task left behind."""
        record = row.exit
        killed = record is not None and (record.signal == signal.SIGKILL or record.code == KILLED_CODE)
        killed &= row.plan.host in THIS_MACHINE
        oom = self._oom.evidence(record.pid) if record is not None and killed else OomEvidence.NONE
        return task_end(row, self._run_dir, oom)

    def failures(self) -> tuple[TaskEnd, ...]:
        """The ends of all tasks that failed by themselves, as known now."""
        rows = [row for row in self._table if not row.given_up]
        return tuple(end for end in map(self.end_of, rows) if end.failed)

    def _judge_cluster(self, failed: list[TaskRow], now: float) -> list[Judgement]:
        ends = tuple(
            end
            for end in self.failures()
            if end.task.type is not TaskType.EVALUATOR and not self._table[end.task].ended_by_us
        )
        cause = find_root_cause(ends)
        bereft = cause is not None and cause.end.looks_like_victim
        if bereft and (self._note_uneven_data() or self._early_exits.explain_loss()):
            return self._judge_cluster([row for row in self._table if _is_open(row)], now)
        if cause is None or self._wait_for_culprit(cause, now):
            return []
        by_task = {end.task: end for end in ends}
        found: list[Judgement] = []
        for row in self._in_order(failed, cause):
            end = by_task[row.task]
            lost_peer = end.looks_like_victim and (
                row.task != cause.task or self._others_failed(row.task, now)
            )
            lost_peer |= end.stopped_itself and cause.end.lost_with_host
            lost_peer |= end.went_with(cause.end)
            found.append(self._decide(row, end, now, victim=lost_peer, ends=ends))
            if found[-1].decision.action in (Action.RESTART_ATTEMPT, Action.GIVE_UP):
                break
        return found

    def _note_uneven_data(self) -> bool:
        """Whether the others have lost a task that ended early with success: then that one is at fault."""
        row = uneven_data.early_end(self._table, self._job.strategy)
        if row is None or row.end_reason is not None:
            return False
        uneven_data.blame(row, self._table)
        return True

    def _in_order(self, failed: list[TaskRow], cause: RootCause) -> list[TaskRow]:
        """The first cause first, also one that has recorded its exception and hangs on its way out."""
        rows = sorted(failed, key=lambda row: row.task != cause.task)
        first = self._table[cause.task]
        alone = restart.scope(first.task, self._job.strategy, self._job.policy) is Action.RESTART_TASK
        return [first, *rows] if first not in rows and not alone else rows

    def _wait_for_culprit(self, cause: RootCause, now: float) -> bool:
        """Whether the failures so far are given time to be explained, or to be completed."""
        running = self._table.running
        leaving = cause.task in running  # its exception is recorded, its process is about to end
        others = [task for task in running if task.type is not TaskType.EVALUATOR]
        silent = any(self._table[task].out_of_reach for task in others)
        puzzling = cause.end.looks_like_victim or (silent and cause.end.stopped_itself)
        unexplained = puzzling and others and not self._others_failed(cause.task, now)
        if not leaving and not unexplained:
            self._suspect_since = None
            return False
        if unexplained and silent:
            self._suspect_since = None  # their launcher will tell, or they are back
            return True
        if self._suspect_since is None:
            self._suspect_since = now
        if now - self._suspect_since < SETTLE_SECONDS:
            return True
        self._suspect_since = None
        return False

    def _others_failed(self, task: TaskId, now: float) -> bool:
        """Whether another task failed, for a reason of its own, a short while ago."""
        return any(t != task and now - at <= VICTIM_WINDOW_SECONDS for t, at in self._failed_at.items())

    def _decide(
        self, row: TaskRow, end: TaskEnd, now: float, *, victim: bool, ends: tuple[TaskEnd, ...]
    ) -> Judgement:
        failure = failure_of(
            row,
            end,
            keeps_records=self._job.is_experiment,
            checkpoint_step=self._table.checkpoint_step,
            victim=victim,
        )
        decision = restart.decide(failure, self._history, self._job.strategy, self._job.policy, self._rng)
        self._history.append(failure)
        if not victim:
            self._failed_at[row.task] = now
        return Judgement(row, end, decision, ends or (end,))


def _is_open(row: TaskRow) -> bool:
    """It ended badly, against our will, and nothing is decided about it yet."""
    if row.running or row.exit is None or row.restart_at is not None:
        return False
    if row.ended_by_us or row.given_up:
        return False
    return row.exit.code != 0 or row.end_reason is not None
