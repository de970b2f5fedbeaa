"""The order in which tasks are stopped: a small state machine, told the time.

Training tasks and the evaluator are asked first, so that checkpoints can still
be written to the parameter servers' variables; ps tasks follow when those are
gone. Whoever is left after the grace period is killed.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from orchestrator.cluster.task import TaskId, TaskType
from orchestrator.launch import completion
from orchestrator.launch.launcher import StopKind
from orchestrator.launch.root_cause import TaskEnd
from orchestrator.launch.snapshot import RunPhase

PS_GRACE_SECONDS = 5.0


@dataclass(frozen=True)
class StopOrder:
    """One call of `Launcher.stop` that is due."""

    tasks: tuple[TaskId, ...]
    kind: StopKind


class StopSequence:
    """Stops a set of tasks, in order and with patience.

    `grace` is how long training tasks and the evaluator may take after the
    request, in seconds; 0 kills at once.
    """

    def __init__(self, tasks: Collection[TaskId], now: float, grace: float) -> None:
        self._first = {task for task in tasks if task.type is not TaskType.PS}
        self._ps = {task for task in tasks if task.type is TaskType.PS}
        self._grace = grace
        self.kill_at = now + grace
        """Monotonic seconds at which patience with training tasks ends."""
        self._asked_first = self._killed_first = False
        self._ps_kill_at: float | None = None
        self._killed_ps = False
        self._hurried = grace <= 0

    @property
    def tasks(self) -> frozenset[TaskId]:
        """Every task that it stops."""
        return frozenset(self._first | self._ps)

    @property
    def killed(self) -> frozenset[TaskId]:
        """Those that were to be killed by now."""
        first = self._first if self._killed_first else set()
        return frozenset(first | (self._ps if self._killed_ps else set()))

    def hurry(self) -> None:
        """No more patience: kill everything at the next step."""
        self._hurried = True

    def advance(self, now: float, running: Collection[TaskId]) -> Sequence[StopOrder]:
        """What is due now, given the tasks that still run."""
        first = tuple(sorted(self._first & set(running)))
        ps = tuple(sorted(self._ps & set(running)))
        if self._hurried:
            return self._kill_all(first, ps)
        orders: list[StopOrder] = []
        if first and not self._asked_first:
            orders.append(StopOrder(first, StopKind.REQUEST))
        self._asked_first = True
        if first and now >= self.kill_at and not self._killed_first:
            self._killed_first = True
            orders.append(StopOrder(first, StopKind.KILL))
        if ps and (not first or self._killed_first):
            if self._ps_kill_at is None:
                self._ps_kill_at = now + min(PS_GRACE_SECONDS, self._grace)
                orders.append(StopOrder(ps, StopKind.REQUEST))
            elif now >= self._ps_kill_at and not self._killed_ps:
                self._killed_ps = True
                orders.append(StopOrder(ps, StopKind.KILL))
        return orders

    def _kill_all(self, first: tuple[TaskId, ...], ps: tuple[TaskId, ...]) -> Sequence[StopOrder]:
        left = () if self._killed_first else first
        left += () if self._killed_ps else ps
        self._killed_first = self._killed_ps = True
        return [StopOrder(left, StopKind.KILL)] if left else []

    def next_deadline(self) -> float | None:
        """When `advance` may have something new to say although no task ends."""
        if self._hurried:
            return None
        if not self._killed_first:
            return self.kill_at
        return None if self._killed_ps else self._ps_kill_at


@dataclass(frozen=True)
class Outcome:
    """What follows when every task was stopped: the end of the run, or its next attempt."""

    phase: RunPhase = RunPhase.FAILED
    exit_code: int = completion.EXIT_FAILED
    why: str = ""
    blamed: tuple[TaskEnd, ...] = ()
    """Failures that were known when the stop began."""
    restart_at: float | None = None
    """Monotonic seconds at which the next attempt starts; None where the run ends."""

    @property
    def restarts(self) -> bool:
        return self.restart_at is not None
