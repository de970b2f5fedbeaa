"""The attempts at a job: starts all tasks of one, or single tasks again."""

from __future__ import annotations

from collections.abc import Collection

from orchestrator.cluster.task import TaskId
from orchestrator.errors import PortError
from orchestrator.launch.events import EventKind
from orchestrator.launch.job import Job, LaunchPlan
from orchestrator.launch.launcher import Launcher
from orchestrator.launch.run_journal import RunJournal
from orchestrator.launch.side_car_starts import LeaveOut, SideCarStarts
from orchestrator.launch.snapshot import RunPhase
from orchestrator.launch.task_table import TaskTable

PORT_TRIES = 3


class Attempts:
    """Has tasks started; knows the number of the attempt and its plan."""

    def __init__(
        self,
        launcher: Launcher,
        job: Job,
        plan: LaunchPlan,
        table: TaskTable,
        journal: RunJournal,
        *,
        leave_out: LeaveOut,
    ) -> None:
        self._launcher = launcher
        self._job = job
        self._plan = plan
        self._table = table
        self._journal = journal
        self._side_cars = SideCarStarts(launcher, job, table, journal, leave_out)
        self.number = 0
        """Of the attempt under way, from 0."""

    def start_first(self, now: float) -> None:
        """Starts every task. Raises PortError and StartError; `now` is the monotonic clock, everywhere."""
        self._submit(self._plan, [row.task for row in self._table], now)

    def start_next(self, now: float) -> None:
        """Starts another attempt with every task that neither runs nor was given up. Raises HostsAway."""
        plan = self._launcher.plan(self._job, self.number + 1)
        self.number += 1
        self._submit(plan, [row.task for row in self._table if not row.running and not row.given_up], now)

    def start_due_tasks(self, now: float) -> bool:
        """Starts single tasks whose time has come; False when one that others call has lost its address."""
        due = [row.task for row in self._table if row.restart_at is not None and now >= row.restart_at]
        side_cars = [task for task in due if self._side_cars.serves(task)]
        called = [task for task in due if task not in side_cars]
        if called:
            try:
                self._launcher.submit(self._plan, called)
            except PortError as error:
                self._journal.note(f"{error} The whole attempt is restarted on another address.")
                return False
            self._table.starting(called, now)
        if side_cars:
            self._plan = self._side_cars.start(self._plan, side_cars, now)
        if due:
            self._journal.save()
        return True

    def _submit(self, plan: LaunchPlan, wanted: Collection[TaskId], now: float) -> None:
        """Starts the tasks of an attempt; plans anew when an address was lost meanwhile."""
        tasks: list[TaskId] = []
        for left in reversed(range(PORT_TRIES)):
            self._plan = plan
            self._table.replan(plan)
            self._journal.plan(plan)
            tasks = [task for task in wanted if task not in plan.away]
            try:
                self._launcher.submit(plan, tasks)
                break
            except PortError as error:
                if not left:
                    raise
                self._journal.note(f"{error} Planning again.")
                plan = self._launcher.plan(self._job, self.number)
        self._table.starting(tasks, now)
        if any(map(self._side_cars.serves, tasks)):
            self._side_cars.started()
        for row in (self._table[task] for task in wanted if task not in tasks):
            row.restart_at = now
        text = f"attempt {self.number} started"
        self._journal.event(EventKind.ATTEMPT_STARTED, text, attempt=self.number)
        self._journal.phase(RunPhase.RUNNING)
