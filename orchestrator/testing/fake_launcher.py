"""A launcher without processes: plays scripts on a fake clock; hours of faults pass in milliseconds."""

from __future__ import annotations

import signal
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from orchestrator.cluster.records import ExitRecord, FailureRecord, ProgressRecord
from orchestrator.cluster.spec import ClusterSpec
from orchestrator.cluster.stacks import stack_path
from orchestrator.cluster.task import TaskId, TaskType
from orchestrator.errors import PortError, StartError
from orchestrator.launch.job import Job, LaunchPlan, StartMethod, TaskPlan
from orchestrator.launch.launcher import (
    PeakUsage,
    PreparationExited,
    StackFile,
    StopKind,
    TaskEvent,
    TaskExited,
    TaskOutput,
    TasksOutOfReach,
    TaskStarted,
    TaskSuspended,
)
from orchestrator.launch.run_dir import RunDir
from orchestrator.testing.fake_clock import FakeClock
from orchestrator.testing.script import Action, Exit, Hold, Reach, Scripts, TaskScript

KILL_SECONDS = 0.01
"""How long a killed task takes to be gone."""
_FIRST_PORT = 20000


@dataclass
class _Playing:
    """One start of a task, under way."""

    script: TaskScript
    pid: int
    start: int
    attempt: int
    began: float
    next: int = 0
    announced: bool = False
    ends_at: float | None = None
    ends_with: Exit | None = None
    requested: bool = False


