from __future__ import annotations

import importlib
import inspect
import pkgutil
import subprocess
import sys

import pytest

from orchestrator import estimator
from orchestrator.errors import Unsupported
from orchestrator.estimator import refused

PUBLIC = {
    "": (
        "BestExporter",
        "CheckpointSaverHook",
        "CheckpointSaverListener",
        "Estimator",
        "EstimatorSpec",
        "EvalSpec",
        "Exporter",
        "FeedFnHook",
        "FinalExporter",
        "FinalOpsHook",
        "GlobalStepWaiterHook",
        "LatestExporter",
        "LoggingTensorHook",
        "ModeKeys",
        "NanLossDuringTrainingError",
        "NanTensorHook",
        "ProfilerHook",
        "RunConfig",
        "SecondOrStepTimer",
        "SessionRunArgs",
        "SessionRunContext",
        "SessionRunHook",
        "SessionRunValues",
        "StepCounterHook",
        "StopAtStepHook",
        "SummarySaverHook",
        "TrainSpec",
        "VocabInfo",
        "WarmStartSettings",
        "add_metrics",
        "classifier_parse_example_spec",
        "experimental",
        "export",
        "inputs",
        "regressor_parse_example_spec",
        "train_and_evaluate",
        "model_to_estimator",
        "install",
    ),
    "experimental": (
        "InMemoryEvaluatorHook",
        "build_raw_supervised_input_receiver_fn",
        "call_logit_fn",
        "make_early_stopping_hook",
        "make_stop_at_checkpoint_step_hook",
        "stop_if_higher_hook",
        "stop_if_lower_hook",
        "stop_if_no_decrease_hook",
        "stop_if_no_increase_hook",
    ),
    "export": (
        "ClassificationOutput",
        "EvalOutput",
        "ExportOutput",
        "PredictOutput",
        "RegressionOutput",
        "ServingInputReceiver",
        "TensorServingInputReceiver",
        "build_parsing_serving_input_receiver_fn",
        "build_raw_serving_input_receiver_fn",
    ),
    "inputs": (
        "numpy_input_fn",
        "pandas_input_fn",
    ),
}


def test_importing_the_package_imports_no_tensorflow() -> None:
    code = "import sys, orchestrator.estimator; print('tensorflow' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True, timeout=240).strip() == "False"


@pytest.mark.xdist_group("estimator_api")
@pytest.mark.parametrize(("group", "name"), [(group, name) for group in PUBLIC for name in PUBLIC[group]])
def test_every_public_name_is_there(group: str, name: str) -> None:
    module = getattr(estimator, group) if group else estimator
    assert name in dir(module)
    assert getattr(module, name).__name__.rpartition(".")[2] == name


@pytest.mark.parametrize("name", refused.NAMES)
def test_names_left_out_are_refused_with_their_name_and_a_reason(name: str) -> None:
    assert not hasattr(estimator, name)
    with pytest.raises(Unsupported, match=f"orchestrator.estimator.{name} is not available: ") as caught:
        getattr(estimator, name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", refused.TPU_NAMES)
def test_classes_for_tpus_are_refused_by_name(name: str) -> None:
    with pytest.raises(Unsupported, match=f"estimator.tpu.{name} is not available: TPUs are not supported"):
        getattr(estimator.tpu, name)


def test_an_import_statement_shows_the_reason_too() -> None:
    with pytest.raises(ImportError, match="DNNClassifier is not available: canned models"):
        from orchestrator.estimator import DNNClassifier  # noqa: F401
    with pytest.raises(ImportError, match=r"tpu\.TPUEstimator is not available: TPUs"):
        from orchestrator.estimator.tpu import TPUEstimator  # noqa: F401


def test_an_unknown_name_is_refused_with_the_near_miss() -> None:
    with pytest.raises(AttributeError, match=r"'Estimatr'\. Did you mean 'Estimator'"):
        estimator.Estimatr  # noqa: B018


@pytest.mark.parametrize("package", ["", "experimental", "export", "inputs"])
def test_no_name_is_hidden_by_a_module_of_the_same_name(package: str) -> None:
    """Importing a submodule sets it on its package, over the function that users mean."""
    module = importlib.import_module(".".join(filter(None, ["orchestrator.estimator", package])))
    submodules = {found.name for found in pkgutil.iter_modules(module.__path__)}
    for name in submodules & set(PUBLIC[package]):
        assert inspect.ismodule(getattr(module, name)), f"{module.__name__}.{name}"
