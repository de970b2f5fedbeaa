"""The loop that runs a job: starts it, watches it, restarts or ends it, and leaves nothing behind.

Decisions are made in `completion`, `judge` and `stopping`, and carried out
here. Time comes from a clock that is given, and passes in `Launcher.poll`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

from orchestrator.cluster.task import TaskType
from orchestrator.errors import Abandoned, EnvironmentProblem, HostsAway
from orchestrator.launch import completion
from orchestrator.launch.attempts import Attempts
from orchestrator.launch.clock import Clock, SystemClock
from orchestrator.launch.completion import Stage
from orchestrator.launch.draining import Drain
from orchestrator.launch.ending import Ending, advance
from orchestrator.launch.events import EventKind
from orchestrator.launch.hang_watch import HangWatch
from orchestrator.launch.host_wait import HostWait
from orchestrator.launch.job import Job, StrategyKind
from orchestrator.launch.judge import Judge, Judgement
from orchestrator.launch.launcher import (
    Heeding,
    Launcher,
    LauncherNote,
    PreparationOutput,
    TaskEvent,
    TaskExited,
    TaskOutput,
    TasksOutOfReach,
    TaskStarted,
    TaskSuspended,
)
from orchestrator.launch.preparation import run_preparation
from orchestrator.launch.restart import Action
from orchestrator.launch.resumed_checkpoint import resumed_step
from orchestrator.launch.root_cause import RootCause, find_root_cause
from orchestrator.launch.run_dir import RunDir
from orchestrator.launch.run_journal import RunJournal
from orchestrator.launch.run_result import RunResult, StopRequest
from orchestrator.launch.snapshot import Observer, RunPhase, SilentObserver, Snapshot
from orchestrator.launch.stopping import PS_GRACE_SECONDS, Outcome, StopSequence
from orchestrator.launch.summary import format_seconds
from orchestrator.launch.task_table import TaskTable

TICK_SECONDS = 0.5
"""How often records are read and the display is told."""
TEARDOWN_GRACE_SECONDS = 5.0
"""For the rest of an attempt that is lost: long enough to close files, too short to train on."""


class Supervisor:
    """Runs one job on one launcher, once.

    `heartbeat` is called about twice a second with the monotonic time; what it
    returns is noted. `request_stop` and `hurry` may be called from signal handlers; everything
    else happens in `run`.
    """

    def __init__(
        self,
        launcher: Launcher,
        job: Job,
        *,
        clock: Clock | None = None,
        observer: Observer | None = None,
        rng: random.Random | None = None,
        heartbeat: Callable[[float], str | None] = lambda now: None,
    ) -> None:
        self._launcher = launcher
        self._job = job
        self._clock = clock or SystemClock()
        self._rng = rng or random.Random()
        self._heartbeat = heartbeat
        self._run_dir = RunDir(job.run_dir)
        self._journal = RunJournal(job, launcher.name, self._clock, observer or SilentObserver())
        self._stop_request: StopRequest | None = None
        self._hurry = False
        self._table: TaskTable
        self._attempts: Attempts
        self._judge: Judge
        self._drain: Drain
        self._hang_watch: HangWatch
        self._host_wait = HostWait()
        self._restarts = 0
        self._ending: Ending | None = None
        self._reaping: StopSequence | None = None
        self._next_tick = 0.0
        self._started = 0.0
        self._told_trained = False
        self._result: RunResult | None = None
        if isinstance(launcher, Heeding):
            launcher.heed(self.stop_requested)

    def request_stop(self, request: StopRequest) -> None:
        """Asks for a checkpoint and the end of the run; the first request counts."""
        if self._stop_request is None:
            self._stop_request = request

    def stop_requested(self) -> bool:
        """Whether somebody has asked for the end of the run."""
        return self._stop_request is not None

    def hurry(self) -> None:
        """Kills whatever still runs instead of waiting for it."""
        self._hurry = True

    def run(self) -> RunResult:
        """Runs the job to its end, whatever that is.

        Raises PortError, StartError and other OrchestratorError when the job
        cannot be started; nothing is left running in any case.
        """
        self._started = self._clock.monotonic()
        try:
            self._journal.open()
            try:
                self._begin()
            except Abandoned:
                self._result = self._stopped_early()
            while self._result is None:
                self._tick()
            self._journal.finish(self._result)
            return self._result
        except BaseException as error:
            self._journal.abandon(error)
            raise
        finally:
            self._launcher.close()
            self._journal.close()

    # Starting

    def _begin(self) -> None:
        plan = self._launcher.plan(self._job, 0)
        resumed = resumed_step(self._job.working_dir, self._job.model_dir)
        self._table = TaskTable(plan, self._run_dir, resumed)
        self._drain = Drain(self._job, self._table, self._journal)
        parts = (self._launcher, self._job, plan, self._table, self._journal)
        self._attempts = Attempts(*parts, leave_out=self._drain.leave_out)
        self._judge = Judge(self._job, self._table, self._rng)
        self._hang_watch = HangWatch(self._job, self._table, self._launcher, self._journal)
        self._journal.begin(plan, self._table)
        if self._job.prepare_command:
            self._prepare()
        if self._result is None and self._stop_request is not None:
            self._finish(RunPhase.STOPPED, self._stop_request.exit_code, self._stop_request.why)
        if self._result is None:
            self._attempts.start_first(self._clock.monotonic())

    def _stopped_early(self) -> RunResult:
        """How a run ended that was asked to while it waited for machines to start on."""
        request = self._stop_request
        assert request is not None
        return RunResult(
            phase=RunPhase.STOPPED,
            exit_code=request.exit_code,
            seconds=self._clock.monotonic() - self._started,
            attempts=1,
            restarts=0,
            snapshot=Snapshot(RunPhase.STOPPED, 0, ()),
            why=request.why,
            notes=self._journal.notes,
        )

    def _prepare(self) -> None:
        self._journal.phase(RunPhase.PREPARING)
        self._journal.event(EventKind.PREPARING, "preparing the data")
        cause = run_preparation(self._launcher, self._job, self._clock, self._tell, self.stop_requested)
        if cause is not None:
            code = completion.exit_code_after_preparation(cause.end.exit)
            self._finish(RunPhase.FAILED, code, "the preparation of the data failed", cause)
        elif not self.stop_requested():
            self._journal.event(EventKind.PREPARED, "the data is prepared")

    # The loop

    def _tick(self) -> None:
        for event in self._launcher.poll(self._patience()):
            self._handle(event)
        now = self._clock.monotonic()
        if now >= self._next_tick:
            self._next_tick = now + TICK_SECONDS
            self._look_around(now)
        self._obey_stop_request(now)
        if self._ending is None:
            for judgement in self._judge.judge(now):
                self._carry_out(judgement, now)
        if self._ending is not None:
            self._continue_ending(self._ending, now)
        else:
            if not self._start_due_tasks(now):
                blamed = self._judge.failures()
                self._end(now, self._teardown_grace(), Outcome(blamed=blamed, restart_at=now))
            self._continue_reaping(now)
            self._check_completion(now)

    def _patience(self) -> float:
        """How long `poll` may wait: until the next thing that is due without any event."""
        now = self._clock.monotonic()
        times = [self._next_tick, *(row.restart_at for row in self._table if row.restart_at is not None)]
        for sequence in (None if self._ending is None else self._ending.sequence, self._reaping):
            deadline = sequence.next_deadline() if sequence is not None else None
            if deadline is not None:
                times.append(deadline)
        return min(TICK_SECONDS, max(0.01, min(times) - now))

    def _tell(self, event: TaskEvent) -> None:
        if isinstance(event, TaskOutput):
            self._journal.output(str(event.task), event.text)
        elif isinstance(event, PreparationOutput):
            self._journal.output("prepare", event.text)
        elif isinstance(event, LauncherNote):
            self._journal.note(event.text, passing=event.passing)

    def _handle(self, event: TaskEvent) -> None:
        self._tell(event)
        if isinstance(event, TaskStarted):
            row = self._table[event.task]
            row.pid = event.pid
            self._journal.started(row, event)
        elif isinstance(event, TaskExited):
            row = self._table.ended(event.task, event.record)
            self._journal.exited(row, event.record)
            self._note_if_trained()
        elif isinstance(event, TasksOutOfReach):
            for task in event.tasks:
                self._table[task].out_of_reach = event.out_of_reach
        elif isinstance(event, TaskSuspended):
            self._table[event.task].suspended = event.suspended

    def _look_around(self, now: float) -> None:
        """Reads records, tells the display, and watches the time limits."""
        self._table.read_records(row for row in self._table if row.running)
        self._launcher.sample(now)
        trouble = self._heartbeat(now)
        if trouble is not None:
            self._journal.note(trouble)
        self._journal.progress(None if self._ending is None else self._ending.sequence.kill_at - now)
        if self._ending is not None:
            return
        policy = self._job.policy
        total = policy.total_timeout_seconds
        if total is not None and now - self._started >= total:
            why = f"the run was stopped after its total time limit of {total:g} s"
            self._end(now, policy.grace_seconds, Outcome(why=why))
            return
        if self._job.is_experiment:
            self._note_if_trained()
        self._hang_watch.look(now)

    def _note_if_trained(self) -> None:
        trained = self._table.already_trained()
        if trained is not None and not self._told_trained:
            self._told_trained = True
            step, most = trained
            text = f"the model is already at step {step}, and max_steps is {most}: nothing to train"
            self._journal.note(f"{text}, it is evaluated once")

    def _obey_stop_request(self, now: float) -> None:
        request = self._stop_request
        if request is not None and (self._ending is None or self._ending.outcome.restarts):
            outcome = Outcome(RunPhase.STOPPED, request.exit_code, request.why)
            self._end(now, self._job.policy.grace_seconds, outcome)
        if self._hurry and self._ending is not None:
            self._ending.sequence.hurry()

    # Ending

    def _end(self, now: float, grace: float, outcome: Outcome) -> None:
        self._ending = Ending(self._job, self._table, self._journal, outcome, now=now, grace=grace)
        self._reaping = None

    def _continue_ending(self, ending: Ending, now: float) -> None:
        outcome = ending.outcome
        if not ending.over(self._launcher, now):
            return
        if not outcome.restarts:
            self._finish(outcome.phase, outcome.exit_code, outcome.why, ending.cause(self._judge))
            return
        self._ending = None
        try:
            self._attempts.start_next(now)
            self._host_wait.found()
        except Abandoned:
            return  # the next turn obeys
        except HostsAway as error:
            self._wait_for_hosts(ending, error)
        except EnvironmentProblem as error:
            why = f"no further attempt could be started: {error}"
            self._finish(RunPhase.FAILED, completion.EXIT_FAILED, why, ending.cause(self._judge))

    def _wait_for_hosts(self, ending: Ending, error: HostsAway) -> None:
        """Has the next attempt tried again later, as long as there is patience."""
        patience, again = format_seconds(error.patience), self._host_wait.waiting
        at = self._host_wait.next_look(self._clock.monotonic(), error.patience)
        if at is not None:
            if not again:
                text = f"{error}: waiting for it, {patience} at most ({error.option}); Ctrl-C ends the run"
                self._journal.note(text, passing=True)
            self._ending = ending
            ending.outcome = replace(ending.outcome, restart_at=at)
            return
        waited = f" after a wait of {patience} ({error.option})" if again else ""
        why = (
            f"no further attempt could be started{waited}: {error}. Bring it back, or take it out of the"
            " cluster file, and run the same command again: training goes on from the last checkpoint"
        )
        self._finish(RunPhase.FAILED, completion.EXIT_FAILED, why, ending.cause(self._judge))

    def _start_due_tasks(self, now: float) -> bool:
        try:
            return self._attempts.start_due_tasks(now)
        except Abandoned:
            return True  # the next turn obeys

    def _finish(self, phase: RunPhase, exit_code: int, why: str = "", cause: RootCause | None = None) -> None:
        self._table.read_records()
        self._result = RunResult(
            phase=phase,
            exit_code=exit_code,
            seconds=self._clock.monotonic() - self._started,
            attempts=self._attempts.number + 1,
            restarts=self._restarts,
            snapshot=Snapshot.of(phase, self._attempts.number, self._table),
            global_step=self._table.global_step,
            checkpoint_step=self._table.checkpoint_step,
            evaluation=self._table.newest_evaluation,
            root_cause=cause,
            why=why,
            peaks=self._launcher.peaks(),
            history=self._journal.history,
            notes=self._journal.notes,
        )

    def _check_completion(self, now: float) -> None:
        stage = self._drain.stage(now)
        reap = completion.to_reap(self._table.states, self._job.strategy)
        if reap and self._reaping is None:
            grace = min(PS_GRACE_SECONDS, self._job.policy.grace_seconds)
            self._reaping = StopSequence(reap, now, grace)
            self._continue_reaping(now)
        if stage is Stage.OVER and not self._table.running:
            if self._drain.missing is not None:
                self._finish(RunPhase.FAILED, completion.EXIT_FAILED, self._drain.missing)
            else:
                self._finish(RunPhase.SUCCEEDED, completion.EXIT_SUCCEEDED)

    def _continue_reaping(self, now: float) -> None:
        if self._reaping is not None and advance(self._reaping, self._table, self._launcher, now):
            self._reaping = None

    # Failures

    def _carry_out(self, judgement: Judgement, now: float) -> None:
        row, decision = judgement.row, judgement.decision
        at = now + decision.delay_seconds
        cause = find_root_cause(judgement.ends) or RootCause(judgement.end)
        if decision.action is Action.LEAVE:
            row.given_up = True
            self._journal.left(row, decision, RootCause(judgement.end))
        elif decision.action is Action.RESTART_TASK:
            row.restart_at = at
            self._restarts += 1
            self._journal.restarting(EventKind.TASK_RESTARTING, row, decision, cause)
        elif decision.action is Action.RESTART_ATTEMPT:
            self._restarts += 1
            self._journal.restarting(EventKind.ATTEMPT_RESTARTING, row, decision, cause)
            self._end(now, self._teardown_grace(), Outcome(blamed=judgement.ends, restart_at=at))
        else:
            code = completion.EXIT_BAD_INPUT if judgement.user_error else completion.EXIT_FAILED
            outcome = Outcome(exit_code=code, why=decision.reason, blamed=judgement.ends)
            self._end(now, self._farewell_grace(), outcome)

    def _teardown_grace(self) -> float:
        """For the rest of an attempt: our own program has nothing to save when it has lost a peer."""
        if self._job.is_experiment:
            return 0.0
        return min(TEARDOWN_GRACE_SECONDS, self._job.policy.grace_seconds)

    def _farewell_grace(self) -> float:
        """For the rest of a job that is given up: tasks that step on their own can still save."""
        served = all(row.running for row in self._table.of_type(TaskType.PS))
        stepped = served and any(row.stepped for row in self._table)
        alone = self._job.strategy is StrategyKind.ASYNCHRONOUS and stepped
        return self._job.policy.grace_seconds if alone else self._teardown_grace()
