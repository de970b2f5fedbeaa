"""The end of an attempt, or of the run, while it is under way."""

from __future__ import annotations

from orchestrator.cluster.task import TaskType
from orchestrator.launch.events import EventKind
from orchestrator.launch.job import Job
from orchestrator.launch.judge import Judge
from orchestrator.launch.launcher import Launcher
from orchestrator.launch.root_cause import RootCause, find_root_cause
from orchestrator.launch.run_journal import RunJournal
from orchestrator.launch.snapshot import RunPhase
from orchestrator.launch.stopping import Outcome, StopSequence
from orchestrator.launch.task_table import TaskTable


def advance(sequence: StopSequence, table: TaskTable, launcher: Launcher, now: float) -> bool:
    """Does what a stop sequence asks for; whether all its tasks have ended."""
    running = [task for task in table.running if task in sequence.tasks]
    for order in sequence.advance(now, running):
        for task in order.tasks:
            table[task].stop_requested = True
        launcher.stop(order.tasks, order.kind)
    return not running


class Ending:
    """Stops every task; of an attempt that is to be restarted, not the evaluator.

    `now` is the monotonic clock and `grace` how long tasks may take, in
    seconds; `outcome` is what follows.
    """

    def __init__(
        self, job: Job, table: TaskTable, journal: RunJournal, outcome: Outcome, *, now: float, grace: float
    ) -> None:
        self._job = job
        self._table = table
        self._journal = journal
        self.outcome = outcome
        rows = [r for r in table if r.task.type is not TaskType.EVALUATOR or not outcome.restarts]
        for row in rows:
            row.restart_at = None
        self.sequence = StopSequence([row.task for row in rows if row.running], now, grace)
        if not outcome.restarts:
            text = outcome.why + (self._request(grace) if outcome.phase is RunPhase.STOPPED else "")
            journal.event(EventKind.STOPPING, text, grace_seconds=grace)
        journal.phase(RunPhase.RESTARTING if outcome.restarts else RunPhase.STOPPING)

    def _request(self, grace: float) -> str:
        """What is asked of the tasks, to follow the reason."""
        tasks = self.sequence.tasks
        if not tasks:
            return ""
        saves = self._table.saves(self._job) and any(task.trains for task in tasks)
        end = f"{len(tasks)} task{'s' * (len(tasks) > 1)} to end"
        return f": asked {'for a checkpoint' if saves else end}, waiting up to {grace:g} s"

    def over(self, launcher: Launcher, now: float) -> bool:
        """Goes on stopping; whether all tasks have ended, and the time of the next attempt has come."""
        if not advance(self.sequence, self._table, launcher, now) and not self._left_to_hosts():
            return False
        return self.outcome.restart_at is None or now >= self.outcome.restart_at

    def _left_to_hosts(self) -> bool:
        """Whether all that still runs was to be killed, and its hosts, out of reach, see to that."""
        left = [self._table[task] for task in self._table.running if task in self.sequence.tasks]
        if self.outcome.restarts or not all(r.out_of_reach and r.task in self.sequence.killed for r in left):
            return False
        names = ", ".join(str(row.task) for row in left)
        self._journal.note(f"out of reach at the end: {names}; each host ends its tasks by itself")
        for row in left:
            row.running, row.ended_by_us = False, True
        return True

    def cause(self, judge: Judge) -> RootCause | None:
        """The first failure, among them those that showed only while the others were stopped."""
        outcome = self.outcome
        seen = {end.task for end in outcome.blamed}
        later = [end for end in judge.failures() if end.task not in seen]
        if outcome.phase is RunPhase.STOPPED:
            self._note_lost_checkpoints()
            later = [end for end in later if end.failure is not None]
        elif not outcome.blamed:
            return None
        return find_root_cause([*outcome.blamed, *later])

    def _note_lost_checkpoints(self) -> None:
        killed = [
            row.task for row in self._table.trainers if row.ended_by_us and row.exit and row.exit.signal == 9
        ]
        if killed and self._job.is_experiment:
            at = self._table.checkpoint_step
            last = "no checkpoint is known" if at is None else f"the last checkpoint is that of step {at}"
            self._journal.note(
                f"killed before the end of the stop request: {', '.join(map(str, killed))}; {last}"
            )
