"""A task that ends well before the others, which then lose it: its data ran out first. Pure.

Tasks that step together need the same number of batches. The one that has
fewer ends with exit code 0; the others fail with network errors, or wait for
ever, and their messages blame the network.
"""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.launch.job import StrategyKind
from orchestrator.launch.root_cause import FailureKind
from orchestrator.launch.task_table import TaskRow

HOPELESS = "its data would run out again. Give every task the same number of batches: repeat() and max_steps"
_TOGETHER = (StrategyKind.SYNCHRONOUS, StrategyKind.UNKNOWN)


def early_end(rows: Iterable[TaskRow], kind: StrategyKind) -> TaskRow | None:
    """The first training task that ended with exit code 0 before the others were done, or None."""
    trainers = [row for row in rows if row.task.trains]
    if kind not in _TOGETHER or len(trainers) < 2:
        return None
    done = [row for row in trainers if _ended_early(row)]
    first = min(done, key=_ended_at, default=None)
    if first is None:
        return None
    at_fault = [r for r in trainers if r is not first and (r.running or _failed_after(r, _ended_at(first)))]
    return first if at_fault else None


def describe(row: TaskRow, rows: Iterable[TaskRow]) -> str:
    """What became of it, in words that follow its name; with the step of every training task."""
    steps = ", ".join(f"{other.task} at {_step(other)}" for other in rows if other.task.trains)
    return f"ended with exit code 0 while the others still trained: its data ran out first (steps: {steps})"


def blame(row: TaskRow, rows: Iterable[TaskRow]) -> None:
    """Makes its end a failure, and one that no restart mends."""
    row.end_reason, row.end_kind, row.hopeless = describe(row, rows), FailureKind.UNEVEN_DATA, HOPELESS


def _ended_early(row: TaskRow) -> bool:
    if row.running or row.exit is None or row.exit.code != 0 or row.ended_by_us or row.restart_at is not None:
        return False
    record = row.progress
    if record is None or record.step is None or record.max_steps is None:
        return record is None or not record.stopped
    return record.step < record.max_steps and not record.stopped


def _failed_after(row: TaskRow, time: float) -> bool:
    return row.exit is not None and row.exit.code != 0 and row.exit.time >= time


def _ended_at(row: TaskRow) -> float:
    return row.exit.time if row.exit is not None else float("inf")


def _step(row: TaskRow) -> str:
    record = row.progress
    return "an unknown step" if record is None or record.step is None else str(record.step)
