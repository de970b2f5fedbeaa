"""Stopping all tasks at a step, the workers not before its checkpoint is written."""

from __future__ import annotations

import math
import time
from typing import Any

import tensorflow as tf

from orchestrator.errors import InvalidArgument
from orchestrator.estimator import checkpoints, stop_request
from orchestrator.estimator.logger import log
from orchestrator.estimator.position import SleepingHook
from orchestrator.estimator.signatures import check_estimator
from orchestrator.estimator.triggers import Wake

v1 = tf.compat.v1


class StopAtCheckpointStepHook(SleepingHook):
    """Stops once the newest checkpoint in `model_dir` has reached `last_step`.

    Beyond that step it looks into the directory once every
    `wait_after_file_check_secs`, and training rests meanwhile. Raises
    InvalidArgument where an argument is missing.
    """

    def __init__(self, model_dir: str, last_step: int, wait_after_file_check_secs: float = 30) -> None:
        for name, value in (("model_dir", model_dir), ("last_step", last_step)):
            if value is None:
                raise InvalidArgument(f"StopAtCheckpointStepHook: {name} must be specified.")
        self._model_dir = model_dir
        self._last_step = last_step
        self._wait_seconds = wait_after_file_check_secs

    def begin(self) -> None:
        self._step = v1.train.get_global_step()
        if self._step is None:
            raise InvalidArgument("StopAtCheckpointStepHook: the graph has no global step.")

    def wake(self) -> Wake:
        return Wake(step=self._last_step)

    def after_run(self, run_context: Any, run_values: Any) -> None:
        if int(run_context.session.run(self._step)) < self._last_step:
            return
        written = checkpoints.global_step_of(checkpoints.newest(self._model_dir))
        if written >= self._last_step:
            run_context.request_stop()
            return
        log.info("Waiting for the checkpoint of step %d; the newest is of step %d.", self._last_step, written)
        for _ in range(math.ceil(self._wait_seconds)):
            if stop_request.current().is_set():
                return
            time.sleep(1)


def make_stop_at_checkpoint_step_hook(
    estimator: Any, last_step: int, wait_after_file_check_secs: float = 30
) -> v1.train.SessionRunHook:
    """A hook that stops the chief at `last_step`, and workers once its checkpoint of that step is there.

    So workers outlive the chief's last step, and a restarted chief finds them.
    """
    check_estimator(estimator, "make_stop_at_checkpoint_step_hook")
    if estimator.config.is_chief:
        return v1.train.StopAtStepHook(last_step=last_step)
    return StopAtCheckpointStepHook(estimator.model_dir, last_step, wait_after_file_check_secs)
