"""What to do about a task that failed: a pure function of history and policy.

    what failed                     what is restarted
    asynchronous: any task          that task alone, on its address
    synchronous, single, unknown    the whole attempt
    coordinator: a worker           that worker alone
    coordinator: chief or ps        the whole attempt
    evaluator                       the evaluator alone, on a budget of its own; it never fails the job
                                    unless `evaluator_may_fail` is false

`run_policy.restart` of the cluster file overrides this by task type.

    exit code or signal     what follows
    0                       the task is done; one that ends before its peers under a synchronous
                            strategy, which then lose it, had too little data: the job stops; one that
                            ends in the middle of training, or a server that is still needed: restarted
    42, 143 (SIGTERM)       preempted: free of charge when the checkpoint has advanced since that start
    2                       wrong input: the job stops
    126, 127                the command cannot be started: the job stops
    1 and an ImportError    the job stops, and so it does for an exception before the first step that
      or SyntaxError        would only be raised again, and for the same exception at the same step for
                            the third time
    137 (SIGKILL)           restarted; the verdict says where the kernel's out-of-memory killer did it
    any other               restarted
    any, of a victim        free of charge: it ended because another task had failed

Restarts stop when `max_restarts` starts have brought no new checkpoint; those
that brought one are free. The pause before a restart doubles with each that
counts, up to a minute, and is drawn from its upper half.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from orchestrator.cluster.task import TaskId, TaskType
from orchestrator.launch.completion import PREEMPTED_CODES, describe_exit
from orchestrator.launch.job import RunPolicy, StrategyKind

MAX_DELAY_SECONDS = 60.0
SAME_EXCEPTION_LIMIT = 3

_TRANSIENT_ERRORS = frozenset({
    "OSError", "IOError", "ConnectionError", "ConnectionResetError", "ConnectionRefusedError",
    "ConnectionAbortedError", "BrokenPipeError", "TimeoutError", "BlockingIOError", "InterruptedError",
    "MemoryError", "gaierror", "WaitTimeout", "PortError", "EnvironmentProblem",
    "UnavailableError", "AbortedError", "CancelledError", "DeadlineExceededError", "InternalError",
    "UnknownError", "ResourceExhaustedError", "SystemExit", "KeyboardInterrupt",
})  # fmt: skip
"""Exceptions that may be gone at the next try even when raised before the first step."""

_IMPORT_ERRORS = frozenset(
    {"ImportError", "ModuleNotFoundError", "SyntaxError", "IndentationError", "TabError"}
)


class Action(str, Enum):
    """What is done about a failure."""

    RESTART_TASK = "task"
    RESTART_ATTEMPT = "attempt"
    LEAVE = "leave"
    """The task stays ended and the job goes on: a side-car out of budget."""
    GIVE_UP = "give_up"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Failure:
    """How one start of one task ended, as far as the decision needs it."""

    task: TaskId
    code: int
    signal: int | None = None
    error_type: str | None = None
    """Class of the exception, with or without its module; None where there was none."""
    error_message: str = ""
    step: int | None = None
    """Global step at the failure, where known."""
    stepped: bool = False
    """The task took at least one step since this start."""
    begun: bool = False
    """It takes no steps (a ps, an evaluator), and had begun to serve or to wait for checkpoints."""
    keeps_records: bool = False
    """It runs our training program, so that a missing step means "before the first step"."""
    user_error: bool = False
    checkpoint_at_start: int | None = None
    """Step of the job's newest checkpoint when this start began."""
    checkpoint_now: int | None = None
    victim: bool = False
    """It ended because another task had failed."""
    reason: str | None = None
    """Why the launcher itself ended it (a time limit); None where it ended on its own."""
    hopeless: str | None = None
    """Why the launcher knows that a restart would only bring the same end."""

    @property
    def error_name(self) -> str | None:
        """Class name of the exception without its module."""
        return self.error_type.rsplit(".", 1)[-1] if self.error_type else None

    @property
    def made_progress(self) -> bool:
        """A newer checkpoint exists than when this start began, and the task took part.

        A worker that crashes over and over while the chief goes on saving has
        made none; a ps takes no steps, so the checkpoint alone speaks for it.
        """
        if self.checkpoint_now is None or self.checkpoint_now <= (self.checkpoint_at_start or 0):
            return False
        return self.stepped or not self.task.trains

    @property
    def counts(self) -> bool:
        """Whether a restart after this failure uses up budget."""
        return not self.victim and not self.made_progress

    def describe(self) -> str:
        """The failure in a clause: `worker-1 failed (SIGKILL (exit code 137))`."""
        if self.reason:
            return f"{self.task} {self.reason}"
        what = describe_exit(self.code, self.signal)
        if self.error_name and self.signal is None:
            what = f"{self.error_name}, {what}"
        at = "" if self.step is None else f" at step {self.step}"
        return f"{self.task} ended with {what}{at}"


