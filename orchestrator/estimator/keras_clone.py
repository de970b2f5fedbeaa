"""A Keras model's copy in the graph that an Estimator builds.

A tf_keras model that is called inside a plain graph works as in TensorFlow 1:
it has a total loss, metrics with update operations and a train function whose
updates are one training step. Those are what an EstimatorSpec needs.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import tensorflow as tf
import tf_keras
from tf_keras.__internal__ import backend, models
from tf_keras.src.engine import base_layer, base_layer_v1, training, training_v1
from tf_keras.src.utils import version_utils

from orchestrator.errors import InvalidArgument
from orchestrator.estimator.keras_inputs import keras_inputs, weights_by_output
from orchestrator.estimator.logger import log
from orchestrator.estimator.modes import ModeKeys

v1 = tf.compat.v1


class CloneRecipe:
    """How to copy a compiled model; the configuration is read once, outside of the Estimator's graphs."""

    def __init__(self, model: Any, custom_objects: Mapping[str, Any] | None) -> None:
        self.model = model
        self._custom_objects = dict(custom_objects or {})
        self._optimizer = _usable_optimizer(model.optimizer)
        self._optimizer_config = _config_of(self._optimizer)
        self._compile_args = model._get_compile_args()
        self._is_eager = not isinstance(model, training_v1.Model)

    def clone(self, mode: str, features: Any = None, labels: Any = None) -> Any:
        """The copy in the default graph, on these tensors (None: placeholders), compiled unless predicting.

        The optimizer counts its steps in the graph's global step.
        """
        _set_learning_phase(mode == ModeKeys.TRAIN)
        given = keras_inputs(self.model, features, labels)
        compiles = mode != ModeKeys.PREDICT
        global_step = None
        if compiles:
            global_step = v1.train.get_or_create_global_step()
            backend.track_variable(global_step)
        with self._ready_to_clone():
            clone = models.clone_and_build_model(
                self.model,
                given.inputs,
                given.targets,
                self._custom_objects,
                compile_clone=compiles,
                in_place_reset=not self.model._is_graph_network,
                optimizer_iterations=global_step,
                optimizer_config=self._optimizer_config,
            )
        if given.sample_weights is not None and compiles:
            weights = weights_by_output(given.sample_weights, clone.output_names)
            clone._compile_weights_loss_and_weighted_metrics(weights)
        return clone

    @contextlib.contextmanager
    def lending_classes(self) -> Iterator[None]:
        """Around all Python code that uses clones: gives model and layers their eager nature back afterwards.

        Keras changes the base classes of a class when an instance of it is made
        in a graph; instances that were made eagerly are unusable until then.
        """
        try:
            yield
        finally:
            if not self.model._is_graph_network and getattr(self.model, "_original_attributes_cache", None):
                models.in_place_subclassed_model_state_restoration(self.model)
            if self._is_eager and not tf.distribute.has_strategy():  # other replicas are still at work
                _make_classes_eager(self.model)

    @contextlib.contextmanager
    def _ready_to_clone(self) -> Iterator[None]:
        """Lends the model an optimizer for graphs, and compile arguments that no clone has changed."""
        model, optimizer = self.model, self.model.optimizer
        model._get_compile_args = lambda *unused, **ignored: dict(self._compile_args)
        if self._optimizer is not optimizer:
            model.optimizer = self._optimizer
        try:
            yield
        finally:
            vars(model).pop("_get_compile_args", None)
            if self._optimizer is not optimizer:
                model.optimizer = optimizer


def _usable_optimizer(optimizer: Any) -> Any:
    """The optimizer, or its counterpart of the kind that builds operations in a graph."""
    if not isinstance(optimizer, tf_keras.optimizers.experimental.Optimizer):
        return optimizer
    if not tf.executing_eagerly():
        raise InvalidArgument(
            "model_to_estimator: Please set your optimizer as an instance of"
            f" tf_keras.optimizers.legacy.Optimizer, e.g. legacy.{type(optimizer).__name__};"
            f" given: {type(optimizer)}."
        )
    log.info("The Estimator trains with tf_keras.optimizers.legacy.%s.", type(optimizer).__name__)
    return tf_keras.__internal__.optimizers.convert_to_legacy_optimizer(optimizer)


def _config_of(optimizer: Any) -> Any:
    try:
        if isinstance(optimizer, (tuple, list)):
            return [single.get_config() for single in optimizer]
        return optimizer.get_config()
    except (NotImplementedError, AttributeError):  # an optimizer of TensorFlow 1 has none
        return None


def _set_learning_phase(training: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, and the only way for a model in a graph
        tf_keras.backend.set_learning_phase(training)


def _make_classes_eager(model: Any) -> None:
    for part in {type(part) for part in (model, *model.submodules)}:
        if issubclass(part, base_layer.Layer):
            version_utils.swap_class(part, base_layer.Layer, base_layer_v1.Layer, True)
        if issubclass(part, training.Model):
            version_utils.swap_class(part, training.Model, training_v1.Model, True)
