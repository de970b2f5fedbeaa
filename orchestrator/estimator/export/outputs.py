"""ExportOutput and its kinds: what a head of the model serves."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

from orchestrator.errors import InvalidArgument, InvalidType

signatures = tf.compat.v1.saved_model.signature_def_utils
SERVING_DEFAULT = tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY
METRIC_VALUE, METRIC_UPDATE = "value", "update_op"
_SUPERVISED_TRAIN = "tensorflow/supervised/training"
_SUPERVISED_EVAL = "tensorflow/supervised/eval"


class ExportOutput(abc.ABC):
    """One output of an exported model; anything with `as_signature_def` counts as one."""

    @abc.abstractmethod
    def as_signature_def(self, receiver_tensors: Mapping[str, Any]) -> SignatureDef:
        """The signature from `receiver_tensors` (name to input tensor) to this output.

        Raises InvalidArgument (a ValueError) where those inputs cannot feed it.
        """

    @classmethod
    def __subclasshook__(cls, other: type) -> bool:
        if cls is ExportOutput:  # TensorFlow's own classes of these names are as good
            return callable(getattr(other, "as_signature_def", None))
        return NotImplemented


class ClassificationOutput(ExportOutput):
    """Classes and their scores: `tf.Example` strings in, at least one of the two out.

    Args:
      scores: float tensor, a score for each class in order of class number.
      classes: string tensor of labels; alone, the best ones first; with
        `scores`, the label at the same index.
    """

    def __init__(self, scores: Any = None, classes: Any = None) -> None:
        if scores is not None and not _is_floating(scores):
            raise InvalidArgument(f"Classification scores must be a float32 Tensor; got {scores}.")
        if classes is not None and not (isinstance(classes, tf.Tensor) and classes.dtype == tf.string):
            raise InvalidArgument(f"Classification classes must be a string Tensor; got {classes}.")
        if scores is None and classes is None:
            raise InvalidArgument("ClassificationOutput: give at least one of `scores` and `classes`.")
        self._scores = scores
        self._classes = classes

    @property
    def scores(self) -> Any:
        return self._scores

    @property
    def classes(self) -> Any:
        return self._classes

    def as_signature_def(self, receiver_tensors: Mapping[str, Any]) -> SignatureDef:
        examples = _only_examples("Classification", receiver_tensors)
        return signatures.classification_signature_def(examples, self.classes, self.scores)


class RegressionOutput(ExportOutput):
    """One float tensor `value`, from `tf.Example` strings."""

    def __init__(self, value: Any) -> None:
        if not _is_floating(value):
            raise InvalidArgument(f"Regression output value must be a float32 Tensor; got {value}.")
        self._value = value

    @property
    def value(self) -> Any:
        return self._value

    def as_signature_def(self, receiver_tensors: Mapping[str, Any]) -> SignatureDef:
        examples = _only_examples("Regression", receiver_tensors)
        return signatures.regression_signature_def(examples, self.value)


class PredictOutput(ExportOutput):
    """Any named tensors; a single tensor gets the name `output`."""

    def __init__(self, outputs: Any) -> None:
        self._outputs = _named_tensors(outputs, "output", "Prediction")

    @property
    def outputs(self) -> dict[str, Any]:
        return self._outputs

    def as_signature_def(self, receiver_tensors: Mapping[str, Any]) -> SignatureDef:
        return signatures.predict_signature_def(receiver_tensors, self.outputs)


class _SupervisedOutput(ExportOutput):
    """Loss, predictions and metrics of a graph that takes labels too.

    Args:
      loss: a tensor, or a dict of them.
      predictions: a tensor, or a dict of them.
      metrics: a dict of (value tensor, update operation), or one such pair. An
        operation is wrapped in an empty tensor, since signatures hold tensors.
    """

    LOSS_NAME = "loss"
    PREDICTIONS_NAME = "predictions"
    METRICS_NAME = "metrics"
    METRIC_VALUE_SUFFIX = METRIC_VALUE
    METRIC_UPDATE_SUFFIX = METRIC_UPDATE

    _method_name: str

    def __init__(self, loss: Any = None, predictions: Any = None, metrics: Any = None) -> None:
        self._loss = None if loss is None else _prefixed("loss", loss)
        self._predictions = None if predictions is None else _prefixed("predictions", predictions)
        self._metrics = None if metrics is None else _metric_tensors(metrics)

    @property
    def loss(self) -> dict[str, Any] | None:
        return self._loss

    @property
    def predictions(self) -> dict[str, Any] | None:
        return self._predictions

    @property
    def metrics(self) -> dict[str, Any] | None:
        return self._metrics

    def as_signature_def(self, receiver_tensors: Mapping[str, Any]) -> SignatureDef:
        outputs = {**(self.loss or {}), **(self.predictions or {}), **(self.metrics or {})}
        info = tf.compat.v1.saved_model.utils.build_tensor_info
        return signatures.build_signature_def(
            {name: info(tensor) for name, tensor in receiver_tensors.items()},
            {name: info(tensor) for name, tensor in outputs.items()},
            self._method_name,
        )


class TrainOutput(_SupervisedOutput):
    """Output of an exported training graph."""

    _method_name = _SUPERVISED_TRAIN


class EvalOutput(_SupervisedOutput):
    """Output of an exported evaluation graph."""

    _method_name = _SUPERVISED_EVAL


def serving_outputs(export_outputs: Any, predictions: Any) -> dict[str, ExportOutput]:
    """The outputs by signature key, with one of them under the default serving key.

    None gives one PredictOutput of all predictions; a single output is served
    under its own key and under the default one. Raises InvalidType for anything
    but a dict of ExportOutput, InvalidArgument where several outputs are given
    and none has the default key.
    """
    if export_outputs is None:
        return {SERVING_DEFAULT: PredictOutput(predictions)}
    if not isinstance(export_outputs, dict):
        raise InvalidType(f"EstimatorSpec: `export_outputs` must be dict, given: {export_outputs}.")
    for key, value in export_outputs.items():
        if not isinstance(value, ExportOutput):
            raise InvalidType(
                "EstimatorSpec: Values in `export_outputs` must be ExportOutput objects."
                f" Given under {key!r}: {value}."
            )
    if len(export_outputs) == 1:
        (only,) = export_outputs.values()
        return {**export_outputs, SERVING_DEFAULT: only}
    if export_outputs and SERVING_DEFAULT not in export_outputs:
        raise InvalidArgument(
            f"EstimatorSpec: Multiple `export_outputs` were provided ({', '.join(map(str, export_outputs))}),"
            f" but none of them is the default one. Name one of them {SERVING_DEFAULT!r}."
        )
    return dict(export_outputs)


def _is_floating(value: Any) -> bool:
    return isinstance(value, tf.Tensor) and value.dtype.is_floating


def _only_examples(kind: str, receiver_tensors: Mapping[str, Any]) -> Any:
    if len(receiver_tensors) == 1:
        (examples,) = receiver_tensors.values()
        if examples.dtype == tf.string:
            return examples
    raise InvalidArgument(
        f"{kind} signatures can only accept a single tensor input of type tf.string, serialized tf.Examples;"
        f" the serving_input_receiver_fn gave {dict(receiver_tensors)}."
    )


def _key(key: Any, label: str) -> str:
    """The output's name; the parts of a multi-head key are joined."""
    name = "/".join(key) if isinstance(key, tuple) else key
    if not isinstance(name, str):
        raise InvalidArgument(f"{label} output key must be a string; got {key!r}.")
    return name


