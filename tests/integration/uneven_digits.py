"""The embedded digits, where the first worker has fewer batches than the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from orchestrator.estimator import RunConfig, TrainSpec
from orchestrator.experiments import digits
from orchestrator.experiments.experiment import Experiment

prepare_data = digits.prepare_data


def uneven(config: RunConfig, max_steps: int, batches: int) -> Experiment:
    """Worker 0 has so many batches; the others have enough for `max_steps`."""
    made = digits.experiment(config, max_steps=max_steps)
    spec = made.train_spec
    if config.task_type != "worker" or config.task_id != 0:
        return made
    return replace(made, train_spec=TrainSpec(_first(spec.input_fn, batches), max_steps=spec.max_steps))


def _first(input_fn: Callable[..., Any], batches: int) -> Callable[..., Any]:
    def shortened(input_context: Any = None) -> Any:
        return input_fn(input_context).take(batches)

    return shortened
