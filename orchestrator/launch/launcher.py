"""The five methods every backend has, and what they say to the supervisor."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import Enum
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


TaskEvent = TaskStarted | TaskOutput | TaskExited | LauncherNote


@runtime_checkable
class Launcher(Protocol):
    """A backend: where and how tasks become processes."""

    name: str

    def plan(self, job: Job, attempt: int) -> LaunchPlan:
        """Resolves hosts, addresses and start methods; holds ports, starts nothing.

        Planning a later attempt of the same job gives every task the address
        it had. Raises PortError and StartError.
        """

    def submit(self, plan: LaunchPlan, tasks: Collection[TaskId] | None = None) -> None:
        """Starts all tasks of the plan, or only `tasks` (a restart in place).

        Raises StartError when nothing could be started; a single task that
        cannot be started is reported by `poll` as exited with code 127.
        """

    def poll(self, timeout: float) -> list[TaskEvent]:
        """What happened since the last call; waits at most `timeout` seconds for something."""

    def stop(self, tasks: Collection[TaskId], kind: StopKind) -> None:
        """Asks tasks to end, or ends them; returns at once, `poll` reports the exits."""

    def logs(self, task: TaskId, follow: bool = False) -> Iterator[str]:
        """The lines of a task's log so far; with `follow`, also those to come."""

    def close(self) -> None:
        """Ends whatever is left and frees ports and helper processes; may be called twice."""
