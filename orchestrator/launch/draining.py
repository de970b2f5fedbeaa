"""While somebody trains there is an evaluator, and the last checkpoint is evaluated; or it is said if not."""

from __future__ import annotations

import math

from orchestrator.cluster.records import Phase
from orchestrator.cluster.task import TaskType
from orchestrator.launch import completion
from orchestrator.launch.completion import Stage
from orchestrator.launch.events import EventKind
from orchestrator.launch.job import Job
from orchestrator.launch.run_journal import RunJournal
from orchestrator.launch.snapshot import RunPhase
from orchestrator.launch.task_table import TaskRow, TaskTable


class Drain:
    """Watches over the evaluator: while there is training it has not seen the end of, and after that."""

    def __init__(self, job: Job, table: TaskTable, journal: RunJournal) -> None:
        self._job = job
        self._table = table
        self._journal = journal
        self._limit = job.policy.drain_timeout_seconds
        self._until: float | None = None
        self._sent_back_for: int | None = None
        self._called_back_in: int | None = None
        self._missing: str | None = None

    @property
    def missing(self) -> str | None:
        """Why the evaluation is missing that the job was not to succeed without."""
        if self._missing is not None or self._table.already_trained() is None:
            return self._missing
        left = next((row for row in self._table.of_type(TaskType.EVALUATOR) if row.given_up), None)
        if left is None or left.evaluation is not None:
            return None
        return f"there was nothing to train, and {left.task} made no evaluation"

    def stage(self, now: float) -> Stage:
        """The stage of the job, after what the evaluator's state asks for was arranged."""
        if self._job.is_experiment:
            if self._stage() is Stage.TRAINING:
                self._call_back(now)
            else:
                self._send_back(now)
        if self._stage() is Stage.DRAINING:
            self._wait(now)
        return self._stage()

    def _stage(self) -> Stage:
        return completion.stage(self._table.states, self._job.strategy)

    def _call_back(self, now: float) -> None:
        """Starts an evaluator again that left while the chief trains on; once for each start of the chief.

        A chief that was preempted says that it is done; that it was started again the evaluator, which
        believed it, cannot know.
        """
        first = completion.leader([row.task for row in self._table])
        if first is None or self._called_back_in == self._table[first].starts:
            return
        chief = self._table[first]
        record = chief.progress
        if not chief.running or record is None or record.phase is not Phase.STEPPING or record.step is None:
            return
        for row in self._table.of_type(TaskType.EVALUATOR):
            seen = row.evaluation.global_step if row.evaluation is not None else 0
            if row.given_up or not row.state.done or seen >= (record.max_steps or math.inf):
                continue
            self._called_back_in, row.restart_at = chief.starts, now
            text = f"{row.task} ended while {first} trains on; started again"
            self._journal.event(EventKind.TASK_RESTARTING, text, row.task)

    def _send_back(self, now: float) -> None:
        """Starts an evaluator again that ended before the last checkpoint was written; once a checkpoint."""
        last = self._table.checkpoint_step
        if last is None:
            return
        for row in self._table.of_type(TaskType.EVALUATOR):
            seen = row.evaluation.global_step if row.evaluation is not None else None
            if row.given_up or not row.state.done or (seen is not None and seen >= last):
                continue
            what = "nothing" if seen is None else f"step {seen}"
            if last == self._sent_back_for:
                why = f"{row.task} ended twice without an evaluation of step {last}, the last one"
                self.leave_out(row, why)
                continue
            self._sent_back_for, row.restart_at = last, now
            text = f"{row.task} ended when it had evaluated {what}; started again for step {last}"
            self._journal.event(EventKind.TASK_RESTARTING, text, row.task)

    def _wait(self, now: float) -> None:
        if self._until is None:
            self._until = now + self._limit
            text = f"waiting up to {self._limit:g} s for the evaluation of the last checkpoint"
            self._journal.event(EventKind.TRAINING_OVER, f"training is over; {text}")
            self._journal.phase(RunPhase.DRAINING)
        if now < self._until:
            return
        for row in self._table.of_type(TaskType.EVALUATOR):
            if not row.state.settled:
                why = f"{row.task} did not evaluate the last checkpoint within {self._limit:g} s"
                self.leave_out(row, why)

    def leave_out(self, row: TaskRow, why: str) -> None:
        """Nothing waits any more for an evaluator that has not evaluated the last checkpoint."""
        row.given_up, row.restart_at = True, None
        self._journal.note(f"{why}; the run ends without it")
        if not self._job.policy.evaluator_may_fail:
            self._missing = why
