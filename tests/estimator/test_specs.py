from __future__ import annotations

from typing import Any

import pytest
import tensorflow as tf
import tf_keras

from orchestrator.errors import InvalidArgument, InvalidType, OrchestratorError
from orchestrator.estimator.export.outputs import PredictOutput
from orchestrator.estimator.specs import (
    EstimatorSpec,
    EvalInput,
    EvalSpec,
    TrainSpec,
    eval_inputs,
    merged_metrics,
)
from orchestrator.exporters.latest import LatestExporter

pytestmark = pytest.mark.xdist_group("estimator_api")
v1 = tf.compat.v1


class Hook(v1.train.SessionRunHook):
    pass


class Listener(v1.train.CheckpointSaverListener):
    pass


def input_fn() -> Any:
    return None


@pytest.fixture
def graph() -> Any:
    with tf.Graph().as_default() as entered:
        yield entered


def complete_spec(mode: str = "train", **fields: Any) -> EstimatorSpec:
    loss = tf.constant(1.0)
    return EstimatorSpec(mode, **{"loss": loss, "train_op": tf.no_op(), "predictions": {"p": loss}, **fields})


@pytest.mark.parametrize(
    ("mode", "field", "text"),
    [
        ("train", "loss", "Missing loss"),
        ("eval", "loss", "Missing loss"),
        ("train", "train_op", "Missing train_op"),
        ("infer", "predictions", "Missing predictions"),
    ],
)
def test_each_mode_requires_its_fields(graph: Any, mode: str, field: str, text: str) -> None:
    with pytest.raises(InvalidArgument, match=text):
        complete_spec(mode, **{field: None})


@pytest.mark.parametrize(
    ("mode", "needless"),
    [("train", ["predictions"]), ("eval", ["train_op"]), ("infer", ["loss", "train_op"])],
)
def test_no_mode_requires_the_fields_of_the_others(graph: Any, mode: str, needless: list[str]) -> None:
    assert complete_spec(mode, **dict.fromkeys(needless)).mode == mode


def test_a_mode_that_does_not_exist_is_refused_with_the_near_miss(graph: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"given: 'trian'\. Did you mean 'train'"):
        complete_spec("trian")


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("loss", 1.0, "loss must be Tensor, given: 1.0"),
        ("train_op", "step", "train_op must be Operation or Tensor, given: 'step'"),
        ("predictions", {"p": 1}, r"predictions\[p\] must be Tensor"),
        ("eval_metric_ops", ["m"], "eval_metric_ops must be a dict"),
        ("eval_metric_ops", {"m": 1}, r"must be \(metric_value, update_op\) tuples, given: 1 for key: 'm'"),
        ("training_hooks", [object()], "All hooks must be SessionRunHook instances"),
        ("training_chief_hooks", [Hook], "It is a class; make an instance of it"),
        ("evaluation_hooks", Hook(), "in a list"),
        ("scaffold", "saver", r"scaffold must be tf\.train\.Scaffold"),
    ],
)
def test_a_field_of_the_wrong_type_is_named(graph: Any, field: str, value: Any, text: str) -> None:
    with pytest.raises(InvalidType, match=text) as caught:
        complete_spec(**{field: value})
    assert isinstance(caught.value, TypeError)
    assert isinstance(caught.value, OrchestratorError)


def test_the_loss_is_a_scalar(graph: Any) -> None:
    assert complete_spec(loss=tf.constant([2.0])).loss.shape == []
    with pytest.raises(InvalidArgument, match=r"Loss must be scalar, given: .*Reduce it"):
        complete_spec(loss=tf.constant([1.0, 2.0]))


@pytest.mark.parametrize("field", ["loss", "train_op", "predictions", "eval_metric_ops"])
def test_tensors_of_another_graph_are_refused_with_the_cause(field: str) -> None:
    with tf.Graph().as_default():
        foreign = tf.constant(1.0)
    value = {"predictions": {"p": foreign}, "eval_metric_ops": {"m": (foreign, foreign)}}.get(field, foreign)
    with tf.Graph().as_default(), pytest.raises(InvalidArgument, match="must be from the default graph"):
        complete_spec(**{field: value})


def test_keras_metrics_become_pairs_without_changing_the_caller_s_dict(graph: Any) -> None:
    mean = tf_keras.metrics.Mean()
    mean.update_state([1.0, 3.0])
    mean.update_state([5.0])
    given = {"mean": mean}
    value, update = complete_spec("eval", eval_metric_ops=given).eval_metric_ops["mean"]
    assert given == {"mean": mean}
    assert set(mean.variables) <= set(v1.get_collection(v1.GraphKeys.METRIC_VARIABLES))
    with v1.Session() as session:
        session.run(v1.local_variables_initializer())
        session.run(update)
        assert session.run(value) == 3.0, "all updates of the metric are run"


def test_a_keras_metric_without_update_is_refused(graph: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"Please call update_state\(\.\.\.\) on the \"mean\" metric"):
        complete_spec("eval", eval_metric_ops={"m": tf_keras.metrics.Mean()})


def test_a_keras_3_metric_is_refused_with_what_to_take(graph: Any) -> None:
    keras = pytest.importorskip("keras", minversion="3")
    with pytest.raises(InvalidType, match="Keras 3 metric"):
        complete_spec("eval", eval_metric_ops={"m": keras.metrics.Mean()})


def test_replace_checks_again_and_keeps_the_mode(graph: Any) -> None:
    spec = complete_spec("eval")
    assert list(spec._replace(predictions={"q": tf.constant(1)}).predictions) == ["q"]
    with pytest.raises(InvalidArgument, match="cannot be changed"):
        spec._replace(mode="train")
    with pytest.raises(InvalidArgument, match="unexpected field names: \\['los'\\]"):
        spec._replace(los=1)


