"""The weights that a Keras model brings, as the checkpoint from which its Estimator starts."""

from __future__ import annotations

import os
import re
from typing import Any

import tensorflow as tf
from tf_keras.__internal__ import backend

from orchestrator.estimator.keras_clone import CloneRecipe
from orchestrator.estimator.keras_spec import STEP_KEY
from orchestrator.estimator.modes import ModeKeys
from orchestrator.estimator.warm_start_settings import WarmStartSettings

v1 = tf.compat.v1


def has_weights(model: Any) -> bool:
    """Whether the model's weights have values; in a TensorFlow 1 program they may not have them yet."""
    if v1.executing_eagerly_outside_functions():
        return True
    return any(hasattr(weight, "_keras_initialized") for layer in model.layers for weight in layer.weights)


def starting_weights(recipe: CloneRecipe, config: Any, by_object: bool) -> WarmStartSettings | None:
    """Settings that load the model's weights, moving averages included; None for a model without weights.

    They are written once, below `MODEL_DIR/keras`; what already lies there is
    taken as it is.
    """
    directory = os.path.join(config.model_dir, "keras")
    present = tf.train.latest_checkpoint(directory)
    values = recipe.model.get_weights() if has_weights(recipe.model) and not present else None
    with tf.Graph().as_default(), recipe.lending_classes():
        v1.random.set_random_seed(config.tf_random_seed)
        v1.train.create_global_step()
        clone = recipe.clone(ModeKeys.TRAIN)
        names = [weight.name for weight in clone.weights]
        path = present or _write(clone, values, config, directory, by_object)
    if not names:
        return None
    return WarmStartSettings(path, vars_to_warm_start=[f"^{re.escape(name)}$" for name in names])


def _write(clone: Any, values: Any, config: Any, directory: str, by_object: bool) -> str:
    tf.io.gfile.makedirs(directory)
    path = os.path.join(directory, "keras_model.ckpt")
    clone._make_train_function()  # makes the optimizer's variables, outside of the session
    with v1.Session(config=config.session_config) as session:
        if values:
            clone.set_weights(values)
        backend.initialize_variables(session)
        if by_object:
            clone._track_trackable(v1.train.get_global_step(), STEP_KEY)
            clone.save_weights(path)
            return path
        return v1.train.Saver().save(session, path)
