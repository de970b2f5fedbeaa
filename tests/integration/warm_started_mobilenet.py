"""The fine-tuning of MobileNet without learning: every task writes down the weights it starts with."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import tensorflow as tf

from examples import fine_tune_cifar
from orchestrator import Experiment
from orchestrator.estimator import RunConfig
from tests.integration.warm_started_digits import RecordWeights

v1 = tf.compat.v1
NET = "MobilenetV1/"


class RecordNet(RecordWeights):
    """Moving statistics too, which do not train; no optimizer's slots."""

    def begin(self) -> None:
        for variable in v1.global_variables():
            name = variable.name.partition(":")[0]
            if not name.startswith(NET) or "/Adam" in name:
                continue
            copies = getattr(variable, "values", None)
            for number, copy in enumerate(copies if isinstance(copies, tuple) else (variable,)):
                self._reads[f"{name} on replica {number}"] = copy.read_value()


def experiment(config: RunConfig, pictures: str, place: str, tasks: int) -> Experiment:
    """`fine_tune_cifar` at learning rate 0, for a few steps of so many training tasks."""
    made = fine_tune_cifar.experiment(config, pictures, max_steps=4, batch_size=4, rate=0.0, body_rate=0.0)
    hook = RecordNet(Path(place) / f"{config.task_type}-{config.task_id}.npz", tasks)
    return dataclasses.replace(
        made,
        train_spec=made.train_spec._replace(hooks=(hook,)),
        eval_spec=made.eval_spec._replace(steps=1),
    )
