from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

import orchestrator
from orchestrator.errors import InvalidType
from orchestrator.estimator import Estimator, EvalSpec, RunConfig, TrainSpec
from orchestrator.experiments.experiment import Experiment


def model_fn(features: Any, labels: Any, mode: str) -> Any: ...


def input_fn() -> Any: ...


@pytest.fixture
def parts(tmp_path: Path) -> tuple[Estimator, TrainSpec, EvalSpec]:
    estimator = Estimator(model_fn, config=RunConfig(model_dir=str(tmp_path)))
    return estimator, TrainSpec(input_fn), EvalSpec(input_fn)


def test_an_experiment_holds_its_parts_for_good(parts: tuple[Estimator, TrainSpec, EvalSpec]) -> None:
    experiment = orchestrator.Experiment(*parts)
    assert (experiment.estimator, experiment.train_spec, experiment.eval_spec) == parts
    with pytest.raises(dataclasses.FrozenInstanceError):
        experiment.estimator = None  # type: ignore[misc, assignment]


@pytest.mark.parametrize(("index", "name"), list(enumerate(("estimator", "train_spec", "eval_spec"))))
def test_a_wrong_part_is_named(parts: tuple[Estimator, TrainSpec, EvalSpec], index: int, name: str) -> None:
    wrong: list[Any] = list(parts)
    wrong[index] = None
    with pytest.raises(InvalidType, match=f"Experiment: {name} must be an orchestrator.estimator.*not None"):
        Experiment(*wrong)


def test_parts_in_the_wrong_order_are_recognised(parts: tuple[Estimator, TrainSpec, EvalSpec]) -> None:
    estimator, train_spec, eval_spec = parts
    with pytest.raises(InvalidType, match=r"The order is Experiment\(estimator, train_spec, eval_spec\)"):
        Experiment(estimator, eval_spec, train_spec)  # type: ignore[arg-type]
