"""Which tasks make no progress, and which of them is at fault: pure.

A task is watched from its first progress record on; tasks of our own training
program from their start, since they always write one. A server of variables
is watched until it serves; after that it is found by the tasks that wait for it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.cluster.records import Phase, ProgressRecord
from orchestrator.cluster.stacks import own_frame
from orchestrator.cluster.task import TaskId, TaskType
from orchestrator.launch.job import RunPolicy

MOMENT_SECONDS = 5.0
"""A process that SIGSTOP holds for less is nobody's business."""
_NOT_STARTED = (Phase.STARTING, Phase.WAITING)
_BEGINNINGS = {TaskType.PS: "did not begin to serve", TaskType.EVALUATOR: "did not begin its work"}
_EVALUATORS_WORK = (Phase.EVALUATING, Phase.EXPORTING, Phase.SAVING, Phase.DONE)


@dataclass(frozen=True)
class Watched:
    """A running task, as far as hangs are concerned. Times are monotonic seconds."""

    task: TaskId
    started_at: float
    progress: ProgressRecord | None = None
    changed_at: float = 0.0
    """When its record last told of progress."""
    stepped: bool = False
    """It took a step since its start."""
    keeps_records: bool = True
    """It is known to write a progress record."""
    suspended_for: float = 0.0
    """Seconds that SIGSTOP has held its process for."""

    @property
    def waits(self) -> bool:
        """It only waits for its peers."""
        return self.progress is not None and self.progress.phase is Phase.WAITING

    @property
    def doing(self) -> str:
        """What it was last known to do, in words."""
        if self.progress is None:
            return "silent"
        phase = str(self.progress.phase).replace("_", " ")
        return phase if self.progress.step is None else f"{phase} at step {self.progress.step}"


@dataclass(frozen=True)
class Stall:
    """A task that has passed a limit. Durations are seconds."""

    watched: Watched
    idle: float
    limit: float
    starting: bool
    """The limit is that of its start."""

    @property
    def task(self) -> TaskId:
        return self.watched.task

    def describe(self) -> str:
        """What it failed to do, in words that follow its name."""
        if self.starting:
            begun = _BEGINNINGS.get(self.task.type, "took no step")
            return f"{begun} within {self.limit:g} s of its start (it was {self.watched.doing})"
        return f"made no progress for {self.limit:g} s ({self.watched.doing})"


def progress_mark(progress: ProgressRecord | None) -> tuple[object, ...]:
    """What changes when a task makes progress; a record written again tells nothing by itself."""
    if progress is None:
        return ()
    return (progress.phase, progress.step, progress.batches, progress.checkpoint_step)


def idle_and_limit(watched: Watched, policy: RunPolicy, now: float) -> tuple[float, float, bool] | None:
    """(idle seconds, limit, whether it is the limit of the start); None where nothing limits it now."""
    task, progress = watched.task, watched.progress
    if task.type is TaskType.PS and progress is not None and progress.phase is not Phase.STARTING:
        return None
    if progress is None:
        started = watched.keeps_records
        return (now - watched.started_at, policy.start_timeout_seconds, True) if started else None
    if task.type is TaskType.EVALUATOR and progress.phase not in (*_EVALUATORS_WORK, Phase.STARTING):
        return None
    if not watched.stepped and progress.phase in (*_NOT_STARTED, Phase.STEPPING):
        begun = progress.step is not None or progress.phase is Phase.STEPPING
        since = watched.changed_at if begun else watched.started_at
        return now - since, policy.start_timeout_seconds, True
    limit = policy.hang_seconds.of(progress.phase)
    return None if limit is None else (now - watched.changed_at, limit, False)


def find_stalls(tasks: Sequence[Watched], policy: RunPolicy, now: float) -> list[Stall]:
    """The tasks that have passed their limit.

    One that waits for its peers has not, as long as another training task may
    still make progress.
    """
    stalls: list[Stall] = []
    hopeful = False
    for watched in tasks:
        found = idle_and_limit(watched, policy, now)
        if found is not None and found[0] > found[1]:
            stalls.append(Stall(watched, *found))
        elif (watched.task.trains and not watched.waits) or (watched.task.type is TaskType.PS and found):
            hopeful = True  # it trains, or it may still begin to serve
    return [stall for stall in stalls if not (hopeful and stall.watched.waits)]


