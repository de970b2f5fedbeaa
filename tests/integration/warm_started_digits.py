"""The fine-tuning example without learning: every task writes down the weights it starts with."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from examples import fine_tune_digits
from examples.fine_tune_digits import prepare_data
from orchestrator import Experiment
from orchestrator.estimator import RunConfig

v1 = tf.compat.v1
__all__ = ["experiment", "prepare_data"]


class RecordWeights(v1.train.SessionRunHook):
    """Writes every copy of every weight of the body, before the first step, to PLACE/TASK.npz.

    Then it waits for the other tasks to do the same: none trains to the end before another has begun.
    """

    def __init__(self, path: Path, tasks: int) -> None:
        self._path = path
        self._tasks = tasks
        self._reads: dict[str, Any] = {}

    def begin(self) -> None:
        for variable in v1.trainable_variables():
            copies = getattr(variable, "values", None)
            for number, copy in enumerate(copies if isinstance(copies, tuple) else (variable,)):
                name = variable.name.partition(":")[0]
                self._reads[f"{name} on replica {number}"] = copy.read_value()

    def before_run(self, run_context: Any) -> None:
        if self._reads:
            values = run_context.session.run(self._reads)
            unfinished = self._path.with_suffix(".part")
            with unfinished.open("wb") as stream:
                np.savez(stream, **values)
            unfinished.rename(self._path)
            self._reads = {}
            while len(list(self._path.parent.glob("*.npz"))) < self._tasks:
                time.sleep(0.05)


def experiment(config: RunConfig, place: str, tasks: int, max_steps: int = 6) -> Experiment:
    """`finetune` at learning rate 0, by so many training tasks."""
    made = fine_tune_digits.finetune(config, max_steps=max_steps, learning_rate=0.0)
    hook = RecordWeights(Path(place) / f"{config.task_type}-{config.task_id}.npz", tasks)
    return dataclasses.replace(made, train_spec=made.train_spec._replace(hooks=(hook,)))
