"""The hooks behind early stopping: one who decides, one who follows, one who votes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from orchestrator.estimator import checkpoints
from orchestrator.estimator.agreement import Agreement, Ballot
from orchestrator.estimator.logger import log
from orchestrator.estimator.position import SleepingHook
from orchestrator.estimator.triggers import NOW, Trigger, Wake

v1 = tf.compat.v1
_STOP = "signal_early_stopping/STOP"


class StopOnPredicateHook(SleepingHook):
    """Asks `should_stop_fn` periodically; when it says so, sets the shared flag and stops.

    `model_dir` is where training may go on from a checkpoint (see `stop_flag`).
    """

    def __init__(
        self,
        should_stop_fn: Callable[[], bool],
        run_every_secs: float | None,
        run_every_steps: int | None,
        model_dir: str | None = None,
    ) -> None:
        self._should_stop_fn = should_stop_fn
        self._trigger = Trigger(steps=run_every_steps, seconds=run_every_secs)
        self._model_dir = model_dir

    def begin(self) -> None:
        self._step = v1.train.get_global_step()
        flag = stop_flag(self._model_dir)
        self._clear = v1.assign(flag, False)
        self._set = v1.assign(flag, True)

    def after_create_session(self, session: v1.Session, coord: Any) -> None:
        session.run(self._clear)  # a checkpoint of an earlier early stop has it set

    def wake(self) -> Wake:
        return self._trigger.wake()

    def after_run(self, run_context: Any, run_values: Any) -> None:
        step, now = int(run_context.session.run(self._step)), time.monotonic()
        if not self._trigger.due(step, now):
            return
        self._trigger.fire(step, now)
        if self._should_stop_fn():
            log.info("Early stopping at global step %d.", step)
            run_context.session.run(self._set)
            run_context.request_stop()


class FollowStopHook(v1.train.SessionRunHook):
    """Stops a worker when the chief's StopOnPredicateHook has set the shared flag."""

    def __init__(self, model_dir: str | None = None) -> None:
        self._model_dir = model_dir

    def begin(self) -> None:
        flag = stop_flag(self._model_dir)
        # Where the flag is not saved, the chief sets it only after the worker's session may be open.
        ready = v1.is_variable_initialized(flag)
        self._stopped = tf.cond(ready, flag.read_value, lambda: tf.constant(False))

    def before_run(self, run_context: Any) -> Any:
        return v1.train.SessionRunArgs(self._stopped)

    def after_run(self, run_context: Any, run_values: Any) -> None:
        if run_values.results:
            log.info("The chief has stopped training early.")
            run_context.request_stop()


class VotedStopHook(SleepingHook):
    """Stops tasks that step together at the same step, once `should_stop_fn` is true in one of them.

    All tasks must have it, since it votes at every step that is run with hooks.
    """

    def __init__(
        self, should_stop_fn: Callable[[], bool], run_every_secs: float | None, run_every_steps: int | None
    ) -> None:
        self._should_stop_fn = should_stop_fn
        self._trigger = Trigger(steps=run_every_steps, seconds=run_every_secs)
        self._mine = Ballot()

    def begin(self) -> None:
        strategy = tf.distribute.get_strategy()
        self._step = strategy.extended.read_var(v1.train.get_global_step())
        self._votes = Agreement.build(strategy)

    def wake(self) -> Wake:
        return NOW if self._mine.stop else self._trigger.wake()

    def before_run(self, run_context: Any) -> Any:
        return v1.train.SessionRunArgs(*self._vote())

    def after_run(self, run_context: Any, run_values: Any) -> None:
        results = run_values.results
        if results is None:  # a step with random numbers, which runs in a loop and fetches nothing
            results = run_context.session.run(*self._vote())
        if self._votes.all_want(results["counts"]).stop:
            log.info("The tasks have stopped training early.")
            run_context.request_stop()
            return
        step, now = int(results["step"]), time.monotonic()
        if self._trigger.due(step, now):
            self._trigger.fire(step, now)
            self._mine = Ballot(stop=bool(self._should_stop_fn()))

    def _vote(self) -> tuple[dict[str, Any], dict[Any, Any]]:
        feeds = {self._votes.ballot: self._votes.array_of(self._mine)}
        return {"counts": self._votes.counts, "step": self._step}, feeds


def stop_flag(model_dir: str | None) -> tf.Variable:
    """The flag that the tasks of a job share, under the name it has in checkpoints.

    It is saved with the model, except where `model_dir` already has a
    checkpoint without it: restoring that one would fail.
    """
    newest = checkpoints.newest(model_dir) if model_dir else None
    saved = newest is None or _STOP in {name for name, _ in tf.train.list_variables(newest)}
    scope, name = _STOP.split("/")
    with v1.variable_scope(scope, reuse=v1.AUTO_REUSE):
        return v1.get_variable(
            name,
            shape=[],
            dtype=tf.bool,
            initializer=v1.zeros_initializer(),
            trainable=False,
            use_resource=True,
            collections=[v1.GraphKeys.GLOBAL_VARIABLES] if saved else [_STOP],
        )
