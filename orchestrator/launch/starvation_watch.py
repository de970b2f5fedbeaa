"""Says when tasks step with idle processors: then they wait, most likely for their input.

No task tells how long it waits for input, and a step that waits for peers looks
the same from within. But where every training task and ps runs on this
machine, without a GPU, nobody computes while processors are free, and steps are
still taken, then the data comes too slowly.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.cluster.task import TaskId, TaskType

WINDOW_SECONDS = 60.0
BUSY_PERCENT = 50.0
"""Of one core; a task that computes on a processor uses one at least."""
IDLE_SHARE = 0.25
"""Of all processors: with less to spare, tasks may just not get their turn."""
_FEWEST = 10
_FEWEST_FIELDS = 5
"""User, nice, system, idle, waiting for a disk."""


@dataclass(frozen=True)
class Activity:
    """The tasks at one moment; `time` is monotonic seconds."""

    time: float
    steps: int | None
    """Of all training tasks together; None while one of them does not take steps."""
    cpu_percent: float
    """Of the busiest training task or ps; 100 is one core."""
    idle_share: float
    """Of this machine's processors since the moment before."""


def starves(history: Sequence[Activity]) -> bool:
    """Whether tasks have waited throughout the last WINDOW_SECONDS of `history`, oldest first."""
    if not history:
        return False
    now = history[-1].time
    recent = [activity for activity in history if activity.time >= now - WINDOW_SECONDS]
    if len(recent) < _FEWEST or now - history[0].time < WINDOW_SECONDS:
        return False
    waits = all(a.cpu_percent < BUSY_PERCENT and a.idle_share >= IDLE_SHARE for a in recent)
    first, last = recent[0].steps, recent[-1].steps
    return waits and None not in [a.steps for a in recent] and (last or 0) > (first or 0)


class StarvationWatch:
    """Tells once. `expected` are all tasks of the job: where some run elsewhere, nothing can be said."""

    def __init__(self, stat: Path = Path("/proc/stat")) -> None:
        self._stat = stat
        self._history: deque[Activity] = deque(maxlen=120)
        self._processors: tuple[float, float] | None = None
        self._told = False

    def look(
        self,
        now: float,
        percents: Mapping[TaskId, float | None],
        stepping: Mapping[TaskId, int],
        expected: Collection[TaskId],
    ) -> list[str]:
        """What is to be said at this sample.

        `percents` is the CPU use since the sample before, `stepping` the step of
        each task that takes steps now.
        """
        idle = self._idle_share()
        computing = [task for task in expected if task.type is not TaskType.EVALUATOR]
        known = [percents.get(task) for task in computing]
        if self._told or idle is None or not known or any(percent is None for percent in known):
            return []
        most = max(percent for percent in known if percent is not None)
        trainers = [task for task in computing if task.trains]
        steps = sum(stepping[t] for t in trainers) if all(t in stepping for t in trainers) else None
        self._history.append(Activity(now, steps, most, idle))
        if not starves(self._history):
            return []
        self._told = True
        return [
            f"training waits for its input: no task used {BUSY_PERCENT:.0f} % of a core for"
            f" {WINDOW_SECONDS:.0f} s, with processors free. Prefetch, cache or read in parallel"
        ]

    def _idle_share(self) -> float | None:
        """The idle share of processor time since the last call; None the first time."""
        try:
            fields = [float(f) for f in self._stat.read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]]
        except (OSError, ValueError):
            return None
        if len(fields) < _FEWEST_FIELDS:
            return None
        now, before = (fields[3] + fields[4], sum(fields)), self._processors
        self._processors = now
        if before is None or now[1] <= before[1]:
            return None
        return (now[0] - before[0]) / (now[1] - before[1])
