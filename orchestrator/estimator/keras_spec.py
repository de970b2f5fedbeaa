"""The model_fn of an Estimator made from a Keras model."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf
from tensorflow.python.checkpoint import checkpoint as object_checkpoint

from orchestrator.errors import InvalidArgument, MissingKey
from orchestrator.estimator.export.outputs import SERVING_DEFAULT, PredictOutput
from orchestrator.estimator.keras_clone import CloneRecipe
from orchestrator.estimator.modes import ModeKeys
from orchestrator.estimator.specs import EstimatorSpec

v1 = tf.compat.v1
STEP_KEY = "estimator_global_step"
"""Under which object-based checkpoints hold the global step."""


def keras_model_fn(
    recipe: CloneRecipe,
    by_object: bool,
    metric_names_map: Mapping[str, str] | None,
    export_outputs: Mapping[str, Callable[[Any], Any]] | None,
) -> Callable[..., EstimatorSpec]:
    """A model_fn that clones the Keras model; `by_object`: its checkpoints are object-based."""

    def model_fn(features: Any, labels: Any, mode: str) -> EstimatorSpec:
        with recipe.lending_classes():
            clone = recipe.clone(mode, features, labels)
            return _spec(clone, mode, by_object, metric_names_map, export_outputs)

    return model_fn


def _spec(clone: Any, mode: str, by_object: bool, names: Any, export_outputs: Any) -> EstimatorSpec:
    predictions = dict(zip(_output_names(clone), clone.outputs, strict=True))
    loss, train_op, metrics = None, None, None
    if mode == ModeKeys.TRAIN:
        clone._make_train_function()
        train_op = clone.train_function.updates_op
    elif mode == ModeKeys.EVAL:
        clone._make_test_function()
    if mode != ModeKeys.PREDICT:
        loss = clone.total_loss
        metrics = _metrics(clone, names)
    return EstimatorSpec(
        mode=mode,
        predictions=predictions,
        loss=loss,
        train_op=train_op,
        eval_metric_ops=metrics,
        export_outputs=_outputs(predictions, clone.output_names, export_outputs),
        scaffold=_object_scaffold(clone) if by_object else None,
    )


def _output_names(clone: Any) -> list[str]:
    """The model's output names; replicas number them, and must agree on them."""
    if not tf.distribute.has_strategy():
        return list(clone.output_names)
    return [re.sub(r"_\d$", "", name) for name in clone.output_names]


def _metrics(clone: Any, names: Mapping[str, str] | None) -> dict[str, Any] | None:
    """The compiled metrics by name, renamed; what a layer added with `add_metric` is left out."""
    if not getattr(clone, "_compile_metrics", None):
        return None
    metrics = {metric.name: metric for metric in clone._compile_metric_functions}
    if not names:
        return metrics
    unnamed = sorted(set(metrics) - set(names))
    if unnamed:
        raise InvalidArgument(
            f"model_to_estimator: Invalid `metric_names_map`. The Keras metrics {unnamed} do not exist in it;"
            f" it has {sorted(names)}."
        )
    unknown = sorted(set(names) - set(metrics))
    if unknown:
        raise InvalidArgument(
            f"model_to_estimator: Invalid `metric_names_map`. There are unexpected keys in it: {unknown}."
            f" The Keras metrics are {sorted(metrics)}."
        )
    return {names[name]: metric for name, metric in metrics.items()}


def _outputs(
    predictions: Mapping[str, Any],
    output_names: list[str],
    classes: Mapping[str, Callable[[Any], Any]] | None,
) -> dict[str, Any]:
    missing = sorted(set(classes or ()) - set(output_names))
    if missing:
        raise MissingKey(
            "model_to_estimator: `export_outputs` names outputs that the Keras model does not have."
            f" The model's outputs: {list(output_names)}, Missed keys: {missing}."
        )
    chosen = {key: output_class(predictions[key]) for key, output_class in (classes or {}).items()}
    return {SERVING_DEFAULT: PredictOutput(dict(predictions)), **chosen}


def _object_scaffold(clone: Any) -> v1.train.Scaffold:
    """A saver under object keys, so that Keras and tf.train.Checkpoint read the checkpoints."""
    clone._track_trackable(v1.train.get_global_step(), STEP_KEY)

    def build(strategy: Any) -> v1.train.Saver:
        keys = tf.compat.v2.__internal__.tracking.ObjectGraphView(clone).frozen_saveable_objects()
        saver = v1.train.Saver(var_list=keys, sharded=True)
        saver._object_restore_saver = object_checkpoint.frozen_saver(clone)
        return saver

    # One replica cannot say how variables are saved that all of them share.
    return v1.train.Scaffold(saver=tf.distribute.get_replica_context().merge_call(build))
