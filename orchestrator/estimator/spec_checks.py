"""What EstimatorSpec, TrainSpec and EvalSpec check when they are made."""

from __future__ import annotations

import numbers
from collections.abc import Iterable, Mapping
from typing import Any

import tensorflow as tf

from orchestrator.errors import InvalidArgument, InvalidType, near_miss
from orchestrator.estimator.modes import ALL_MODES, ModeKeys
from orchestrator.exporters.exporter import Exporter

_AnyTensor = tf.compat.v2.__internal__.types.Tensor  # tensors, variables and their mirrored kinds


def check_mode(mode: Any) -> None:
    """Raises InvalidArgument for anything but a ModeKeys value, or None: no field is required then."""
    if mode is not None and mode not in ALL_MODES:
        raise InvalidArgument(
            f"EstimatorSpec: mode must be one of {', '.join(map(repr, ALL_MODES))} (see ModeKeys),"
            f" given: {mode!r}.{near_miss(str(mode), ALL_MODES)}"
        )


def checked_loss(loss: Any, mode: str | None) -> Any:
    """`loss` as a scalar tensor of the default graph; required for training and evaluation."""
    if loss is None:
        if mode in (ModeKeys.TRAIN, ModeKeys.EVAL):
            raise InvalidArgument(f"EstimatorSpec: Missing loss. It is required for mode {mode!r}.")
        return None
    _require_tensor(loss, "loss")
    _require_default_graph(loss, "loss", _name(loss))
    if not (loss.dtype.base_dtype.is_floating or loss.dtype.base_dtype.is_integer):
        raise InvalidType(f"EstimatorSpec: Loss must be a number, given: {loss}.")
    if loss.shape.num_elements() not in (None, 1):
        raise InvalidArgument(
            f"EstimatorSpec: Loss must be scalar, given: {loss}. Reduce it, for example with tf.reduce_mean."
        )
    return loss if loss.shape.is_compatible_with([]) else tf.reshape(loss, [], name="loss_as_scalar")


def checked_train_op(train_op: Any, mode: str) -> Any:
    """An operation or tensor of the default graph; required for training."""
    if train_op is None:
        if mode == ModeKeys.TRAIN:
            raise InvalidArgument(f"EstimatorSpec: Missing train_op. It is required for mode {mode!r}.")
        return None
    if not isinstance(train_op, (tf.Operation, _AnyTensor)):
        raise InvalidType(f"EstimatorSpec: train_op must be Operation or Tensor, given: {train_op!r}.")
    operation = train_op.op if isinstance(train_op, tf.Variable) else train_op
    _require_default_graph(operation, "train_op", _name(operation))
    return operation


def checked_predictions(predictions: Any, mode: str) -> Any:
    """A tensor or a dict of tensors of the default graph; required for prediction, else {} when absent."""
    if predictions is None:
        if mode == ModeKeys.PREDICT:
            raise InvalidArgument(f"EstimatorSpec: Missing predictions. They are required for mode {mode!r}.")
        return {}
    if not isinstance(predictions, dict):
        _require_tensor(predictions, "predictions")
        _require_default_graph(predictions, "prediction values", _name(predictions))
        return predictions
    for key, value in predictions.items():
        _require_tensor(value, f"predictions[{key}]")
        _require_default_graph(value, "prediction values", f"{key}: {_name(value)}")
    return dict(predictions)


def checked_metrics(metrics: Any) -> dict[str, Any]:
    """Metrics as (value, update operation); the variables of Keras metrics join the metric collections."""
    if metrics is None:
        return {}
    if not isinstance(metrics, dict):
        raise InvalidType(f"EstimatorSpec: eval_metric_ops must be a dict, given: {metrics!r}.")
    return {key: _metric_pair(key, metric) for key, metric in metrics.items()}


def checked_hooks(hooks: Any, owner: str, kind: str = "SessionRunHook") -> tuple[Any, ...]:
    """The hooks as a tuple; raises InvalidType naming the one that is none."""
    message = f"{owner}: All hooks must be {kind} instances"
    return _instances(hooks, tf.compat.v1.train.SessionRunHook, message)


def checked_listeners(listeners: Any, owner: str) -> tuple[Any, ...]:
    """The saving listeners as a tuple; raises InvalidType naming the one that is none."""
    kind = tf.compat.v1.train.CheckpointSaverListener
    return _instances(
        listeners, kind, f"{owner}: All saving_listeners must be `CheckpointSaverListener` instances"
    )


def checked_scaffold(scaffold: Any) -> Any:
    """The scaffold, or a default one."""
    if scaffold is None:
        return tf.compat.v1.train.Scaffold()
    if not isinstance(scaffold, tf.compat.v1.train.Scaffold):
        raise InvalidType(f"EstimatorSpec: scaffold must be tf.train.Scaffold, given: {scaffold!r}.")
    return scaffold


def checked_exporters(exporters: Any) -> tuple[Exporter, ...]:
    """The exporters as a tuple with unique names."""
    if not exporters:
        return ()
    given = [exporters] if isinstance(exporters, Exporter) else exporters
    if not isinstance(given, Iterable) or not all(isinstance(item, Exporter) for item in given):
        raise InvalidType(
            "EvalSpec: `exporters` must be an Exporter, an iterable of Exporter, or `None`,"
            f" found {exporters!r}."
        )
    names = [exporter.name for exporter in given]
    for name in names:
        if not name:
            raise InvalidArgument(
                "EvalSpec: An Exporter cannot have a name that is `None` or empty."
                f" All exporter names: {names}."
            )
        if not isinstance(name, str):
            raise InvalidArgument(f"EvalSpec: An Exporter must have a string name, given: {name!r}.")
    if len(set(names)) < len(names):
        raise InvalidArgument(f"EvalSpec: `exporters` must have unique names. All exporter names: {names}.")
    return tuple(given)