@dataclass(frozen=True)
class Suspicion:
    """Who is to be ended for a stall, and why in words that follow its name."""

    task: TaskId
    reason: str


def find_suspended(tasks: Sequence[Watched], policy: RunPolicy, *, stalled: bool) -> Suspicion | None:
    """The task that SIGSTOP has held for too long; where somebody is `stalled`, for longer than a moment."""
    limit = policy.hang_seconds.suspended
    held = [watched for watched in tasks if watched.suspended_for]
    if limit is None or not held:
        return None
    longest = max(held, key=lambda watched: watched.suspended_for)
    if longest.suspended_for < min(limit, MOMENT_SECONDS if stalled else limit):
        return None
    held_for = f"was held by SIGSTOP for {longest.suspended_for:.0f} s"
    return Suspicion(longest.task, f"{held_for} ({longest.doing})")


def find_culprit(
    stalls: Sequence[Stall],
    tasks: Sequence[Watched],
    answers: Mapping[TaskId, str],
    policy: RunPolicy,
    now: float,
    *,
    silent: Collection[TaskId] = (),
) -> Suspicion:
    """The task at fault for `stalls` (at least one).

    `answers` are the stacks that tasks have written just now; `silent` those
    that were asked for theirs and did not answer: they are stopped or stuck in
    the kernel. Then comes who is busy in its own code while the others wait
    inside of TensorFlow, then who is behind in steps, then who was idle longest.
    """
    first = max(stalls, key=lambda stall: stall.idle - stall.limit)
    if first.task.type is not TaskType.EVALUATOR:
        dead = sorted(task for task in silent if task.type is not TaskType.EVALUATOR)
        stalled_too = [task for task in dead if task in {stall.task for stall in stalls}]
        if dead:
            task = (stalled_too or dead)[0]
            own = next((stall for stall in stalls if stall.task == task), None)
            what = own.describe() if own else f"holds up {first.task}, which {first.describe()}"
            return Suspicion(task, f"{what}; its process does not answer, as one that is stopped (SIGSTOP)")
    near = _also_idle(first, tasks, policy, now)
    near += [s.watched for s in stalls if s.task.type is TaskType.PS and s.watched not in near]
    chosen = min(near, key=lambda item: _rank(item, answers, now))
    described = next((s for s in stalls if s.task == chosen.task), None)
    stall = described or Stall(chosen, now - chosen.changed_at, first.limit, first.starting)
    frame = own_frame(answers.get(chosen.task, ""))
    where = ""
    if frame is not None:
        where = f"; it is in {frame}"
    elif chosen.task in answers:
        where = "; it waits inside of TensorFlow"
    elif chosen.task in silent:
        where = "; its process does not answer, as one that is stopped (SIGSTOP)"
    return Suspicion(chosen.task, stall.describe() + where)


def _also_idle(first: Stall, tasks: Sequence[Watched], policy: RunPolicy, now: float) -> list[Watched]:
    """The task that was noticed, and those that stopped at about the same time."""
    found = [first.watched]
    if first.task.type is TaskType.EVALUATOR:
        return found
    for watched in tasks:
        if watched.task == first.task or not watched.task.trains:
            continue
        idle = idle_and_limit(watched, policy, now)
        if idle is not None and idle[0] >= first.idle / 2:
            found.append(watched)
    return found


def _rank(
    watched: Watched, answers: Mapping[TaskId, str], now: float
) -> tuple[bool, bool, bool, float, float, TaskId]:
    text = answers.get(watched.task)
    busy = text is not None and own_frame(text) is not None
    step = watched.progress.step if watched.progress is not None else None
    silent = watched.progress is None
    idle = now - (watched.started_at if silent else watched.changed_at)
    return (watched.waits, not silent, not busy, -1.0 if step is None else step, -idle, watched.task)
