"""The fine-tuning of MobileNet, held back until a test releases it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from examples import fine_tune_cifar
from orchestrator import Experiment
from orchestrator.estimator import RunConfig
from tests.integration.brake import HOLD_STEP, Brake

MAX_STEPS = HOLD_STEP + 40


def experiment(config: RunConfig, pictures: str, release: str, body_rate: float = 0.0) -> Experiment:
    """`fine_tune_cifar`, which goes on at its own pace once the file `release` exists."""
    made = fine_tune_cifar.experiment(config, pictures, max_steps=MAX_STEPS, body_rate=body_rate)
    hooks = (Brake(Path(release)),)
    return dataclasses.replace(made, train_spec=made.train_spec._replace(hooks=hooks))
