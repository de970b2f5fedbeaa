from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import ConfigError, ExperimentError
from orchestrator.estimator import Estimator, EstimatorSpec, EvalSpec, RunConfig, TrainSpec
from orchestrator.experiments.experiment import Experiment
from orchestrator.experiments.function import ExperimentFunction, ExperimentRaised

MODULE = """
    from orchestrator.errors import ConfigError
    calls = []

    def experiment(config, max_steps: int, rate: float = 0.1, name: str = "a", fast: bool = False, other=0):
        calls.append(dict(max_steps=max_steps, rate=rate, name=name, fast=fast, other=other))
        return RESULT

    def open_ended(config, **params):
        calls.append(params)
        return RESULT

    def without_config():
        return RESULT

    def failing(config):
        return 1 / 0

    def refusing(config):
        raise ConfigError("no such luck")

    def forgetful(config):
        pass

    def prepare_data(data_dir, max_steps):
        calls.append((data_dir, max_steps))

    number = 3
"""


def module(directory: Path, text: str = MODULE, name: str = "mine_one") -> str:
    (directory / f"{name}.py").write_text(textwrap.dedent(text))
    return name


def found(directory: Path, function: str = "experiment", result: Any = None) -> ExperimentFunction:
    target = ExperimentFunction.find(f"{module(directory)}:{function}", directory)
    target.module.RESULT = result  # type: ignore[attr-defined]
    return target


def made(config: RunConfig) -> Experiment:
    def model_fn(features: Any, labels: Any, mode: str) -> EstimatorSpec:
        raise AssertionError("not called")

    def input_fn() -> Any:
        raise AssertionError("not called")

    return Experiment(Estimator(model_fn, config=config), TrainSpec(input_fn), EvalSpec(input_fn))


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    return RunConfig(model_dir=str(tmp_path / "model"))


def test_the_working_directory_comes_first(tmp_path: Path) -> None:
    module(tmp_path, "def experiment(config): ...", name="mine_zipfile")
    target = ExperimentFunction.find("mine_zipfile:experiment", tmp_path)
    assert target.module.__file__ == str(tmp_path / "mine_zipfile.py")


@pytest.mark.parametrize("name", ["mine_one", ":experiment", "mine_one:"])
def test_a_name_without_its_two_parts_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ExperimentError, match="must be written MODULE:FUNCTION"):
        ExperimentFunction.find(name, tmp_path)


def test_a_missing_module_is_told_with_the_near_miss(tmp_path: Path) -> None:
    module(tmp_path)
    with pytest.raises(
        ExperimentError, match=r"no module 'mine_on' is installed.* Did you mean 'mine_one'\?"
    ):
        ExperimentFunction.find("mine_on:experiment", tmp_path)


def test_a_missing_function_is_told_with_the_near_miss(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match=r"has no function 'experimnt'\. Did you mean 'experiment'\?"):
        found(tmp_path, "experimnt")
    with pytest.raises(ExperimentError, match=r"'number' in .* is not a function but int"):
        found(tmp_path, "number")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "import nowhere_to_be_found",
            "importing mine_two raised ModuleNotFoundError: No module named 'nowhere",
        ),
        ("def f(:", "importing mine_two raised SyntaxError"),
        ("open('/nowhere/to/be/found')", "importing mine_two raised FileNotFoundError"),
    ],
)
def test_a_module_that_cannot_be_imported_is_its_authors_fault(
    tmp_path: Path, text: str, message: str
) -> None:
    name = module(tmp_path, text, name="mine_two")
    with pytest.raises(ExperimentRaised, match=message):
        ExperimentFunction.find(f"{name}:experiment", tmp_path)


def test_parameters_arrive_and_the_experiment_comes_back(tmp_path: Path, config: RunConfig) -> None:
    experiment = made(config)
    target = found(tmp_path, result=experiment)
    assert target.build(config, {"max_steps": 5, "rate": 1, "other": [1]}) is experiment
    assert target.module.calls == [{"max_steps": 5, "rate": 1.0, "name": "a", "fast": False, "other": [1]}]


