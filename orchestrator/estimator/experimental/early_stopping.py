"""Early stopping: hooks that end training by what evaluations have measured."""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Mapping
from typing import Any

from orchestrator.errors import InvalidArgument, InvalidType, near_miss
from orchestrator.estimator.estimator import EstimatorV1
from orchestrator.estimator.experimental.early_stopping_hooks import (
    FollowStopHook,
    StopOnPredicateHook,
    VotedStopHook,
)
from orchestrator.estimator.logger import log
from orchestrator.estimator.strategies import crosses_processes
from orchestrator.exporters.evaluation_events import evaluations

Evaluations = Mapping[int, Mapping[str, float]]
"""Metrics by global step, in the order of steps."""


def make_early_stopping_hook(
    estimator: EstimatorV1,
    should_stop_fn: Callable[[], bool],
    run_every_secs: float | None = 60,
    run_every_steps: int | None = None,
) -> Any:
    """A hook that ends training once `should_stop_fn()` is true; give it to every task that trains.

    The chief asks the function, at the first step and then every
    `run_every_secs` or `run_every_steps`, and tells the workers. Tasks that
    step together each ask it and stop at the same step. The evaluator
    evaluates the last checkpoint and ends too.

    Raises InvalidType (a TypeError) for a wrong estimator or function,
    InvalidArgument (a ValueError) unless exactly one period is given (a number
    of steps without `run_every_secs=None` is refused).
    """
    if not isinstance(estimator, EstimatorV1):
        raise InvalidType(
            f"make_early_stopping_hook: `estimator` must have type Estimator, given: {type(estimator)}."
        )
    if not callable(should_stop_fn):
        raise InvalidType(
            f"make_early_stopping_hook: `should_stop_fn` must be callable, given: {should_stop_fn!r}."
        )
    if (run_every_secs is None) == (run_every_steps is None):
        raise InvalidArgument(
            "make_early_stopping_hook: Only one of `run_every_secs` and `run_every_steps` must be set;"
            f" given: {run_every_secs} and {run_every_steps}. Set the other one to None."
        )
    if crosses_processes(estimator.config.train_distribute):
        return VotedStopHook(should_stop_fn, run_every_secs, run_every_steps)
    if estimator.config.is_chief:
        return StopOnPredicateHook(should_stop_fn, run_every_secs, run_every_steps, estimator.model_dir)
    return FollowStopHook(estimator.model_dir)


def stop_if_higher_hook(  # noqa: PLR0917 - the order of the public API
    estimator: EstimatorV1,
    metric_name: str,
    threshold: float,
    eval_dir: str | None = None,
    min_steps: int = 0,
    run_every_secs: float | None = 60,
    run_every_steps: int | None = None,
) -> Any:
    """Ends training once an evaluation at `min_steps` or later has measured more than `threshold`.

    The metrics are read from the event files of `eval_dir` (default: the
    estimator's). Periods and errors as make_early_stopping_hook.
    """
    read = _reader(estimator, metric_name, eval_dir)
    predicate = threshold_crossed(read, metric_name, threshold, min_steps, operator.gt)
    return make_early_stopping_hook(estimator, predicate, run_every_secs, run_every_steps)


def stop_if_lower_hook(  # noqa: PLR0917 - the order of the public API
    estimator: EstimatorV1,
    metric_name: str,
    threshold: float,
    eval_dir: str | None = None,
    min_steps: int = 0,
    run_every_secs: float | None = 60,
    run_every_steps: int | None = None,
) -> Any:
    """Ends training once an evaluation has measured less than `threshold`; see stop_if_higher_hook."""
    read = _reader(estimator, metric_name, eval_dir)
    predicate = threshold_crossed(read, metric_name, threshold, min_steps, operator.lt)
    return make_early_stopping_hook(estimator, predicate, run_every_secs, run_every_steps)


def stop_if_no_increase_hook(  # noqa: PLR0917 - the order of the public API
    estimator: EstimatorV1,
    metric_name: str,
    max_steps_without_increase: int,
    eval_dir: str | None = None,
    min_steps: int = 0,
    run_every_secs: float | None = 60,
    run_every_steps: int | None = None,
) -> Any:
    """Ends training once the highest value is `max_steps_without_increase` steps old.

    See stop_if_higher_hook.
    """
    read = _reader(estimator, metric_name, eval_dir)
    predicate = no_improvement(read, metric_name, max_steps_without_increase, min_steps, operator.gt)
    return make_early_stopping_hook(estimator, predicate, run_every_secs, run_every_steps)


def stop_if_no_decrease_hook(  # noqa: PLR0917 - the order of the public API
    estimator: EstimatorV1,
    metric_name: str,
    max_steps_without_decrease: int,
    eval_dir: str | None = None,
    min_steps: int = 0,
    run_every_secs: float | None = 60,
    run_every_steps: int | None = None,
) -> Any:
    """Ends training once the lowest value is `max_steps_without_decrease` steps old.

    See stop_if_higher_hook.
    """
    read = _reader(estimator, metric_name, eval_dir)
    predicate = no_improvement(read, metric_name, max_steps_without_decrease, min_steps, operator.lt)
    return make_early_stopping_hook(estimator, predicate, run_every_secs, run_every_steps)


def read_eval_metrics(eval_dir: str) -> dict[int, dict[str, float]]:
    """All evaluations in the event files of a directory, by global step; empty where there are none."""
    by_step: dict[int, dict[str, float]] = {}
    for step, metrics in evaluations(os.path.join(eval_dir, "events.out.tfevents.*")):
        by_step.setdefault(step, {}).update(metrics)
    return dict(sorted(by_step.items()))


def threshold_crossed(
    read: Callable[[], Evaluations],
    metric: str,
    threshold: float,
    min_steps: int,
    beyond: Callable[[float, float], bool],
) -> Callable[[], bool]:
    """Whether any evaluation from `min_steps` on has a value `beyond` the threshold."""

    def predicate() -> bool:
        for step, value in _values(read(), metric, min_steps):
            if beyond(value, threshold):
                log.info("Early stopping: %s was %g (step %d), beyond %g.", metric, value, step, threshold)
                return True
        return False

    return predicate


def no_improvement(
    read: Callable[[], Evaluations],
    metric: str,
    max_steps: int,
    min_steps: int,
    better: Callable[[float, float], bool],
) -> Callable[[], bool]:
    """Whether some evaluation came `max_steps` or more after the best one before it."""

    def predicate() -> bool:
        best: tuple[int, float] | None = None
        for step, value in _values(read(), metric, min_steps):
            if best is None or better(value, best[1]):
                best = (step, value)
            if step - best[0] >= max_steps:
                log.info("Early stopping: %s has not improved from step %d to %d.", metric, best[0], step)
                return True
        return False

    return predicate


def _reader(estimator: Any, metric: str, eval_dir: str | None) -> Callable[[], Evaluations]:
    """Reads the evaluations, and refuses a metric that none of them has."""

    def read() -> Evaluations:
        directory = eval_dir or estimator.eval_dir()
        found = read_eval_metrics(directory)
        known = sorted({name for metrics in found.values() for name in metrics})
        if known and metric not in known:
            raise InvalidArgument(
                f"early stopping: no evaluation in {directory} has a metric '{metric}'."
                f"{near_miss(metric, known)} There are {', '.join(known)}."
            )
        return found

    return read


def _values(found: Evaluations, metric: str, min_steps: int) -> list[tuple[int, float]]:
    late = {step: metrics for step, metrics in found.items() if step >= min_steps}
    return [(step, metrics[metric]) for step, metrics in late.items() if metric in metrics]
