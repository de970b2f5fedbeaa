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

prepare_data = digits.prepare_data


class Breakage(tf.compat.v1.train.SessionRunHook):
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
