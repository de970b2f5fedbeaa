from __future__ import annotations

from typing import Any

import pytest
import tensorflow as tf

from orchestrator.errors import InvalidArgument
from orchestrator.estimator.export.outputs import (
    ClassificationOutput,
    EvalOutput,
    ExportOutput,
    PredictOutput,
    RegressionOutput,
    TrainOutput,
)

pytestmark = pytest.mark.xdist_group("estimator_api")


@pytest.fixture(autouse=True)
def graph() -> Any:
    with tf.Graph().as_default() as entered:
        yield entered


def examples() -> Any:
    return tf.compat.v1.placeholder(tf.string, [None], name="examples")


def numbers() -> Any:
    return tf.constant([1.0, 2.0])


def test_signatures_of_the_serving_kinds() -> None:
    labels = tf.constant(["a", "b"])
    classify = ClassificationOutput(numbers(), labels).as_signature_def({"in": examples()})
    assert classify.method_name == "tensorflow/serving/classify"
    assert set(classify.outputs) == {"classes", "scores"}
    assert set(classify.inputs) == {"inputs"}
    alone = ClassificationOutput(classes=labels).as_signature_def({"in": examples()})
    assert set(alone.outputs) == {"classes"}
    regress = RegressionOutput(numbers()).as_signature_def({"in": examples()})
    assert regress.method_name == "tensorflow/serving/regress"
    predict = PredictOutput({"p": numbers(), ("head", "q"): labels}).as_signature_def({"x": numbers()})
    assert predict.method_name == "tensorflow/serving/predict"
    assert set(predict.outputs) == {"p", "head/q"}
    assert set(predict.inputs) == {"x"}


def test_a_single_prediction_is_named_output() -> None:
    assert list(PredictOutput(numbers()).outputs) == ["output"]


@pytest.mark.parametrize("kind", [ClassificationOutput, RegressionOutput])
def test_classifiers_and_regressors_are_fed_examples_alone(kind: Any) -> None:
    output = kind(numbers())
    for receivers in ({"x": numbers()}, {"a": examples(), "b": examples()}):
        with pytest.raises(InvalidArgument, match=r"only accept a single tensor input of type tf\.string"):
            output.as_signature_def(receivers)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (ClassificationOutput, "at least one of"),
        (lambda: ClassificationOutput(scores=tf.constant([1])), "scores must be a float32 Tensor"),
        (lambda: ClassificationOutput(classes=numbers()), "classes must be a string Tensor"),
        (lambda: RegressionOutput([1.0]), "Regression output value must be a float32 Tensor"),
        (lambda: PredictOutput({"p": 1}), "Prediction output value must be a Tensor; got 1 for 'p'"),
        (lambda: PredictOutput({3: numbers()}), "Prediction output key must be a string; got 3"),
        (lambda: EvalOutput(metrics={"m": (1, tf.no_op())}), "metrics/m output value must be a Tensor"),
        (lambda: EvalOutput(metrics={"m": (numbers(), 1)}), "metrics/m update_op must be"),
    ],
)
def test_wrong_outputs(make: Any, text: str) -> None:
    with pytest.raises(InvalidArgument, match=text):
        make()


def test_supervised_outputs_prefix_what_they_hold_and_wrap_operations() -> None:
    output = TrainOutput(
        loss=numbers(),
        predictions={"p": numbers(), "predictions_raw": numbers()},
        metrics={"m": (numbers(), tf.no_op())},
    )
    assert list(output.loss) == ["loss"]
    assert list(output.predictions) == ["predictions/p", "predictions_raw"]
    assert list(output.metrics) == ["metrics/m/value", "metrics/m/update_op"]
    assert isinstance(output.metrics["metrics/m/update_op"], tf.Tensor)
    signature = output.as_signature_def({"x": numbers()})
    assert signature.method_name == "tensorflow/supervised/training"
    assert len(signature.outputs) == 5
    evaluation = EvalOutput(numbers()).as_signature_def({"x": numbers()})
    assert evaluation.method_name == "tensorflow/supervised/eval"


def test_anything_with_a_signature_counts_as_an_output() -> None:
    class Theirs:
        def as_signature_def(self, receiver_tensors: Any) -> Any:
            return receiver_tensors

    assert isinstance(Theirs(), ExportOutput)
    assert not isinstance(object(), ExportOutput)
    assert not isinstance(Theirs(), PredictOutput)
