"""Starts evaluators again beside a training that goes on: where they ran, elsewhere, or later."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection

from orchestrator.cluster.task import TaskId, TaskType
from orchestrator.errors import EnvironmentProblem, HostsAway, OrchestratorError, PortError, WaitTimeout
from orchestrator.launch import completion
from orchestrator.launch.completion import Stage
from orchestrator.launch.host_wait import HostWait
from orchestrator.launch.job import Job, LaunchPlan
from orchestrator.launch.launcher import Launcher
from orchestrator.launch.run_journal import RunJournal
from orchestrator.launch.task_table import TaskRow, TaskTable

LeaveOut = Callable[[TaskRow, str], None]
"""Has nothing wait any more for a task, and says why."""


class SideCarStarts:
    """No task calls an evaluator, so it may get another address at any time, and wait for a host alone.

    It is waited for as long as training lasts; after that as long as a lost
    host is waited for, or until the drain time is over.
    """

    def __init__(
        self, launcher: Launcher, job: Job, table: TaskTable, journal: RunJournal, leave_out: LeaveOut
    ) -> None:
        self._launcher = launcher
        self._job = job
        self._table = table
        self._journal = journal
        self._leave_out = leave_out
        self._wait = HostWait()

    def serves(self, task: TaskId) -> bool:
        """Whether a task is beside a training."""
        return task.type is TaskType.EVALUATOR and bool(self._table.trainers)

    def start(self, plan: LaunchPlan, tasks: Collection[TaskId], now: float) -> LaunchPlan:
        """Starts such tasks, or has that tried again later; the plan that holds from now on.

        `now` is the monotonic clock. Raises Abandoned.
        """
        found = plan
        try:
            try:
                self._launcher.submit(plan, tasks)
            except PortError:
                found = self._launcher.move(plan, tasks)
                self._launcher.submit(found, tasks)
        except (EnvironmentProblem, WaitTimeout) as error:
            self._put_off(tasks, error, now)
            return plan
        if found is not plan:
            self._table.replan(found)
            self._journal.plan(found)
            for part in (found.task(task) for task in tasks):
                if part.host != plan.task(part.task).host:
                    text = f"{part.task} is started on {part.host}, without {plan.task(part.task).host}"
                    self._journal.note(text, passing=True)
        self._table.starting(tasks, now)
        self.started()
        return found

    def started(self) -> None:
        """What was waited for has started: the next wait begins anew."""
        self._wait.found()

    def _put_off(self, tasks: Collection[TaskId], error: OrchestratorError, now: float) -> None:
        patience = error.patience if isinstance(error, HostsAway) else 0.0
        training = completion.stage(self._table.states, self._job.strategy) is Stage.TRAINING
        again, why = self._wait.waiting, str(error).rstrip(".")
        at = self._wait.next_look(now, math.inf if training else patience)
        for row in (self._table[task] for task in tasks):
            row.restart_at = at
            if at is None:
                self._leave_out(row, f"{row.task} cannot be started: {why}{self._not_evaluated(row)}")
            elif not again:
                text = f"{row.task} cannot be started: {why}; the job goes on, and that is tried again"
                self._journal.note(text, passing=True)

    def _not_evaluated(self, row: TaskRow) -> str:
        last = self._table.checkpoint_step
        if last is None or (row.evaluation is not None and row.evaluation.global_step >= last):
            return ""
        return f"; the last checkpoint, that of step {last}, was not evaluated"
