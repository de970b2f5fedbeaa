"""`tf.estimator` for programs that were written for a TensorFlow that still had it."""

from __future__ import annotations

import contextlib
import importlib
import sys
import types
from typing import Any

_OURS = "orchestrator.estimator"
_PARTS = ("experimental", "export", "inputs", "tpu")
_ROOTS = {
    "tensorflow": (_OURS, "model_to_estimator"),
    "tensorflow.compat.v1": (f"{_OURS}.compat_v1", "model_to_estimator_v1"),
    "tensorflow.compat.v2": (_OURS, "model_to_estimator"),
}
"""Modules that have `estimator` and `keras`: our module for the one, our model_to_estimator for the other."""
_TF_KERAS = {
    "tf_keras": "model_to_estimator",
    "tf_keras.api._v1.keras": "model_to_estimator_v1",
    "tf_keras.api._v2.keras": "model_to_estimator",
}


def install() -> bool:
    """Makes `tf.estimator` ours in this process, in every spelling that programs use.

    Afterwards `tf.estimator`, `tf.compat.v1.estimator`, `tf.keras.estimator`
    and imports of and from them find `orchestrator.estimator`; a second call
    changes nothing. Where TensorFlow still has its own, nothing is changed and
    False is returned. Call it before the program imports `tensorflow.estimator`.
    """
    tensorflow = importlib.import_module("tensorflow")
    ours = importlib.import_module(_OURS)
    if getattr(tensorflow, "estimator", ours) is not ours:
        return False
    for root, (name, function) in _ROOTS.items():
        # An import statement makes modules of its own below tensorflow, unless they were made before.
        module = importlib.import_module(root)
        module.estimator = sys.modules[f"{root}.estimator"] = importlib.import_module(name)
        for part in _PARTS:
            sys.modules[f"{root}.estimator.{part}"] = importlib.import_module(f"{_OURS}.{part}")
        with contextlib.suppress(ImportError):  # Keras 3 has no compat.v1
            importlib.import_module(f"{root}.keras")
        _add_to_keras(vars(module)["keras"], f"{root}.keras", function)
    for owner, function in _TF_KERAS.items():
        _add_to_keras(sys.modules.get(owner), owner, function)
    return True


def _add_to_keras(keras: Any, name: str, function: str) -> None:
    """Puts the module `estimator` into `keras` (None: not loaded yet) and where imports look first.

    `keras` may be TensorFlow's lazy loader: any access other than by its `vars`
    would load Keras, and `tf.compat.v1.keras` cannot be loaded with Keras 3.
    """
    module = sys.modules[f"{name}.estimator"] = _keras_module(f"{name}.estimator", function)
    if keras is not None:
        vars(keras)["estimator"] = module


def _keras_module(name: str, function: str) -> types.ModuleType:
    module = types.ModuleType(name, "Estimators from Keras models.")

    def find(attribute: str) -> Any:
        if attribute != "model_to_estimator":
            raise AttributeError(f"module '{name}' has no attribute '{attribute}'")
        return getattr(importlib.import_module(f"{_OURS}.keras"), function)

    module.__getattr__ = find  # type: ignore[method-assign]
    return module