@dataclass(frozen=True)
class Decision:
    """What to do, when, and why in words."""

    action: Action
    reason: str
    delay_seconds: float = 0.0


def scope(task: TaskId, kind: StrategyKind, policy: RunPolicy) -> Action:
    """What a failure of `task` restarts, where it restarts anything at all."""
    override = policy.restart.get(task.type)
    if override == "never":
        side_car = task.type is TaskType.EVALUATOR and policy.evaluator_may_fail
        return Action.LEAVE if side_car else Action.GIVE_UP
    if override is not None:
        return Action(override)
    if task.type is TaskType.EVALUATOR or kind is StrategyKind.ASYNCHRONOUS:
        return Action.RESTART_TASK
    if kind is StrategyKind.COORDINATOR and task.type is TaskType.WORKER:
        return Action.RESTART_TASK
    return Action.RESTART_ATTEMPT


def why_hopeless(failure: Failure, history: Sequence[Failure]) -> str | None:
    """Why a restart would only fail again, or None where it may help."""
    if failure.hopeless is not None or failure.victim or failure.reason is not None:
        return failure.hopeless
    name = failure.error_name
    begun = failure.step is not None or failure.stepped or failure.begun
    before_first_step = failure.keeps_records and not begun
    at = "" if failure.step is None else f" at step {failure.step}"
    reasons = [
        (failure.user_error or failure.code == 2, "its input is wrong, so a restart would fail again"),
        (failure.code in (126, 127) and name is None, "its command cannot be started"),
        (name in _IMPORT_ERRORS and not failure.stepped, f"{name}: the program cannot be loaded"),
        (
            name is not None
            and name not in _TRANSIENT_ERRORS
            and failure.signal is None
            and before_first_step,
            f"{name} before the first step would only be raised again",
        ),
        (
            name is not None and _times_seen(failure, history) >= SAME_EXCEPTION_LIMIT,
            f"the same {name}{at} for the {SAME_EXCEPTION_LIMIT}rd time",
        ),
    ]
    return next((reason for holds, reason in reasons if holds), None)


def _times_seen(failure: Failure, history: Sequence[Failure]) -> int:
    same = [
        old
        for old in history
        if (old.task, old.error_type, old.error_message, old.step)
        == (failure.task, failure.error_type, failure.error_message, failure.step)
    ]
    return len(same) + 1


def decide(
    failure: Failure,
    history: Sequence[Failure],
    kind: StrategyKind,
    policy: RunPolicy,
    rng: random.Random,
) -> Decision:
    """What to do about `failure`, given the failures that were decided upon before it."""
    side_car = failure.task.type is TaskType.EVALUATOR
    what = failure.describe()
    refusal = Action.LEAVE if side_car and policy.evaluator_may_fail else Action.GIVE_UP
    action = scope(failure.task, kind, policy)
    if action in (Action.GIVE_UP, Action.LEAVE):
        return Decision(action, f"{what}; restarts of {failure.task.type} tasks are switched off")
    hopeless = why_hopeless(failure, history)
    if hopeless:
        return Decision(refusal, f"{what}; not restarted: {hopeless}")
    used = [old for old in history if old.counts and (old.task.type is TaskType.EVALUATOR) is side_car]
    if failure.counts and len(used) >= policy.max_restarts:
        restarts = "restart" if policy.max_restarts == 1 else "restarts"
        why = f"all {policy.max_restarts} {restarts} without a new checkpoint are used up"
        if policy.max_restarts == 0:
            why = "max_restarts is 0"
        return Decision(refusal, f"{what}; not restarted: {why}")
    target = str(failure.task) if action is Action.RESTART_TASK else "the whole attempt"
    if failure.counts:
        budget = f"restart {len(used) + 1} of {policy.max_restarts}"
        delay = policy.restart_delay_seconds * 2.0 ** len(used)
    else:
        budget = "free of charge: " + _why_free(failure)
        delay = policy.restart_delay_seconds
    delay = min(delay, MAX_DELAY_SECONDS) * rng.uniform(0.5, 1.0)
    return Decision(action, f"{what}; restarting {target} ({budget})", delay)


def _why_free(failure: Failure) -> str:
    if failure.victim:
        return "it lost a task that had failed before it"
    kind = "preempted after" if failure.code in PREEMPTED_CODES else "there is"
    return f"{kind} a new checkpoint at step {failure.checkpoint_now}"
