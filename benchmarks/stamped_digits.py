"""The embedded digits at a gentle pace, each step's time written down: what benchmarks of faults train."""

from __future__ import annotations

import dataclasses
import os
import time
from pathlib import Path
from typing import Any

import tensorflow as tf

from orchestrator import Experiment
from orchestrator.estimator import RunConfig
from orchestrator.experiments import digits

v1 = tf.compat.v1
prepare_data = digits.prepare_data
PACE_SECONDS = 0.02
__all__ = ["experiment", "prepare_data"]


class Stamps(v1.train.SessionRunHook):
    """After each step: appends its time (seconds since the epoch) to PLACE/TASK, and waits a little."""

    def __init__(self, place: Path) -> None:
        self._path = place / os.environ["ORCHESTRATOR_TASK"]

    def after_run(self, run_context: Any, run_values: Any) -> None:
        """A step is over."""
        with self._path.open("a") as stream:
            stream.write(f"{time.time()}\n")
        time.sleep(PACE_SECONDS)


def experiment(config: RunConfig, place: str, max_steps: int = 1_000_000) -> Experiment:
    """Digits that leave stamps in `place`."""
    made = digits.experiment(config, max_steps=max_steps)
    train = made.train_spec._replace(hooks=(*made.train_spec.hooks, Stamps(Path(place))))
    return dataclasses.replace(made, train_spec=train)
