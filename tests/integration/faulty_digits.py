"""Experiments for fault tests: the embedded digits, slowed down, or failing on purpose."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import tensorflow as tf

from orchestrator.estimator import RunConfig, TrainSpec
from orchestrator.experiments import digits
from orchestrator.experiments.experiment import Experiment
from tests.integration.brake import Brake
from tests.integration.faults.misdeeds import Misdeed

v1 = tf.compat.v1
prepare_data = digits.prepare_data
FAULT_STEP = 25


class Misbehaviour(v1.train.SessionRunHook):
    """Does something wrong at a global step, of training or of what is evaluated."""

    def __init__(self, misdeed: Misdeed, step: int) -> None:
        self._misdeed = misdeed
        self._at = step
        self._step: Any = None

    def begin(self) -> None:
        """Finds the global step in the graph."""
        self._step = v1.train.get_global_step()

    def before_run(self, run_context: Any) -> Any:
        """Asks for the global step."""
        return v1.train.SessionRunArgs(self._step)

    def after_run(self, run_context: Any, run_values: Any) -> None:
        """Acts when the step has come."""
        if run_values.results >= self._at and self._misdeed.due:
            self._misdeed.commit()


class Breakage(v1.train.SessionRunHook):
    """Raises in one task after a number of its own steps."""

    def __init__(self, steps: int) -> None:
        self._left = steps

    def after_run(self, run_context: Any, run_values: Any) -> None:
        """Counts, and raises at zero."""
        self._left -= 1
        if self._left <= 0:
            raise ValueError("this record is broken")


def slow(config: RunConfig, max_steps: int, release: str) -> Experiment:
    """Digits that are held back until the file `release` exists."""
    made = digits.experiment(config, max_steps=max_steps)
    spec = made.train_spec
    hooks = [*(spec.hooks or ()), Brake(Path(release))]
    return replace(made, train_spec=TrainSpec(spec.input_fn, max_steps=spec.max_steps, hooks=hooks))


def misbehaving(config: RunConfig, max_steps: int, release: str, misdeed: str = "none") -> Experiment:
    """`slow`, where one task does something wrong by itself, once."""
    made = slow(config, max_steps, release)
    done = Misdeed(misdeed, Path(release).with_name("misdeed-done"))
    if config.task_type == "ps":
        done.commit_in_main_thread_at(FAULT_STEP)
    if not done.mine:
        return made
    train, evaluation = made.train_spec, made.eval_spec
    return replace(
        made,
        train_spec=train._replace(hooks=(*train.hooks, Misbehaviour(done, FAULT_STEP))),
        eval_spec=evaluation._replace(hooks=(Misbehaviour(done, 1),)),
    )


def broken_build(config: RunConfig, max_steps: int = 10) -> Experiment:
    """Fails before anything is built."""
    raise LookupError("the column 'price' is not in the table")


def broken_step(config: RunConfig, max_steps: int = 1000) -> Experiment:
    """Fails in the first worker, after some steps, each time."""
    made = digits.experiment(config, max_steps=max_steps)
    if os.environ.get("ORCHESTRATOR_TASK") != "worker-0":
        return made
    spec = made.train_spec
    return replace(made, train_spec=TrainSpec(spec.input_fn, max_steps=spec.max_steps, hooks=[Breakage(5)]))
