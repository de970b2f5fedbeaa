"""What a task of the fake launcher does: a list of things at times after its start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.cluster.records import EvaluationRecord, FailureRecord, Phase, ProgressRecord


@dataclass(frozen=True)
class Exit:
    """The process ends; `signal` is the number of the signal that ended it, if one did."""

    code: int
    signal: int | None = None
    host_lost: str | None = None
    """What became of its host, in words, where that took the task with it."""


@dataclass(frozen=True)
class Reach:
    """The task's host does not answer any more, or does so again."""

    out: bool


@dataclass(frozen=True)
class Hold:
    """SIGSTOP holds the task's process, or it goes on."""

    on: bool


@dataclass(frozen=True)
class Action:
    """One thing that a task does, `at` seconds after its start."""

    at: float
    what: ProgressRecord | EvaluationRecord | FailureRecord | Exit | Reach | Hold | str


@dataclass(frozen=True)
class TaskScript:
    """One start of a task.

    A script without an end runs until it is stopped. `on_request` is the exit
    code with which it obeys a request, `request_seconds` later; None makes it
    ignore requests, as a task that is blocked in a collective does.
    """

    actions: tuple[Action, ...] = ()
    on_request: int | None = 143
    request_seconds: float = 0.1

    @staticmethod
    def of(*actions: Action, on_request: int | None = 143, request_seconds: float = 0.1) -> TaskScript:
        """A script of `actions`, in the order of their times."""
        return TaskScript(tuple(sorted(actions, key=lambda item: item.at)), on_request, request_seconds)


Scripts = Sequence[TaskScript]
"""The starts of one task; the last one is played again when the task is started more often."""


def progress(
    at: float,
    step: int | None = None,
    *,
    checkpoint: int | None = None,
    max_steps: int | None = None,
    phase: Phase = Phase.STEPPING,
    rate: float | None = None,
    loss: float | None = None,
    stopped_with_peer: bool = False,
) -> Action:
    """The task writes a progress record."""
    record = ProgressRecord(
        phase,
        0.0,
        step,
        max_steps=max_steps,
        checkpoint_step=checkpoint,
        steps_per_second=rate,
        loss=loss,
        stopped=stopped_with_peer,
        stopped_with_peer=stopped_with_peer,
    )
    return Action(at, record)


def evaluation(at: float, step: int, *, final: bool = False, **metrics: float) -> Action:
    """The task writes an evaluation record."""
    return Action(at, EvaluationRecord(0.0, step, dict(metrics), final=final))


def failure(
    at: float, error_type: str, message: str = "", *, step: int | None = None, user_error: bool = False
) -> Action:
    """The task records an exception; it does not end by itself."""
    text = f"Traceback (most recent call last):\n{error_type}: {message}\n"
    return Action(at, FailureRecord(0.0, error_type, message, text, step, user_error))


def output(at: float, text: str) -> Action:
    """The task writes lines."""
    return Action(at, text)


def ends(at: float, code: int = 0, *, signal: int | None = None) -> Action:
    """The process ends with `code`, or by `signal` (the code is then 128 + signal)."""
    return Action(at, Exit(code if signal is None else 128 + signal, signal))


def out_of_reach(at: float) -> Action:
    """The task's host does not answer from now on."""
    return Action(at, Reach(out=True))


def suspended(at: float) -> Action:
    """SIGSTOP holds the process from now on."""
    return Action(at, Hold(on=True))


def goes_on(at: float) -> Action:
    """SIGSTOP holds the process no longer."""
    return Action(at, Hold(on=False))


def back(at: float) -> Action:
    """The task's host answers again."""
    return Action(at, Reach(out=False))


def ends_with_host(at: float, text: str) -> Action:
    """The task's host is lost for good; `text` says so."""
    return Action(at, Exit(137, None, text))