def _named_tensors(outputs: Any, single_name: str, label: str) -> dict[str, Any]:
    named = outputs if isinstance(outputs, dict) else {single_name: outputs}
    for key, value in named.items():
        if not isinstance(value, tf.Tensor):
            raise InvalidArgument(f"{label} output value must be a Tensor; got {value!r} for {key!r}.")
    return {_key(key, label): value for key, value in named.items()}


def _prefixed(prefix: str, outputs: Any) -> dict[str, Any]:
    named = _named_tensors(outputs, prefix, prefix)
    return {_with_prefix(prefix, key): value for key, value in named.items()}


def _with_prefix(prefix: str, key: str) -> str:
    return key if key.startswith(prefix) else f"{prefix}/{key}"


def _metric_tensors(metrics: Any) -> dict[str, Any]:
    named = metrics if isinstance(metrics, dict) else {"metrics": metrics}
    tensors: dict[str, Any] = {}
    for key, metric in named.items():
        value, update = metric if isinstance(metric, tuple) else (metric.result(), tf.group(*metric.updates))
        name = _with_prefix("metrics", _key(key, "metrics"))
        if not isinstance(value, tf.Tensor):
            raise InvalidArgument(f"{name} output value must be a Tensor; got {value!r}.")
        if not (tf.is_tensor(update) or isinstance(update, tf.Operation)):
            raise InvalidArgument(f"{name} update_op must be a Tensor or Operation; got {update!r}.")
        tensors[f"{name}/{METRIC_VALUE}"] = value
        tensors[f"{name}/{METRIC_UPDATE}"] = _as_tensor(update)
    return tensors


def _as_tensor(update: Any) -> Any:
    if isinstance(update, tf.Tensor):
        return update
    with tf.control_dependencies([update]):
        return tf.constant([], name="metric_op_wrapper")