def check_positive(value: Any, name: str, owner: str) -> None:
    """Raises unless `value` is None or a number above 0."""
    if value is None:
        return
    _require_number(value, name, owner)
    if value <= 0:
        raise InvalidArgument(f"{owner}: Must specify {name} > 0, given: {value}.")


def check_not_negative(value: Any, name: str, owner: str) -> None:
    """Raises unless `value` is a number, 0 or more."""
    _require_number(value, name, owner)
    if value < 0:
        raise InvalidArgument(f"{owner}: Must specify {name} >= 0, given: {value}.")


def check_input_fn(input_fn: Any, owner: str) -> None:
    """Raises InvalidType unless `input_fn` can be called."""
    if not callable(input_fn):
        hint = " Pass the function itself, not what it returns." if input_fn is not None else ""
        raise InvalidType(f"{owner}: `input_fn` must be callable, given: {input_fn!r}.{hint}")


def _require_number(value: Any, name: str, owner: str) -> None:
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        raise InvalidType(f"{owner}: {name} must be a number, given: {value!r}.")


def _instances(items: Any, kind: type, message: str) -> tuple[Any, ...]:
    if isinstance(items, kind) or not isinstance(items, (Iterable, type(None))):
        raise InvalidType(f"{message} in a list, given: {items!r}.")
    for item in items or ():
        if not isinstance(item, kind):
            hint = " It is a class; make an instance of it." if isinstance(item, type) else ""
            raise InvalidType(f"{message}, given: {item!r}.{hint}")
    return tuple(items or ())


def _require_tensor(value: Any, name: str) -> None:
    if not isinstance(value, _AnyTensor):
        raise InvalidType(f"EstimatorSpec: {name} must be Tensor, given: {value!r}.")


def _name(value: Any) -> str:
    return getattr(value, "name", None) or repr(value)


def _require_default_graph(value: Any, field: str, name: str) -> None:
    """A tensor of another graph is a leftover of an earlier call, or of the program's top level."""
    graph = getattr(value, "graph", None)  # an eager tensor raises AttributeError
    if tf.executing_eagerly() or graph is tf.compat.v1.get_default_graph():
        return
    raise InvalidArgument(
        f'EstimatorSpec: {field} with "{name}" must be from the default graph, the one in which model_fn'
        " was called. Create it inside model_fn: not at the top of the program, not in input_fn, and not"
        " in an earlier call of model_fn."
    )


def _metric_pair(key: Any, metric: Any) -> tuple[Any, Any]:
    if is_keras_metric(metric):
        pair = _keras_metric_pair(key, metric)
    elif isinstance(metric, tuple) and len(metric) == 2:
        pair = metric
    else:
        raise InvalidType(
            "EstimatorSpec: Values of eval_metric_ops must be (metric_value, update_op) tuples,"
            f" given: {metric!r} for key: {key!r}."
        )
    for part in tf.nest.flatten(pair):
        if not (isinstance(part, _AnyTensor) or hasattr(part, "graph")):
            raise InvalidType(
                "EstimatorSpec: Values of eval_metric_ops must be (metric_value, update_op) tuples of Tensors"
                f" and Operations, given: {part!r} for key: {key!r}."
            )
        _require_default_graph(part, "eval_metric_ops", f"{key}: {_name(part)}")
    return pair


def is_keras_metric(value: Any) -> bool:
    """Whether it is a Metric of Keras, old or new; asks the class, so that Keras need not be imported."""
    return any(
        base.__name__ == "Metric" and "keras" in base.__module__ for base in type(value).__mro__
    ) and hasattr(value, "result")


def _keras_metric_pair(key: Any, metric: Any) -> tuple[Any, Any]:
    if not hasattr(metric, "updates"):
        raise InvalidType(
            f"EstimatorSpec: eval_metric_ops[{key!r}] is a Keras 3 metric, which keeps no update operations."
            " Take tf.compat.v1.metrics, a metric of tf_keras, or a (value, update operation) tuple."
        )
    if not metric.updates:
        raise InvalidArgument(
            f'EstimatorSpec: Please call update_state(...) on the "{metric.name}" metric'
            f" under eval_metric_ops[{key!r}]."
        )
    keys = tf.compat.v1.GraphKeys
    for collection in (keys.LOCAL_VARIABLES, keys.METRIC_VARIABLES):
        present = {id(variable) for variable in tf.compat.v1.get_collection(collection)}
        for variable in metric.variables:
            if id(variable) not in present:
                tf.compat.v1.add_to_collection(collection, variable)
    updates = list(metric.updates)
    return metric.result(), updates[0] if len(updates) == 1 else tf.group(*updates)


def check_named_inputs(inputs: Mapping[Any, Any], owner: str) -> None:
    """Raises unless each of the named inputs has a usable name and function."""
    if not inputs:
        raise InvalidArgument(f"{owner}: `input_fn` is an empty dict; name at least one input.")
    for name, input_fn in inputs.items():
        if not isinstance(name, str) or not name or "/" in name:
            raise InvalidArgument(
                f"{owner}: {name!r} cannot name an input; it becomes the directory eval_NAME, so it must be a"
                " string without '/'."
            )
        check_input_fn(input_fn, f"{owner}, input '{name}'")
