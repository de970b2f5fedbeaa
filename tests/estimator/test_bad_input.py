"""What users get wrong: one clear error that names function or argument, and a model_dir left alone."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from orchestrator.errors import InvalidArgument, InvalidType, NotTrained
from orchestrator.estimator import experimental, logger, strategies
from orchestrator.estimator.added_metrics import add_metrics
from orchestrator.estimator.estimator import Estimator
from orchestrator.estimator.export import build_raw_serving_input_receiver_fn
from orchestrator.estimator.run_config import RunConfig
from orchestrator.estimator.specs import EstimatorSpec, EvalSpec, TrainSpec
from orchestrator.estimator.training_and_evaluation import train_and_evaluate
from tests.estimator import linear_model

v1 = tf.compat.v1
pytestmark = pytest.mark.xdist_group("estimator")
HERE = Path(__file__).name


@pytest.fixture
def trained(tmp_path: Path) -> Estimator:
    config = RunConfig(save_checkpoints_steps=2)
    estimator = Estimator(linear_model.model_fn, tmp_path / "model", config, params={})
    return estimator.train(linear_model.training_input, steps=4)


def contents(model_dir: str) -> dict[str, bytes]:
    """Everything that must never be lost: all files but event files, which only grow."""
    files = [p for p in Path(model_dir).rglob("*") if p.is_file() and "tfevents" not in p.name]
    return {path.name: path.read_bytes() for path in files}


EAGER = tf.constant(1.0)
EAGER_DATASET = linear_model.training_input()


def one_step() -> Any:
    return v1.assign_add(v1.train.get_global_step(), 1)


def returns_none(features: Any, labels: Any, mode: str) -> Any:
    return None


def returns_a_loss(features: Any, labels: Any, mode: str) -> Any:
    return tf.constant(1.0)


def without_loss(features: Any, labels: Any, mode: str) -> Any:
    return EstimatorSpec(mode, train_op=one_step())


def without_train_op(features: Any, labels: Any, mode: str) -> Any:
    return EstimatorSpec(mode, loss=tf.constant(1.0))


def of_another_mode(features: Any, labels: Any, mode: str) -> Any:
    return EstimatorSpec("eval", loss=tf.constant(1.0))


def number_as_loss(features: Any, labels: Any, mode: str) -> Any:
    return EstimatorSpec(mode, loss=1.0, train_op=one_step())


def vector_as_loss(features: Any, labels: Any, mode: str) -> Any:
    return EstimatorSpec(mode, loss=tf.constant([1.0, 2.0]), train_op=one_step())


def text_as_loss(features: Any, labels: Any, mode: str) -> Any:
    return EstimatorSpec(mode, loss=tf.constant("low"), train_op=one_step())


def metric_without_update(features: Any, labels: Any, mode: str) -> Any:
    metrics = {"accuracy": tf.constant(1.0)}
    return EstimatorSpec(mode, loss=tf.constant(1.0), train_op=one_step(), eval_metric_ops=metrics)


def number_as_metric(features: Any, labels: Any, mode: str) -> Any:
    metrics = {"accuracy": (0.5, tf.no_op())}
    return EstimatorSpec(mode, loss=tf.constant(1.0), train_op=one_step(), eval_metric_ops=metrics)


def loss_made_before(features: Any, labels: Any, mode: str) -> Any:
    return EstimatorSpec(mode, loss=EAGER, train_op=one_step())


def without_labels(features: Any, mode: str) -> Any:
    return EstimatorSpec(mode, loss=tf.constant(1.0), train_op=one_step())


@pytest.mark.parametrize(
    ("model_fn", "kind", "parts"),
    [
        (returns_none, InvalidArgument, ["returns_none", HERE, "should return an EstimatorSpec", "NoneType"]),
        (returns_a_loss, InvalidArgument, ["returns_a_loss", HERE, "should return an EstimatorSpec"]),
        (without_loss, InvalidArgument, ["EstimatorSpec: Missing loss", "'train'"]),
        (without_train_op, InvalidArgument, ["EstimatorSpec: Missing train_op", "'train'"]),
        (of_another_mode, InvalidArgument, ["of_another_mode", HERE, "mode='train'", "without train_op"]),
        (number_as_loss, InvalidType, ["EstimatorSpec: loss must be Tensor", "1.0"]),
        (vector_as_loss, InvalidArgument, ["EstimatorSpec: Loss must be scalar", "tf.reduce_mean"]),
        (text_as_loss, InvalidType, ["EstimatorSpec: Loss must be a number", "string"]),
        (metric_without_update, InvalidType, ["eval_metric_ops", "(metric_value, update_op)", "accuracy"]),
        (number_as_metric, InvalidType, ["eval_metric_ops", "(metric_value, update_op)", "0.5", "accuracy"]),
        (loss_made_before, InvalidArgument, ["EstimatorSpec: loss", "Create it inside model_fn"]),
        (without_labels, InvalidArgument, ["does not take labels", "without_labels", HERE]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_model_fn_returns(tmp_path: Path, model_fn: Any, kind: Any, parts: list[str]) -> None:
    with pytest.raises(kind) as caught:
        Estimator(model_fn, tmp_path).train(linear_model.training_input, steps=1)
    for part in parts:
        assert part in str(caught.value)
    assert not contents(str(tmp_path))


def needs_more(features: Any, labels: Any, mode: str, learning_rate: float) -> Any:
    return None


def misses_features(x: Any, labels: Any, mode: str) -> Any:
    return None


@pytest.mark.parametrize(
    ("arguments", "kind", "parts"),
    [
        ({"model_fn": None}, InvalidArgument, ["model_fn must be provided"]),
        ({"model_fn": 5}, InvalidType, ["model_fn must be callable", "5"]),
        ({"model_fn": needs_more}, InvalidArgument, ["needs_more", HERE, "learning_rate"]),
        ({"model_fn": misses_features}, InvalidArgument, ["misses_features", HERE, "features"]),
        ({"model_fn": without_labels, "params": {"a": 1}}, InvalidArgument, ["without_labels", "params"]),
        ({"model_fn": returns_none, "config": {"model_dir": "x"}}, InvalidArgument, ["config", "RunConfig"]),
        ({"model_fn": returns_none, "model_dir": 5}, InvalidType, ["model_dir", "5"]),
        ({"model_fn": returns_none, "model_dir": __file__}, InvalidArgument, ["model_dir", "is a file"]),
    ],
)
def test_arguments_of_estimator(arguments: dict[str, Any], kind: Any, parts: list[str]) -> None:
    with pytest.raises(kind) as caught:
        Estimator(**arguments)
    for part in parts:
        assert part in str(caught.value)


def gives_none() -> Any:
    return None


def gives_three() -> Any:
    return tf.constant(1.0), tf.constant(2.0), tf.constant(3.0)


def gives_dataset_of_three() -> Any:
    return tf.data.Dataset.from_tensors(gives_three())


def gives_a_file_name() -> Any:
    return "train.csv"


def gives_a_generator() -> Any:
    return (row for row in range(3))


def gives_an_eager_dataset() -> Any:
    return EAGER_DATASET


def gives_eager_tensors() -> Any:
    return {"x": EAGER}, None


def gives_an_iterator() -> Any:
    return iter([1.0, 2.0])


def wants_a_batch_size(batch_size: int) -> Any:
    return linear_model.training_input(batch_size)


def wants_parms(parms: Any) -> Any:
    return linear_model.training_input()


BAD_INPUTS = [
    (gives_none, InvalidArgument, ["gives_none", HERE, "returned None"]),
    (gives_three, InvalidArgument, ["gives_three", HERE, "(features, labels)", "3 parts"]),
    (gives_dataset_of_three, InvalidArgument, ["gives_dataset_of_three", "(features, labels)", "3 parts"]),
    (gives_a_file_name, InvalidType, ["gives_a_file_name", HERE, "'train.csv'", "TextLineDataset"]),
    (gives_a_generator, InvalidType, ["gives_a_generator", HERE, "from_generator"]),
    (gives_an_iterator, InvalidType, ["gives_an_iterator", HERE, "from_generator"]),
    (gives_an_eager_dataset, InvalidArgument, ["gives_an_eager_dataset", HERE, "made outside of it"]),
    (gives_eager_tensors, InvalidArgument, ["gives_eager_tensors", HERE, "made outside of it"]),
    (wants_a_batch_size, InvalidArgument, ["wants_a_batch_size", HERE, "batch_size", "functools.partial"]),
    (wants_parms, InvalidArgument, ["wants_parms", "Did you mean 'params'?"]),
    (None, InvalidType, ["input_fn must be callable", "None"]),
    (np.ones(3), InvalidType, ["input_fn must be callable"]),
]


@pytest.mark.parametrize(
    ("input_fn", "kind", "parts"), BAD_INPUTS, ids=lambda value: getattr(value, "__name__", "")
)
@pytest.mark.parametrize("method", ["train", "evaluate", "predict"])
def test_input_functions(trained: Estimator, method: str, input_fn: Any, kind: Any, parts: list[str]) -> None:
    before = contents(trained.model_dir)
    calls = {
        "train": lambda: trained.train(input_fn, steps=1),
        "evaluate": lambda: trained.evaluate(input_fn, steps=1),
        "predict": lambda: next(trained.predict(input_fn)),
    }
    with pytest.raises(kind) as caught:
        calls[method]()
    for part in parts:
        assert part in str(caught.value)
    assert contents(trained.model_dir) == before


@pytest.mark.parametrize(
    ("input_fn", "kind", "parts"),
    [
        *(case for case in BAD_INPUTS[:3] if case[0] is not gives_three),
        (gives_three, InvalidArgument, ["gives_three", HERE, "tf.data.Dataset under a strategy", "tuple"]),
        (gives_a_file_name, InvalidArgument, ["gives_a_file_name", HERE, "returned str"]),
        (gives_an_eager_dataset, InvalidArgument, ["gives_an_eager_dataset", HERE, "made outside of it"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
@pytest.mark.parametrize("method", ["train", "evaluate"])
def test_input_functions_under_a_strategy(
    trained: Estimator, method: str, input_fn: Any, kind: Any, parts: list[str]
) -> None:
    strategy = strategies.make_strategy("mirrored", 2)
    config = RunConfig(train_distribute=strategy, eval_distribute=strategy)
    estimator = Estimator(linear_model.model_fn, trained.model_dir, config, params={})
    before = contents(trained.model_dir)
    with pytest.raises(kind) as caught:
        getattr(estimator, method)(input_fn, steps=1)
    for part in parts:
        assert part in str(caught.value)
    assert contents(trained.model_dir) == before


def empty() -> tf.data.Dataset:
    return linear_model.evaluation_input().take(0)


def test_an_empty_data_set_is_an_error_that_names_its_function(trained: Estimator) -> None:
    for call in (trained.train, trained.evaluate):
        with pytest.raises(InvalidArgument, match=rf"input_fn empty \(.*{HERE}:\d+\) gave no batch"):
            call(empty)
    assert list(trained.predict(empty)) == []
    assert int(trained.get_variable_value("global_step")) == 4


def test_fewer_batches_than_replicas_are_named(trained: Estimator) -> None:
    strategy = strategies.make_strategy("mirrored", 2)
    config = RunConfig(train_distribute=strategy, eval_distribute=strategy)
    estimator = Estimator(linear_model.model_fn, trained.model_dir, config, params={})
    for call in (estimator.train, estimator.evaluate):
        with pytest.raises(InvalidArgument, match=rf"input_fn .*{HERE}.* no batch for each of 2 replicas"):
            call(lambda: linear_model.evaluation_input().take(1))


def test_an_empty_evaluation_ends_train_and_evaluate_and_keeps_the_training(tmp_path: Path) -> None:
    estimator = Estimator(linear_model.model_fn, tmp_path, RunConfig(save_checkpoints_steps=5), params={})
    with pytest.raises(InvalidArgument, match="input_fn empty"):
        train_and_evaluate(
            estimator,
            TrainSpec(linear_model.training_input, max_steps=20),
            EvalSpec(empty, steps=None, throttle_secs=0),
        )
    assert int(estimator.get_variable_value("global_step")) == 5


HOOK = v1.train.StopAtStepHook(num_steps=1)


@pytest.mark.parametrize(
    ("arguments", "kind", "part"),
    [
        ({"steps": "3"}, InvalidType, "steps must be a number, given: '3'"),
        ({"max_steps": math.inf}, InvalidType, "max_steps must be a number, given: inf"),
        ({"steps": 0}, InvalidArgument, "Must specify steps > 0, given: 0"),
        ({"max_steps": -1}, InvalidArgument, "Must specify max_steps > 0, given: -1"),
        ({"steps": 1, "max_steps": 1}, InvalidArgument, "both steps and max_steps"),
        ({"steps": 1, "hooks": HOOK}, InvalidType, "hooks must be a list"),
        ({"steps": 1, "hooks": ["a"]}, InvalidType, "must be a SessionRunHook, given: a"),
        ({"steps": 1, "hooks": [v1.train.StopAtStepHook]}, InvalidType, "must be a SessionRunHook"),
        ({"steps": 1, "saving_listeners": [HOOK]}, InvalidType, "CheckpointSaverListener"),
    ],
)
def test_arguments_of_train(trained: Estimator, arguments: Any, kind: Any, part: str) -> None:
    with pytest.raises(kind) as caught:
        trained.train(linear_model.training_input, **arguments)
    assert part in str(caught.value)


def test_arguments_of_evaluate_and_predict(trained: Estimator) -> None:
    with pytest.raises(InvalidType, match="steps must be a number, given: '3'"):
        trained.evaluate(linear_model.evaluation_input, steps="3")
    for keys in (["output"], "output"):
        with pytest.raises(InvalidArgument, match=r"'outputs'.*provided \['output'\]"):
            next(trained.predict(linear_model.evaluation_input, predict_keys=keys))
    with pytest.raises(InvalidType, match="checkpoint_path must be a string or a path, given: 5"):
        trained.evaluate(linear_model.evaluation_input, checkpoint_path=5)
    newest = Path(trained.latest_checkpoint())
    assert trained.evaluate(linear_model.evaluation_input, checkpoint_path=newest)["global_step"] == 4
    missing = str(Path(trained.model_dir, "model.ckpt-5"))
    for path, present in ((missing, "model.ckpt-4"), (trained.model_dir, "model.ckpt-2")):
        with pytest.raises(NotTrained, match=rf"{path}: there is no checkpoint .*{present}"):
            trained.evaluate(linear_model.evaluation_input, checkpoint_path=path)
        with pytest.raises(NotTrained, match="there is no checkpoint of that name"):
            next(trained.predict(linear_model.evaluation_input, checkpoint_path=path))


def of_a_dict(features: Any, labels: Any, mode: str) -> Any:
    return linear_model.model_fn(features["x"], labels, mode, {})


def test_what_a_serving_function_returns(trained: Estimator, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=rf"gives_none \(.*{HERE}.* ServingInputReceiver.*NoneType"):
        trained.export_saved_model(tmp_path / "export", gives_none)
    with pytest.raises(InvalidArgument, match="serving_input_receiver_fn of_a_dict is called without"):
        trained.export_saved_model(tmp_path / "export", of_a_dict)
    with pytest.raises(InvalidType, match="export_dir_base must be a string or a path, given: None"):
        trained.export_saved_model(None, gives_none)
    with pytest.raises(NotTrained, match="Couldn't find trained model at"):
        Estimator(linear_model.model_fn, tmp_path / "new", params={}).export_saved_model(
            tmp_path / "export", gives_none
        )
    receiver = build_raw_serving_input_receiver_fn({"x": tf.ones([1, 4])})
    with pytest.raises(tf.errors.NotFoundError, match="/absent/words"):
        Estimator(of_a_dict, trained.model_dir).export_saved_model(
            tmp_path / "export", receiver, assets_extra={"words": "/absent/words"}
        )
    assert not list(tmp_path.glob("export/*"))


def test_what_is_no_estimator_is_named() -> None:
    calls = {
        "add_metrics": lambda: add_metrics(5, lambda features: {}),
        "InMemoryEvaluatorHook": lambda: experimental.InMemoryEvaluatorHook(5, empty),
        "make_early_stopping_hook": lambda: experimental.make_early_stopping_hook(5, bool),
        "make_stop_at_checkpoint_step_hook": lambda: experimental.make_stop_at_checkpoint_step_hook(5, 1),
    }
    for name, call in calls.items():
        with pytest.raises(InvalidType, match=f"{name}: `estimator` must have type Estimator"):
            call()


def without_counting(features: Any, labels: Any, mode: str) -> Any:
    return EstimatorSpec(mode, loss=tf.reduce_mean(features), train_op=tf.no_op())


@pytest.mark.parametrize("rows", [3, 40])
@pytest.mark.parametrize("steps_per_loop", [1, 5])
def test_a_train_op_that_does_not_count_steps_is_named_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int, steps_per_loop: int
) -> None:
    said: list[str] = []
    monkeypatch.setattr(logger, "_said", set())
    monkeypatch.setattr(logger.log, "warning", lambda text, *values: said.append(text))
    estimator = Estimator(without_counting, tmp_path, RunConfig(steps_per_loop=steps_per_loop))
    estimator.train(lambda: linear_model.training_input().take(rows), steps=2)
    (warning,) = [text for text in said if "global step" in text]
    assert "stays 0" in warning
    assert f"without_counting ({__file__}:" in warning


def test_parts_of_train_and_evaluate(trained: Estimator) -> None:
    train_spec, eval_spec = TrainSpec(linear_model.training_input), EvalSpec(linear_model.evaluation_input)
    for arguments, name in (
        ((trained, eval_spec, train_spec), "train_spec"),
        ((5, train_spec, eval_spec), "estimator"),
        ((trained, train_spec, None), "eval_spec"),
    ):
        with pytest.raises(InvalidType, match=name):
            train_and_evaluate(*arguments)
    with pytest.raises(InvalidType, match="Pass the function itself, not what it returns"):
        TrainSpec(5)
    with pytest.raises(InvalidType, match="max_steps must be a number, given: '1'"):
        TrainSpec(linear_model.training_input, max_steps="1")


@pytest.mark.parametrize("hooks", [[], [v1.train.SessionRunHook()], [HOOK]], ids=["bare", "sleepy", "seeing"])
def test_a_loss_that_is_no_number_says_at_which_step(trained: Estimator, hooks: list[Any]) -> None:
    def diverging(features: Any, labels: Any, mode: str, params: dict[str, Any]) -> EstimatorSpec:
        spec = linear_model.model_fn(features, labels, mode, params)
        step = v1.train.get_global_step()
        with tf.control_dependencies([spec.train_op]):
            bad = tf.cast(step.read_value() >= 5, tf.float32) * np.float32("nan")
        loss = tf.where(tf.math.is_nan(bad), np.float32("nan"), spec.loss)
        return spec._replace(loss=loss if mode == "train" else spec.loss)

    before = contents(trained.model_dir)
    broken = Estimator(diverging, trained.model_dir, RunConfig(save_checkpoints_steps=50), params={})
    with pytest.raises(v1.train.NanLossDuringTrainingError, match="not a number at step 5"):
        broken.train(linear_model.training_input, steps=40, hooks=hooks)
    after = contents(trained.model_dir)
    # The checkpoint of the start is written again, with the graph of this model.
    weights = [name for name in before if name.startswith("model.ckpt-") and not name.endswith(".meta")]
    assert len(weights) == 6
    assert {name: after[name] for name in weights} == {name: before[name] for name in weights}
    assert "model.ckpt-5.index" not in after


def fails(features: Any, labels: Any, mode: str, params: dict[str, Any]) -> Any:
    raise KeyError("no such feature")


def of_another_shape(features: Any, labels: Any, mode: str, params: dict[str, Any]) -> Any:
    kernel = v1.get_variable("kernel", [4, 2])
    return EstimatorSpec(mode, loss=tf.reduce_mean(kernel), train_op=one_step())


def of_another_name(features: Any, labels: Any, mode: str, params: dict[str, Any]) -> Any:
    kernel = v1.get_variable("kernels", [4, 1])
    return EstimatorSpec(mode, loss=tf.reduce_mean(kernel), train_op=one_step())


@pytest.mark.parametrize("model_fn", [fails, of_another_shape, of_another_name])
def test_a_failed_start_loses_nothing_of_model_dir(trained: Estimator, model_fn: Any) -> None:
    before = contents(trained.model_dir)
    assert {name for name in before if name.endswith(".index")} == {
        f"model.ckpt-{step}.index" for step in (0, 2, 4)
    }
    # Keeping one checkpoint would remove the others, had training begun.
    config = RunConfig(keep_checkpoint_max=1, save_checkpoints_steps=1)
    with pytest.raises(Exception, match=r"no such feature|kernel"):
        Estimator(model_fn, trained.model_dir, config, params={}).train(linear_model.training_input, steps=9)
    assert contents(trained.model_dir) == before
    trained.train(linear_model.training_input, steps=1)
    assert int(trained.get_variable_value("global_step")) == 5
