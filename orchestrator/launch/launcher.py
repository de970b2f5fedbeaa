"""The methods every backend has, and what they say to the supervisor."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Protocol, runtime_checkable

from orchestrator.cluster.records import ExitRecord
from orchestrator.cluster.task import TaskId
from orchestrator.launch.job import Job, LaunchPlan, StartMethod


class StopKind(str, Enum):
    """How firmly tasks are asked to end."""

    REQUEST = "request"
    """A checkpoint and a clean end: the control pipe where the task listens to it, SIGTERM where not."""
    KILL = "kill"
    """SIGKILL to the task's whole process group and to every descendant."""


@dataclass(frozen=True)
class TaskStarted:
    """A task's process exists."""

    task: TaskId
    pid: int
    start_method: StartMethod
    why: str
    """Differs from the plan's where the parent was not fit to fork."""


@dataclass(frozen=True)
class TaskOutput:
    """Whole lines that a task wrote, already in its log file."""

    task: TaskId
    text: str


@dataclass(frozen=True)
class TaskExited:
    """A task's process is gone, with every process that it had started."""

    task: TaskId
    record: ExitRecord


@dataclass(frozen=True)
class LauncherNote:
    """Something people should know: a log that cannot be written, a fallback taken."""

    text: str
    passing: bool = False
    """Of interest only as it happens; any other note is repeated at the end of the run."""


@dataclass(frozen=True)
class PreparationOutput:
    """Whole lines that the job's prepare command wrote, already in its log file."""

    text: str


@dataclass(frozen=True)
class PreparationExited:
    """The job's prepare command has ended; tasks may start when its code is 0."""

    record: ExitRecord


@dataclass(frozen=True)
class TasksOutOfReach:
    """The host of these tasks does not answer; their exits are told in any case, later."""

    tasks: frozenset[TaskId]
    out_of_reach: bool
    """False: the host is back, and they are where they were."""


@dataclass(frozen=True)
class TaskSuspended:
    """SIGSTOP holds a task's process, or it goes on."""

    task: TaskId
    suspended: bool


TaskEvent = (
    TaskStarted
    | TaskOutput
    | TaskExited
    | TasksOutOfReach
    | TaskSuspended
    | LauncherNote
    | PreparationOutput
    | PreparationExited
)


@dataclass(frozen=True)
class PeakUsage:
    """The most that one task's processes together used at any sample, over all its starts."""

    memory_bytes: int
    """Proportional set size (a shared page counts by its share); resident size where that cannot be read."""
    cpu_percent: float
    """100 is one core."""
    cpu_seconds: float
    """Used in total."""
    gpu_memory_bytes: int | None = None
    """None where no GPU memory could be read."""


@dataclass(frozen=True)
class StackFile:
    """Where a task that was asked for its stacks adds them."""

    path: Path
    size_before: int
    """Bytes that were in the file before it was asked."""


@runtime_checkable
class Launcher(Protocol):
    """A backend: where and how tasks become processes."""

    name: str

    def plan(self, job: Job, attempt: int) -> LaunchPlan:
        """Resolves hosts, addresses and start methods; holds ports, starts nothing.

        Planning a later attempt of the same job gives every task the address
        it had, unless `submit` found that address taken; tasks that run stay where
        they are. Raises PortError and StartError.
        """

    def prepare(self, job: Job) -> None:
        """Starts `job.prepare_command` (which must be given), to be run once before the first `submit`.

        `poll` reports its PreparationOutput and, once, its PreparationExited.
        `close` ends it; nothing else may be started meanwhile.
        """

    def submit(self, plan: LaunchPlan, tasks: Collection[TaskId] | None = None) -> None:
        """Starts all tasks of the plan, or only `tasks` (a restart in place).

        Returns before they run. Records that an earlier start of these tasks
        left (progress, failure, exit) are removed. Raises StartError when
        nothing could be started or a task still runs, and PortError, with
        nothing started, when an address was taken by someone else since it was
        planned: plan the same attempt again for another one. A single task that
        cannot be started is reported by `poll` as exited with code 127.
        """

    def move(self, plan: LaunchPlan, tasks: Collection[TaskId]) -> LaunchPlan:
        """`plan` with other addresses for `tasks`, which no other task calls; on other hosts where need be.

        They do not run; the others may, and keep what they have. Starts nothing
        and waits for no host: raises HostsAway where one is missing at present,
        also PortError and StartError.
        """

    def poll(self, timeout: float) -> list[TaskEvent]:
        """What happened since the last call; waits at most `timeout` seconds for something.

        Raises StartError, once, when the process that starts tasks could not
        be made ready (TensorFlow cannot be imported, for example): no task of
        that submit has run.
        """

    def stop(self, tasks: Collection[TaskId], kind: StopKind) -> None:
        """Asks tasks to end, or ends them; returns at once, `poll` reports the exits."""

    def signal(self, tasks: Collection[TaskId], number: int) -> None:
        """Signals the first process of each of these tasks; one that does not run is left out."""

    def dump_stacks(self, tasks: Collection[TaskId]) -> Mapping[TaskId, StackFile]:
        """Has these tasks write their stacks; where those that can will write them.

        Asks only tasks that have registered with `orchestrator.cluster.stacks`:
        the signal would end any other.
        """

    def sample(self, now: float) -> None:
        """Measures CPU and memory of every task into `RunDir.resources`, and looks who is suspended.

        `now` is the monotonic clock in seconds. To be called in every turn of
        the supervisor's loop: measures nothing until the last sample is old enough.
        """

    def peaks(self) -> Mapping[TaskId, PeakUsage]:
        """The peak of each task that was sampled at least once."""

    def logs(self, task: TaskId, follow: bool = False) -> Iterator[str]:
        """The lines of a task's log so far; with `follow`, also those to come."""

    def close(self) -> None:
        """Ends whatever is left and frees ports and helper processes; may be called twice."""


@runtime_checkable
class Previewing(Protocol):
    """A launcher whose `plan` acts on other machines."""

    def preview(self, job: Job) -> LaunchPlan:
        """The plan of the first attempt as far as it can be told without asking anybody.

        What only a host can tell is a placeholder in angle brackets.
        """


@runtime_checkable
class Heeding(Protocol):
    """A launcher that may have to wait for other machines."""

    def heed(self, stopped: Callable[[], bool]) -> None:
        """Makes `plan`, `prepare` and `submit` raise Abandoned soon after `stopped` says so.

        Whatever they had begun by then is ended.
        """
