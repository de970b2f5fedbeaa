"""Faults on purpose: `kill:worker-1@step=50` and the like, to see what a job does about them."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from orchestrator.cluster.records import ENV_FAULTS, HANG_SIGNAL, ProgressRecord
from orchestrator.cluster.task import TaskId, TaskType
from orchestrator.errors import ConfigError, near_miss
from orchestrator.launch.job import Job, LaunchPlan, StrategyKind
from orchestrator.launch.launcher import (
    Heeding,
    Launcher,
    LauncherNote,
    PeakUsage,
    StackFile,
    StopKind,
    TaskEvent,
    TaskExited,
    TaskStarted,
)
from orchestrator.launch.run_dir import RunDir

_FORM = re.compile(r"(?P<fault>[a-z]+):(?P<task>[a-z]+[-:]\d+)(?:@step=(?P<step>\d+))?")
_EXAMPLE = "kill:worker-0@step=50"


class Fault(str, Enum):
    """What is done to a task."""

    KILL = "kill"
    """SIGKILL, as the out-of-memory killer does."""
    STOP = "stop"
    """SIGSTOP: the process stays, and does nothing any more."""
    HANG = "hang"
    """The program loops for ever between two steps, all its threads alive; experiments only."""
    PREEMPT = "preempt"
    """SIGTERM, as a scheduler that wants the machine back."""

    @property
    def number(self) -> signal.Signals:
        """The signal that does it."""
        return _SIGNALS[self]


_SIGNALS = {
    Fault.KILL: signal.SIGKILL,
    Fault.STOP: signal.SIGSTOP,
    Fault.HANG: HANG_SIGNAL,
    Fault.PREEMPT: signal.SIGTERM,
}


@dataclass(frozen=True)
class Injection:
    """One fault, at one time, once."""

    fault: Fault
    task: TaskId
    step: int | None = None
    """When the task (for one that takes no steps: any task) reports that step; None: when it has started."""

    @staticmethod
    def parse(text: str) -> Injection:
        """Reads `FAULT:TASK[@step=N]`; ConfigError that shows how it is written."""
        found = _FORM.fullmatch(text.strip())
        if found is None:
            raise ConfigError(f"--inject {text}: write FAULT:TASK@step=N, for example {_EXAMPLE}.")
        known = [fault.value for fault in Fault]
        if found["fault"] not in known:
            hint = near_miss(found["fault"], known) or f" There are {', '.join(known)}."
            raise ConfigError(f"--inject {text}: '{found['fault']}' is no fault.{hint}")
        try:
            task = TaskId.parse(found["task"].replace(":", "-"))
        except ConfigError as error:
            raise ConfigError(f"--inject {text}: {error}") from error
        return Injection(Fault(found["fault"]), task, int(found["step"]) if found["step"] else None)

    def __str__(self) -> str:
        return f"{self.fault.value}:{self.task}" + ("" if self.step is None else f"@step={self.step}")


def check(injections: Sequence[Injection], job: Job) -> None:
    """Raises ConfigError for a fault that this job cannot have."""
    names = [f"{kind}-{i}" for kind, request in job.tasks.items() for i in range(request.replicas)]
    for injection in injections:
        if str(injection.task) not in names:
            hint = near_miss(str(injection.task), names) or f" There are {', '.join(names)}."
            raise ConfigError(f"--inject {injection}: the job has no task {injection.task}.{hint}")
        if injection.fault is Fault.HANG and not job.is_experiment:
            raise ConfigError(
                f"--inject {injection}: only experiments can be made to hang; 'stop' does it to any program."
            )


class InjectingLauncher:
    """A launcher that does to its tasks what it was asked to; everything else is the inner one's."""

    def __init__(self, inner: Launcher, injections: Sequence[Injection]) -> None:
        self.name = inner.name
        self._inner = inner
        self._waiting = list(injections)
        self._running: set[TaskId] = set()
        self._notes: list[LauncherNote] = []
        self._run_dir: RunDir | None = None
        self._coordinated = False

    def heed(self, stopped: Callable[[], bool]) -> None:
        if isinstance(self._inner, Heeding):
            self._inner.heed(stopped)

    def plan(self, job: Job, attempt: int) -> LaunchPlan:
        self._run_dir = RunDir(job.run_dir)
        self._coordinated = job.strategy is StrategyKind.COORDINATOR
        return _with_faults(self._inner.plan(job, attempt))

    def move(self, plan: LaunchPlan, tasks: Collection[TaskId]) -> LaunchPlan:
        return _with_faults(self._inner.move(plan, tasks))

    def poll(self, timeout: float) -> list[TaskEvent]:
        events = self._inner.poll(timeout)
        for event in events:
            if isinstance(event, TaskStarted):
                self._running.add(event.task)
            elif isinstance(event, TaskExited):
                self._running.discard(event.task)
        notes, self._notes = self._notes, []
        return [*events, *notes]

    def sample(self, now: float) -> None:
        for injection in [i for i in self._waiting if self._due(i)]:
            self._waiting.remove(injection)
            self._notes.append(LauncherNote(f"injected {injection}"))
            self._inner.signal([injection.task], injection.fault.number)
        self._inner.sample(now)

    def prepare(self, job: Job) -> None:
        self._inner.prepare(job)

    def submit(self, plan: LaunchPlan, tasks: Collection[TaskId] | None = None) -> None:
        self._inner.submit(plan, tasks)

    def stop(self, tasks: Collection[TaskId], kind: StopKind) -> None:
        self._inner.stop(tasks, kind)

    def signal(self, tasks: Collection[TaskId], number: int) -> None:
        self._inner.signal(tasks, number)

    def dump_stacks(self, tasks: Collection[TaskId]) -> Mapping[TaskId, StackFile]:
        return self._inner.dump_stacks(tasks)

    def peaks(self) -> Mapping[TaskId, PeakUsage]:
        return self._inner.peaks()

    def logs(self, task: TaskId, follow: bool = False) -> Iterator[str]:
        return self._inner.logs(task, follow)

    def close(self) -> None:
        self._inner.close()

    def _due(self, injection: Injection) -> bool:
        if injection.task not in self._running or self._run_dir is None:
            return False
        if injection.step is None:
            return True
        asked = [injection.task] if self._steps(injection.task) else [t for t in self._running if t.trains]
        records = [self._run_dir.records(task).read(ProgressRecord) for task in asked]
        return any(r is not None and r.step is not None and r.step >= injection.step for r in records)

    def _steps(self, task: TaskId) -> bool:
        """Whether it counts steps itself; workers of a coordinator do what the chief counts."""
        return task.trains and not (self._coordinated and task.type is TaskType.WORKER)


def _with_faults(plan: LaunchPlan) -> LaunchPlan:
    """The plan with tasks that let themselves be made to hang."""
    tasks = tuple(replace(task, env={**task.env, ENV_FAULTS: "1"}) for task in plan.tasks)
    return replace(plan, tasks=tasks)