def test_text_that_yaml_did_not_take_for_a_number_becomes_one(tmp_path: Path, config: RunConfig) -> None:
    target = found(tmp_path, result=made(config))
    target.build(config, {"max_steps": 5, "rate": "1e-3"})
    assert target.module.calls[0]["rate"] == 0.001


def test_a_function_with_open_parameters_gets_all(tmp_path: Path, config: RunConfig) -> None:
    target = found(tmp_path, "open_ended", made(config))
    target.build(config, {"anything": 1})
    assert target.module.calls == [{"anything": 1}]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (
            {"max_step": 5},
            r"params.max_step: mine_one:experiment has no parameter 'max_step'\. Did you mean 'max_steps'\?"
            " It has: max_steps, rate, name, fast, other",
        ),
        ({}, "needs params.max_steps; .* --set params.max_steps=VALUE"),
        ({"max_steps": "many"}, "params.max_steps is 'many'; it must be a whole number"),
        ({"max_steps": 1.5}, "params.max_steps is 1.5; it must be a whole number"),
        ({"max_steps": True}, "params.max_steps is True; it must be a whole number"),
        ({"max_steps": 1, "rate": "fast"}, "params.rate is 'fast'; it must be a number"),
        ({"max_steps": 1, "name": 2}, "params.name is 2; it must be a text"),
        ({"max_steps": 1, "fast": 1}, "params.fast is 1; it must be true or false"),
    ],
)
def test_parameters_that_do_not_fit_are_named(
    tmp_path: Path, config: RunConfig, params: dict[str, Any], message: str
) -> None:
    target = found(tmp_path, result=made(config))
    with pytest.raises(ExperimentError, match=message):
        target.build(config, params)
    assert target.module.calls == []


def test_a_function_must_take_the_config(tmp_path: Path, config: RunConfig) -> None:
    with pytest.raises(ExperimentError, match="must take the RunConfig as its first argument"):
        found(tmp_path, "without_config").build(config, {})


def test_what_the_function_raises_is_kept(tmp_path: Path, config: RunConfig) -> None:
    with pytest.raises(ExperimentRaised, match="mine_one:failing raised ZeroDivisionError: ") as caught:
        found(tmp_path, "failing").build(config, {})
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    with pytest.raises(ConfigError, match=r"^no such luck$"):
        found(tmp_path, "refusing").build(config, {})


def test_only_an_experiment_may_come_back(tmp_path: Path, config: RunConfig) -> None:
    with pytest.raises(ExperimentError, match=r"must return orchestrator.Experiment\(.*return statement"):
        found(tmp_path, "forgetful").build(config, {})
    with pytest.raises(ExperimentError, match="not tuple"):
        found(tmp_path, "open_ended", result=(1, 2, 3)).build(config, {})


def test_an_estimator_elsewhere_is_refused(tmp_path: Path, config: RunConfig) -> None:
    elsewhere = made(config.replace(model_dir=str(tmp_path / "elsewhere")))
    with pytest.raises(ExperimentError, match=r"writes to .*elsewhere.* config=config"):
        found(tmp_path, "open_ended", elsewhere).build(config, {})


def test_preparation_gets_what_it_declares(tmp_path: Path) -> None:
    target = found(tmp_path)
    target.prepare("/data", {"max_steps": 5, "rate": 0.5})
    assert target.module.calls == [("/data", 5)]


def test_preparation_may_be_absent_or_fail(tmp_path: Path) -> None:
    absent = module(tmp_path, "def experiment(config): ...", name="mine_three")
    ExperimentFunction.find(f"{absent}:experiment", tmp_path).prepare(None, {})
    failing = module(
        tmp_path,
        """
        def experiment(config): ...
        def prepare_data(data_dir, **params): raise OSError("disk on fire")
        """,
        name="mine_four",
    )
    with pytest.raises(ExperimentRaised, match="prepare_data of mine_four raised OSError: disk on fire"):
        ExperimentFunction.find(f"{failing}:experiment", tmp_path).prepare(None, {})
