"""Everything that a run writes down or tells while it goes on."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from orchestrator.cluster.files import write_json_atomically
from orchestrator.cluster.records import ExitRecord
from orchestrator.cluster.task import TaskId, TaskType
from orchestrator.launch.clock import Clock
from orchestrator.launch.completion import describe_exit
from orchestrator.launch.events import EventKind, EventLog, RunEvent
from orchestrator.launch.job import Job, LaunchPlan
from orchestrator.launch.launcher import TaskStarted
from orchestrator.launch.process_identity import ProcessIdentity
from orchestrator.launch.restart import Decision
from orchestrator.launch.root_cause import RootCause
from orchestrator.launch.run_dir import RunDir
from orchestrator.launch.run_result import Restart, RunResult
from orchestrator.launch.run_state import RunState, plan_as_json, tasks_as_json
from orchestrator.launch.snapshot import Observer, RunPhase, Snapshot
from orchestrator.launch.task_table import TaskRow, TaskTable

TOLD_DELAY_SECONDS = 5.0
"""A pause before a restart of that length is announced."""


class RunJournal:
    """Keeps `launcher.json`, `plan.json` and `events.jsonl`, and tells the observer.

    Nothing of it ever ends a run: a file that cannot be written is noted once.
    """

    def __init__(self, job: Job, launcher: str, clock: Clock, observer: Observer) -> None:
        self._job = job
        self._launcher = launcher
        self._masker = job.masker()
        self._clock = clock
        self._observer = observer
        self._run_dir = RunDir(job.run_dir)
        self._log = EventLog(self._run_dir.events)
        self._process = ProcessIdentity.current()
        self._started = clock.time()
        self._phase = RunPhase.PLANNING
        self._attempt = 0
        self._restarts = 0
        self._exit_code: int | None = None
        self._table: TaskTable | None = None
        self._unwritable: set[Path] = set()
        self._notes: list[str] = []
        self._history: list[Restart] = []

    @property
    def notes(self) -> tuple[str, ...]:
        """What was noted so far."""
        return tuple(self._notes)

    @property
    def history(self) -> tuple[Restart, ...]:
        """What was started again so far."""
        return tuple(self._history)

    def open(self) -> None:
        """Says that this process is about to run the job."""
        self.save()

    def begin(self, plan: LaunchPlan, table: TaskTable) -> None:
        """The job is planned and about to start."""
        self._table = table
        self._run_dir.create_records(task.task for task in plan.tasks)
        job = self._job
        text = f"{job.name}: {job.size} tasks, {job.strategy} strategy, {plan.launcher} launcher"
        self.plan(plan)
        serving = [task for task in plan.tasks if task.task.type is not TaskType.EVALUATOR]
        addresses = [task.address for task in serving if task.address and plan.cluster is not None]
        self.event(
            EventKind.RUN_STARTED, text, model_dir=job.model_dir, addresses=addresses, isolated=job.isolated
        )
        for note in plan.notes:
            self.note(note)
        self.save()

    def plan(self, plan: LaunchPlan) -> None:
        """Writes the plan that is about to be carried out."""
        self._attempt = plan.attempt
        value = plan_as_json(plan)
        for path in (self._run_dir.plan, self._run_dir.plan_of(plan.attempt)):
            self._write(path, partial(write_json_atomically, path, value))

    def phase(self, phase: RunPhase) -> None:
        """The launcher does something else now."""
        self._phase = phase
        self.save()

    def event(self, kind: EventKind, text: str, task: TaskId | None = None, **data: Any) -> None:
        """Writes an event and tells the observer."""
        data = self._masker.plain(data)
        event = RunEvent(self._clock.time(), kind, self._masker.text(text), task, data)
        error = self._log.write(event)
        self._observer.event(event)
        if error is not None:
            self._complain(self._run_dir.events, error)

    def note(self, text: str, *, passing: bool = False) -> None:
        """Something that people should know, now and (unless it is `passing`) at the end."""
        if not passing:
            self._notes.append(self._masker.text(text))
        self.event(EventKind.NOTE, text)

    def output(self, source: str, text: str) -> None:
        """A task, or the preparation, wrote whole lines."""
        self._observer.output(source, text)

    def progress(self, stop_seconds_left: float | None) -> None:
        """Tells the observer how far the run is."""
        if self._table is not None:
            now = Snapshot.of(self._phase, self._attempt, self._table)
            saves = self._table.saves(self._job)
            self._observer.progress(replace(now, stop_seconds_left=stop_seconds_left, saves=saves))

    def started(self, row: TaskRow, event: TaskStarted) -> None:
        """A task's process exists."""
        text = f"{row.task} started ({event.start_method}: {event.why})"
        data = {"pid": event.pid, "start": row.starts - 1, "start_method": event.start_method.value}
        self.event(EventKind.TASK_STARTED, text, row.task, **data)
        self.save()

    def exited(self, row: TaskRow, record: ExitRecord) -> None:
        """A task's process is gone."""
        what = "its host" if record.host_lost else describe_exit(record.code, record.signal)
        asked = ", as asked" if row.ended_by_us else ""
        data = {"code": record.code, "signal": record.signal, "requested": row.ended_by_us}
        self.event(EventKind.TASK_EXITED, f"{row.task} ended with {what}{asked}", row.task, **data)
        self.save()

    def restarting(
        self, kind: EventKind, row: TaskRow, decision: Decision, cause: RootCause | None = None
    ) -> None:
        """A task, or the whole attempt, is going to be started again."""
        self._restarts += 1
        checkpoint = self._table.checkpoint_step if self._table is not None else None
        whole, delay = kind is EventKind.ATTEMPT_RESTARTING, decision.delay_seconds
        self._history.append(
            Restart(self._clock.time(), row.task, whole, decision.reason, checkpoint, delay, cause)
        )
        text = decision.reason + (f", in {delay:.0f} s" if delay >= TOLD_DELAY_SECONDS else "")
        self.event(kind, text, row.task, delay_seconds=round(delay, 3), from_checkpoint_step=checkpoint)
        self.save()

    def left(self, row: TaskRow, decision: Decision, cause: RootCause) -> None:
        """A side-car is not restarted any more; the job goes on."""
        text = f"{decision.reason}. The job goes on without it.\n{cause.render()}"
        self._notes.append(self._masker.text(text))
        self.event(EventKind.TASK_LEFT, decision.reason, row.task, verdict=cause.render())
        self.save()

    def finish(self, result: RunResult) -> None:
        """The run is over."""
        self._exit_code = result.exit_code
        data: dict[str, Any] = {"exit_code": result.exit_code, "seconds": round(result.seconds, 3)}
        if result.root_cause is not None:
            data["verdict"] = result.root_cause.render()
        text = f"{result.phase}: {result.why}" if result.why else str(result.phase)
        self.event(EventKind.FINISHED, text, **data)
        self.phase(result.phase)

    def abandon(self, error: BaseException) -> None:
        """The run is over because the launcher itself cannot go on."""
        self._exit_code = getattr(error, "exit_code", 1)
        self.event(EventKind.FINISHED, f"failed: {error}", exit_code=self._exit_code)
        self.phase(RunPhase.FAILED)

    def save(self) -> None:
        """Rewrites `launcher.json`."""
        now = self._clock.time()
        views = Snapshot.of(self._phase, self._attempt, self._table).tasks if self._table is not None else ()
        state = RunState(
            name=self._job.name,
            phase=self._phase,
            process=self._process,
            host=socket.gethostname(),
            started=self._started,
            updated=now,
            launcher=self._launcher,
            strategy=self._job.strategy.value,
            model_dir=self._job.model_dir,
            run_dir=str(self._job.run_dir),
            attempt=self._attempt,
            restarts=self._restarts,
            exit_code=self._exit_code,
            tasks=tasks_as_json(views),
        )
        self._write(self._run_dir.launcher, lambda: state.write(self._run_dir))

    def close(self) -> None:
        """Closes what is open; may be called twice."""
        self._log.close()

    def _write(self, path: Path, write: Callable[[], None]) -> None:
        try:
            write()
        except OSError as error:
            self._complain(path, error)

    def _complain(self, path: Path, error: OSError) -> None:
        if path in self._unwritable:
            return
        self._unwritable.add(path)
        text = f"cannot write {path}: {error.strerror or error}. The run goes on without it."
        self._notes.append(text)
        self._observer.event(RunEvent(self._clock.time(), EventKind.NOTE, text))