def test_a_spec_is_immutable(graph: Any) -> None:
    with pytest.raises(AttributeError):
        complete_spec().loss = 1


def test_predictions_are_served_by_default(graph: Any) -> None:
    outputs = complete_spec("infer").export_outputs
    assert list(outputs) == ["serving_default"]
    assert isinstance(outputs["serving_default"], PredictOutput)


def test_the_only_output_is_the_default_one_too(graph: Any) -> None:
    only = PredictOutput(tf.constant(1))
    assert complete_spec("infer", export_outputs={"a": only}).export_outputs == {
        "a": only,
        "serving_default": only,
    }


@pytest.mark.parametrize(
    ("outputs", "error", "text"),
    [
        (["a"], InvalidType, "`export_outputs` must be dict"),
        ({"a": 1}, InvalidType, "must be ExportOutput objects"),
        ({"a": None, "b": None}, InvalidArgument, "Multiple `export_outputs` were provided"),
    ],
)
def test_wrong_outputs(graph: Any, outputs: Any, error: type, text: str) -> None:
    if isinstance(outputs, dict) and None in outputs.values():
        outputs = {key: PredictOutput(tf.constant(1)) for key in outputs}
    with pytest.raises(error, match=text):
        complete_spec("infer", export_outputs=outputs)


@pytest.mark.parametrize("spec", [TrainSpec, EvalSpec])
def test_an_input_fn_must_be_a_function(spec: Any) -> None:
    with pytest.raises(InvalidType, match=r"must be callable, given: 'data'.* not what it returns"):
        spec("data")


@pytest.mark.parametrize("steps", [0, -1])
def test_steps_are_positive(steps: int) -> None:
    with pytest.raises(InvalidArgument, match="TrainSpec: Must specify max_steps > 0"):
        TrainSpec(input_fn, max_steps=steps)
    with pytest.raises(InvalidArgument, match="EvalSpec: Must specify steps > 0"):
        EvalSpec(input_fn, steps=steps)


def test_train_spec_keeps_hooks_and_listeners_as_tuples() -> None:
    hook, listener = Hook(), Listener()
    spec = TrainSpec(input_fn, 5, [hook], [listener])
    assert (spec.max_steps, spec.hooks, spec.saving_listeners) == (5, (hook,), (listener,))
    with pytest.raises(InvalidType, match="All saving_listeners must be `CheckpointSaverListener`"):
        TrainSpec(input_fn, saving_listeners=[hook])


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"name": 5}, TypeError, "`name` must be string"),
        ({"start_delay_secs": -1}, ValueError, "start_delay_secs >= 0"),
        ({"throttle_secs": "now"}, TypeError, "throttle_secs must be a number"),
        ({"exporters": [object()]}, TypeError, "`exporters` must be an Exporter"),
        ({"hooks": "hook"}, TypeError, "All hooks must be `SessionRunHook` instances"),
    ],
)
def test_wrong_arguments_of_eval_spec(arguments: Any, error: type, text: str) -> None:
    with pytest.raises(error, match=text):
        EvalSpec(input_fn, **arguments)


def test_exporters_have_names_of_their_own() -> None:
    one, same = LatestExporter("one", input_fn), LatestExporter("one", input_fn)
    assert EvalSpec(input_fn, exporters=one).exporters == (one,)
    with pytest.raises(InvalidArgument, match=r"must have unique names.*\['one', 'one'\]"):
        EvalSpec(input_fn, exporters=[one, same])
    with pytest.raises(InvalidArgument, match="`None` or empty"):
        EvalSpec(input_fn, exporters=LatestExporter("", input_fn))


def test_one_input() -> None:
    spec = EvalSpec(input_fn, steps=7, name="test")
    assert eval_inputs(spec) == (EvalInput("test", input_fn, 7),)
    assert merged_metrics({"test": {"loss": 1.0, "global_step": 5}}) == {"loss": 1.0, "global_step": 5}


def test_several_named_inputs() -> None:
    other = len
    spec = EvalSpec({"test": input_fn, "train": other}, steps={"train": None})
    assert eval_inputs(spec) == (EvalInput("test", input_fn, 100), EvalInput("train", other, None))
    assert [item.steps for item in eval_inputs(EvalSpec({"a": input_fn, "b": other}, steps=3))] == [3, 3]


def test_metrics_of_several_inputs_are_merged_under_their_names() -> None:
    test, train = {"loss": 1.0, "global_step": 5}, {"loss": 2.0, "global_step": 5}
    merged = merged_metrics({"test": test, "train": train})
    assert merged == {"loss": 1.0, "global_step": 5, "test/loss": 1.0, "train/loss": 2.0}


@pytest.mark.parametrize(
    ("inputs", "arguments", "text"),
    [
        ({}, {}, "empty dict"),
        ({"a/b": input_fn}, {}, "'a/b' cannot name an input"),
        ({"a": 5}, {}, "input 'a': `input_fn` must be callable"),
        ({"a": input_fn}, {"name": "x"}, "`name` cannot be set beside several named inputs"),
        ({"a": input_fn}, {"steps": {"b": 1}}, r"`steps` names \['b'\], but the inputs are \['a'\]"),
        ({"a": input_fn}, {"steps": {"a": 0}}, r"steps\['a'\] > 0"),
    ],
)
def test_wrong_named_inputs(inputs: Any, arguments: Any, text: str) -> None:
    with pytest.raises((InvalidArgument, InvalidType), match=text):
        EvalSpec(inputs, **arguments)
