"""model_to_estimator: an Estimator from a Keras 2 model (package tf_keras)."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from orchestrator.errors import InvalidArgument, InvalidType
from orchestrator.estimator.estimator import Estimator, EstimatorV1
from orchestrator.estimator.logger import log

_NAME = "model_to_estimator"
_FORMATS = ("checkpoint", "saver")


def model_to_estimator(  # noqa: PLR0917 - the order of the public API
    keras_model: Any = None,
    keras_model_path: str | os.PathLike[str] | None = None,
    custom_objects: Mapping[str, Any] | None = None,
    model_dir: str | os.PathLike[str] | None = None,
    config: Any = None,
    checkpoint_format: str | None = "checkpoint",
    metric_names_map: Mapping[str, str] | None = None,
    export_outputs: Mapping[str, Callable[[Any], Any]] | None = None,
) -> EstimatorV1:
    """An Estimator that trains, evaluates and exports a compiled Keras model.

    It starts from the model's weights (not a subclassed model: its weights are
    made anew); the model itself is left as it is. Features may be
    {"features": ..., "sample_weights": ...}.

    Args:
      keras_model: functional, sequential or subclassed model of tf_keras; a
        subclass needs `get_config`.
      keras_model_path: in its place, where `model.save` wrote one.
      custom_objects: classes and functions by the name in the model's
        configuration.
      model_dir, config: as Estimator's.
      checkpoint_format: "checkpoint" (default; as `tf.train.Checkpoint` and
        Keras write them; not for subclassed models) or "saver" (by variable
        names).
      metric_names_map: the metric's name in evaluations by its name in Keras;
        all compiled metrics must be there.
      export_outputs: class of the signature by output name, for example
        {"probability": tf.estimator.export.RegressionOutput}; all outputs
        together are always served by default.

    Raises InvalidArgument (a ValueError), InvalidType (a TypeError) or, when an
    input_fn lacks names of the model, MissingKey (a KeyError).
    """
    return _estimator(
        Estimator,
        _model(keras_model, keras_model_path, custom_objects),
        custom_objects,
        model_dir,
        config,
        checkpoint_format,
        metric_names_map,
        export_outputs,
    )


def model_to_estimator_v1(  # noqa: PLR0917 - the order of the public API
    keras_model: Any = None,
    keras_model_path: str | os.PathLike[str] | None = None,
    custom_objects: Mapping[str, Any] | None = None,
    model_dir: str | os.PathLike[str] | None = None,
    config: Any = None,
    checkpoint_format: str = "saver",
    metric_names_map: Mapping[str, str] | None = None,
    export_outputs: Mapping[str, Callable[[Any], Any]] | None = None,
) -> EstimatorV1:
    """`tf.compat.v1.keras.estimator.model_to_estimator`: checkpoints are by name unless asked otherwise."""
    model = _model(keras_model, keras_model_path, custom_objects)
    further = (checkpoint_format, metric_names_map, export_outputs)
    return _estimator(EstimatorV1, model, custom_objects, model_dir, config, *further)


def _model(keras_model: Any, path: Any, custom_objects: Any) -> Any:
    """The model that is given, or loaded; raises where it cannot become an Estimator."""
    if keras_model is None and path is None:
        raise InvalidArgument(f"{_NAME}: Either `keras_model` or `keras_model_path` needs to be provided.")
    if keras_model is not None and path is not None:
        raise InvalidArgument(
            f"{_NAME}: Please specify either `keras_model` or `keras_model_path`, but not both."
        )
    tf_keras = _tf_keras()
    if keras_model is None:
        keras_model = _load(tf_keras, os.fspath(path), custom_objects)
    _check_model(tf_keras, keras_model, custom_objects)
    return keras_model


def _estimator(  # noqa: PLR0917
    kind: type[EstimatorV1],
    model: Any,
    custom_objects: Any,
    model_dir: Any,
    config: Any,
    checkpoint_format: str | None,
    metric_names_map: Any,
    export_outputs: Any,
) -> EstimatorV1:
    from orchestrator.estimator.keras_clone import CloneRecipe
    from orchestrator.estimator.keras_spec import keras_model_fn
    from orchestrator.estimator.keras_start import has_weights, starting_weights

    by_object = _is_by_object(checkpoint_format, model)
    recipe = CloneRecipe(model, custom_objects)
    model_fn = keras_model_fn(recipe, by_object, metric_names_map, export_outputs)
    config = kind(model_fn, model_dir, config).config  # completed and checked
    if not has_weights(model):
        from tf_keras.api._v1.keras import backend

        backend.set_session(tf.compat.v1.Session(config=config.session_config))
    warm_start = None
    if model._is_graph_network and config.is_chief:
        warm_start = starting_weights(recipe, config, by_object)
    elif model.built and not model._is_graph_network:
        log.warning(
            "The weights of a subclassed Keras model cannot be taken over: the Estimator starts with new"
            " ones. The model that was given keeps its own."
        )
    return kind(model_fn, config=config, warm_start_from=warm_start)


def _tf_keras() -> Any:
    try:
        import tf_keras
    except ImportError as error:
        raise InvalidArgument(
            f"{_NAME} needs Keras 2: pip install tf-keras, and set TF_USE_LEGACY_KERAS=1 where the program"
            f" says tf.keras. ({error})"
        ) from error
    return tf_keras


def _load(tf_keras: Any, path: str, custom_objects: Any) -> Any:
    if not tf.io.gfile.exists(path):
        raise InvalidArgument(f"{_NAME}: there is no Keras model at keras_model_path {path}.")
    log.info("Loading the Keras model at %s.", path)
    return tf_keras.models.load_model(path, custom_objects=custom_objects)


def _check_model(tf_keras: Any, model: Any, custom_objects: Any) -> None:
    if not hasattr(model, "_is_graph_network"):
        packages = {base.__module__.partition(".")[0] for base in type(model).__mro__}
        is_keras_3 = "keras" in packages
        hint = " It is a Keras 3 model; build it with TF_USE_LEGACY_KERAS=1." if is_keras_3 else ""
        raise InvalidType(f"{_NAME}: keras_model must be a model of tf_keras, given: {type(model)}.{hint}")
    if not getattr(model, "optimizer", None):
        raise InvalidArgument(
            f"{_NAME}: The given keras model has not been compiled yet. Please compile the model with"
            " `model.compile()` before."
        )
    if model._is_graph_network or isinstance(model, tf_keras.Sequential):
        return
    try:
        with tf_keras.utils.CustomObjectScope(custom_objects or {}):
            type(model).from_config(model.get_config())
    except NotImplementedError as error:
        raise InvalidArgument(
            f"{_NAME}: Subclassed `Model`s must implement `Model.get_config` and `Model.from_config`;"
            f" {type(model).__name__} does not."
        ) from error


def _is_by_object(checkpoint_format: str | None, model: Any) -> bool:
    if checkpoint_format not in (None, *_FORMATS):
        raise InvalidArgument(
            f'{_NAME}: Checkpoint format must be one of "checkpoint" or "saver", not {checkpoint_format!r}.'
        )
    if checkpoint_format == "saver":
        return False
    import tf_keras

    if not model._is_graph_network and not isinstance(model, tf_keras.Sequential):
        raise InvalidArgument(
            f"{_NAME}: Object-based checkpoints are currently not supported with subclassed models;"
            ' pass checkpoint_format="saver".'
        )
    return True
