"""Experiments for fault tests: the embedded digits, slowed down, or failing on purpose."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import tensorflow as tf

from orchestrator.estimator import RunConfig, TrainSpec
from orchestrator.experiments import digits
from orchestrator.experiments.experiment import Experiment

prepare_data = digits.prepare_data


class Brake(tf.compat.v1.train.SessionRunHook):
    """Each step takes a while, until the file `release` is there.

    Beside that file, `first-steps-TASK` gets a line with the global step at
    which each session of a task began.
    """

    def __init__(self, release: Path, seconds: float) -> None:
        self._release = release
        self._seconds = seconds
        self._released = False

    def after_create_session(self, session: Any, coord: Any) -> None:
        """Notes where training begins."""
        step = session.run(tf.compat.v1.train.get_global_step())
        with self._release.with_name(f"first-steps-{os.environ['ORCHESTRATOR_TASK']}").open("a") as stream:
            stream.write(f"{step}\n")

    def after_run(self, run_context: Any, run_values: Any) -> None:
        """Sleeps, unless released."""
        self._released = self._released or self._release.exists()
        if not self._released:
            time.sleep(self._seconds)


class Breakage(tf.compat.v1.train.SessionRunHook):
    """Raises in one task after a number of its own steps."""

    def __init__(self, steps: int) -> None:
        self._left = steps

    def after_run(self, run_context: Any, run_values: Any) -> None:
        """Counts, and raises at zero."""
        self._left -= 1
        if self._left <= 0:
            raise ValueError("this record is broken")


def slow(config: RunConfig, max_steps: int, release: str, step_seconds: float = 0.05) -> Experiment:
    """Digits whose steps take `step_seconds` until the file `release` exists."""
    made = digits.experiment(config, max_steps=max_steps)
    spec = made.train_spec
    hooks = [*(spec.hooks or ()), Brake(Path(release), step_seconds)]
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
