"""Hooks that end training: at a step, at a loss that is no number, on request."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from orchestrator.estimator.agreement import Agreement, Ballot
from orchestrator.estimator.logger import log
from orchestrator.estimator.position import Position, SleepingHook
from orchestrator.estimator.stop_request import StopRequest
from orchestrator.estimator.triggers import NEVER, NOW, Wake

v1 = tf.compat.v1


class StepLimit(SleepingHook):
    """Stops after `steps` more steps, or at global step `max_steps`."""

    def __init__(self, position: Position, steps: int | None, max_steps: int | None) -> None:
        self._position = position
        self._steps = steps
        self.last_step = max_steps

    def after_create_session(self, session: v1.Session, coord: Any) -> None:
        if self.last_step is None and self._steps is not None:
            self.last_step = self._position.step + self._steps

    def wake(self) -> Wake:
        return NEVER if self.last_step is None else Wake(step=self.last_step)

    def after_run(self, run_context: Any, run_values: Any) -> None:
        if self.last_step is not None and self._position.step >= self.last_step:
            run_context.request_stop()


class NanGuard(SleepingHook):
    """Ends training with NanLossDuringTrainingError before such weights are saved.

    The loop looks at the loss of steps that it runs without hooks.
    """

    def __init__(self, position: Position) -> None:
        self._position = position

    def after_run(self, run_context: Any, run_values: Any) -> None:
        refuse_nan(self._position.loss, self._position.step)


class LossIsNan(v1.train.NanLossDuringTrainingError):
    """The error of TensorFlow, which also says where training was."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self._step = step

    def __str__(self) -> str:
        return (
            f"NaN loss during training. The loss that model_fn returned is not a number at step {self._step}."
            " No checkpoint was written of it. Usual causes: a learning rate that is too high, the logarithm"
            " of or a division by zero, or NaN in the features."
        )


def refuse_nan(loss: Any, step: int) -> None:
    """Raises NanLossDuringTrainingError where the loss is not a number."""
    if np.isnan(loss).any():
        log.error("Model diverged with loss = NaN.")
        raise LossIsNan(step)


class AgreedStop(SleepingHook):
    """Votes for this task in each step, and stops at the step at which all tasks read a vote to stop.

    Where all tasks have agreed on loops, the vote is before each loop and
    before each step with hooks (see `pace.py`), and not in the step.
    """

    def __init__(
        self, agreement: Agreement, position: Position, request: StopRequest, wants_save: Any
    ) -> None:
        self.agreement = agreement
        self.votes_in_step = True
        self._position = position
        self._request = request
        self._wants_save = wants_save

    def mine(self) -> Ballot:
        """What this task wants now."""
        return Ballot(stop=self._request.is_set(), save=self._wants_save())

    def wake(self) -> Wake:
        return NOW if self.votes_in_step else NEVER

    def before_run(self, run_context: Any) -> Any:
        if not self.votes_in_step:
            return None
        # Fed also when there is nothing to vote for: a run with other feeds is another graph to
        # TensorFlow, and all tasks must run the same one.
        feeds = {self.agreement.ballot: self.agreement.array_of(self.mine())}
        return v1.train.SessionRunArgs(self.agreement.counts, feeds)

    def after_run(self, run_context: Any, run_values: Any) -> None:
        if self.votes_in_step:
            self._position.ballot = self.agreement.all_want(run_values.results)
        if self._position.ballot.stop:
            self._request.agree()
            run_context.request_stop()