class FakeLauncher:
    """Plays `scripts`, by task as printed (`worker-1`), through the Launcher protocol.

    A task without a script runs until it is stopped. `at` calls something at a
    time after the creation of the launcher: a stop request in mid-run, a jump
    of the clock. `poll` is the only thing in which time passes.
    """

    name = "fake"

    def __init__(self, clock: FakeClock, scripts: Mapping[str, Scripts | TaskScript] | None = None) -> None:
        self.clock = clock
        self.submitted: list[tuple[int, tuple[TaskId, ...]]] = []
        """(attempt, tasks) of each submit."""
        self.stops: list[tuple[float, tuple[TaskId, ...], StopKind]] = []
        """(seconds since the creation, tasks, kind) of each stop."""
        self.signals: list[tuple[str, int]] = []
        """(task, number) of each signal that was sent by itself."""
        self.stacks: dict[str, str] = {}
        """What tasks answer when asked for their stacks; '' is a task that does not answer."""
        self.closed = False
        self.taken_ports = 0
        """How many submits are still to fail with PortError."""
        self.preparation: Exit | None = Exit(0)
        """How the prepare command ends; None: never."""
        self.prepared = 0
        self._scripts = {
            name: (given,) if isinstance(given, TaskScript) else tuple(given)
            for name, given in (scripts or {}).items()
        }
        self._zero = clock.monotonic()
        self._playing: dict[TaskId, _Playing] = {}
        self._starts: dict[TaskId, int] = {}
        self._timers: list[tuple[float, Callable[[], None]]] = []
        self._run_dir = RunDir(Path())
        self._preparing = False

    def at(self, seconds: float, call: Callable[[], None]) -> None:
        """Calls `call` that many seconds after the creation of the launcher."""
        self._timers.append((self._zero + seconds, call))

    @property
    def running(self) -> tuple[TaskId, ...]:
        """Tasks that run now."""
        return tuple(sorted(self._playing))

    def plan(self, job: Job, attempt: int) -> LaunchPlan:
        """One made-up address a task; the same in every attempt."""
        self._run_dir = RunDir(job.run_dir)
        addresses: dict[TaskType | str, list[str]] = {
            task_type: [f"127.0.0.1:{_FIRST_PORT + 100 * rank + i}" for i in range(request.replicas)]
            for rank, (task_type, request) in enumerate(job.tasks.items())
        }
        cluster = ClusterSpec.of(addresses)
        tasks = tuple(
            TaskPlan(
                task=task,
                host="localhost",
                address=cluster.address(task),
                env={},
                command=job.command,
                start_method=StartMethod.EXEC,
                why="scripted",
                log_path=self._run_dir.log(task),
            )
            for task in cluster.tasks()
        )
        return LaunchPlan(job, attempt, cluster, tasks, self.name)

    def prepare(self, job: Job) -> None:
        """Ends as `preparation` says, at the next poll."""
        self._run_dir = RunDir(job.run_dir)
        self.prepared += 1
        self._preparing = True

    def submit(self, plan: LaunchPlan, tasks: Collection[TaskId] | None = None) -> None:
        """Starts playing; PortError while `taken_ports` lasts, StartError when a task still runs."""
        chosen = tuple(sorted(task.task for task in plan.tasks if tasks is None or task.task in tasks))
        if self.taken_ports > 0:
            self.taken_ports -= 1
            raise PortError(f"port of {chosen[0]} was taken.")
        for task in chosen:
            if task in self._playing:
                raise StartError(f"{task} still runs.")
            start = self._starts.get(task, 0)
            self._starts[task] = start + 1
            scripts = self._scripts.get(str(task), (TaskScript(),))
            records = self._run_dir.records(task)
            records.remove(ProgressRecord)
            records.remove(FailureRecord)
            records.remove(ExitRecord)
            script = scripts[min(start, len(scripts) - 1)]
            pid = 1000 + sum(self._starts.values())
            self._playing[task] = _Playing(script, pid, start, plan.attempt, self.clock.monotonic())
        self.submitted.append((plan.attempt, chosen))

    def move(self, plan: LaunchPlan, tasks: Collection[TaskId]) -> LaunchPlan:
        """The same plan: made-up addresses are never lost."""
        return plan

    def poll(self, timeout: float) -> list[TaskEvent]:
        """Lets time pass until something happens, at most `timeout` seconds."""
        deadline = self.clock.monotonic() + timeout
        events = self._play()
        while not events and self.clock.monotonic() < deadline:
            following = min([deadline, *self._due_times()])
            self.clock.advance(max(0.0, following - self.clock.monotonic()))
            events = self._play()
        return events

    def stop(self, tasks: Collection[TaskId], kind: StopKind) -> None:
        """Ends tasks as their scripts say."""
        now = self.clock.monotonic()
        self.stops.append((round(now - self._zero, 3), tuple(sorted(tasks)), kind))
        for task in tasks:
            playing = self._playing.get(task)
            if playing is None:
                continue
            playing.requested = True
            if kind is StopKind.KILL:
                playing.ends_at, playing.ends_with = now + KILL_SECONDS, Exit(137, 9)
            elif playing.script.on_request is not None and playing.ends_at is None:
                playing.ends_at = now + playing.script.request_seconds
                playing.ends_with = Exit(playing.script.on_request)

    def signal(self, tasks: Collection[TaskId], number: int) -> None:
        """Notes the signal; SIGKILL and SIGTERM end a task as a stop would, though nobody asked for it."""
        for task in tasks:
            playing = self._playing.get(task)
            if playing is None:
                continue
            self.signals.append((str(task), number))
            if number == signal.SIGKILL:
                playing.ends_at, playing.ends_with = self.clock.monotonic() + KILL_SECONDS, Exit(137, 9)
            elif number == signal.SIGTERM and playing.script.on_request is not None:
                playing.ends_at = self.clock.monotonic() + playing.script.request_seconds
                playing.ends_with = Exit(playing.script.on_request)

    def dump_stacks(self, tasks: Collection[TaskId]) -> Mapping[TaskId, StackFile]:
        """Writes what `stacks` holds for each task; one that is not there has registered no handler."""
        files = {}
        for task in tasks:
            playing, text = self._playing.get(task), self.stacks.get(str(task))
            if playing is None or text is None:
                continue
            path = stack_path(self._run_dir.records(task).directory, playing.pid)
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8") as stream:
                files[task] = StackFile(path, stream.tell())
                stream.write(text)
        return files

    def sample(self, now: float) -> None:
        """There is nothing to measure."""

    def peaks(self) -> Mapping[TaskId, PeakUsage]:
        """A made-up peak for every task that was started."""
        return {
            task: PeakUsage(memory_bytes=100 << 20, cpu_percent=50.0, cpu_seconds=1.0)
            for task in self._starts
        }

    def logs(self, task: TaskId, follow: bool = False) -> Iterator[str]:
        """The lines of the log file so far."""
        path = self._run_dir.log(task)
        yield from path.read_text(encoding="utf-8").splitlines() if path.exists() else ()

    def close(self) -> None:
        """Forgets every task."""
        self.closed = True
        self._playing.clear()

    def _due_times(self) -> list[float]:
        times = [at for at, _ in self._timers]
        for playing in self._playing.values():
            if not playing.announced:
                times.append(self.clock.monotonic())
            if playing.next < len(playing.script.actions):
                times.append(playing.began + playing.script.actions[playing.next].at)
            if playing.ends_at is not None:
                times.append(playing.ends_at)
        return times

    def _play(self) -> list[TaskEvent]:
        now = self.clock.monotonic()
        due = [timer for timer in self._timers if timer[0] <= now]
        self._timers = [timer for timer in self._timers if timer[0] > now]
        for _, call in due:
            call()
        events: list[TaskEvent] = []
        if self._preparing and self.preparation is not None:
            self._preparing = False
            ended = self.preparation
            events.append(
                PreparationExited(ExitRecord(self.clock.time(), 0, 0, 999, ended.code, ended.signal))
            )
        for task in list(self._playing):
            events += self._play_task(task, self._playing[task], now)
        return events

    def _play_task(self, task: TaskId, playing: _Playing, now: float) -> list[TaskEvent]:
        events: list[TaskEvent] = []
        if not playing.announced:
            playing.announced = True
            events.append(TaskStarted(task, playing.pid, StartMethod.EXEC, "scripted"))
        ended = playing.ends_with if playing.ends_at is not None and now >= playing.ends_at else None
        actions = playing.script.actions
        while (
            ended is None and playing.next < len(actions) and now >= playing.began + actions[playing.next].at
        ):
            what = self._do(task, actions[playing.next])
            playing.next += 1
            if isinstance(what, Exit):
                ended = what
            elif isinstance(what, TaskOutput | TasksOutOfReach | TaskSuspended):
                events.append(what)
        if ended is not None:
            del self._playing[task]
            record = ExitRecord(
                self.clock.time(), playing.attempt, playing.start, playing.pid, ended.code, ended.signal,
                playing.requested, ended.host_lost,
            )  # fmt: skip
            self._run_dir.records(task).write(record)
            events.append(TaskExited(task, record))
        return events

    def _do(self, task: TaskId, action: Action) -> Exit | TaskOutput | TasksOutOfReach | TaskSuspended | None:
        if isinstance(action.what, Exit):
            return action.what
        if isinstance(action.what, Reach):
            return TasksOutOfReach(frozenset([task]), action.what.out)
        if isinstance(action.what, Hold):
            return TaskSuspended(task, action.what.on)
        if isinstance(action.what, str):
            path = self._run_dir.log(task)
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8") as stream:
                stream.write(action.what + "\n")
            return TaskOutput(task, action.what)
        record: Any = replace(action.what, time=self.clock.time())
        self._run_dir.records(task).write(record)
        return None
