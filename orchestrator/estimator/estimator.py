"""The Estimator: a model_fn with a directory, trained, evaluated, asked and exported."""

from __future__ import annotations

import copy
import dataclasses
import math
import numbers
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import tensorflow as tf

from orchestrator.errors import InvalidArgument, InvalidType, Unsupported
from orchestrator.estimator import checkpoints, evaluation, prediction, saved_model, training
from orchestrator.estimator.eager_placement import keep_soft_placement
from orchestrator.estimator.logger import log
from orchestrator.estimator.model import Model
from orchestrator.estimator.modes import ModeKeys
from orchestrator.estimator.progress import reporter_of
from orchestrator.estimator.run_config import RunConfig, default_session_config
from orchestrator.estimator.session_hooks import TrainingRequest
from orchestrator.estimator.signatures import check_input_fn, check_model_fn
from orchestrator.estimator.warm_starting import source_of
from orchestrator.warm_start.request import WarmStart
from orchestrator.warm_start.scaffold import plan_for_graph
from orchestrator.warm_start.variable_map import Plan

v1 = tf.compat.v1
_MAY_BE_OVERRIDDEN = ("model_fn", "latest_checkpoint")


class EstimatorV1:
    """Trains and evaluates a model that a `model_fn` describes.

    Works in graph mode: `model_fn`, `input_fn` and hooks are called inside a
    `tf.Graph`, also while eager execution is the default.

    Args:
      model_fn: called with `features` and any of `labels`, `mode`, `params`,
        `config`; returns an EstimatorSpec.
      model_dir: directory of checkpoints and summaries; None takes the one of
        `config`, or a temporary one. Where both are given they must be equal.
      config: RunConfig.
      params: handed to `model_fn` and `input_fn` where they take `params`.
      warm_start_from: a checkpoint of any kind that
        `orchestrator.warm_start.open_checkpoint` reads, WarmStartSettings, or a
        WarmStart or Plan of that package: loaded once, where `model_dir` has no
        checkpoint yet.

    Raises InvalidArgument (a ValueError) or InvalidType (a TypeError) for wrong
    arguments, and for a subclass that overrides a public member.
    """

    def __init__(
        self,
        model_fn: Callable[..., Any],
        model_dir: str | os.PathLike[str] | None = None,
        config: RunConfig | None = None,
        params: Any = None,
        warm_start_from: Any = None,
    ) -> None:
        _refuse_overridden_members(type(self))
        keep_soft_placement()
        self._config = _completed(config, model_dir)
        check_model_fn(model_fn, params_given=params is not None)
        self._params = copy.deepcopy(params or {})
        self._model = Model(
            model_fn, self._params, self._config, source_of(warm_start_from), self._create_global_step
        )

    @property
    def model_dir(self) -> str:
        """Directory of checkpoints and summaries."""
        return self._config.model_dir

    @property
    def config(self) -> RunConfig:
        """The RunConfig, completed: it names a model directory and a session configuration."""
        # Not a deep copy: strategies belong to their devices and cannot be copied.
        return self._config.replace(session_config=copy.deepcopy(self._config.session_config))

    @property
    def params(self) -> Any:
        """A copy of the parameters."""
        return copy.deepcopy(self._params)

    @property
    def model_fn(self) -> Callable[..., Any]:
        """The model function with `params` bound, called as `f(features, labels, mode, config)`."""

        def bound(features: Any, labels: Any, mode: str, config: RunConfig) -> Any:
            return dataclasses.replace(self._model, config=config).call_model_fn(features, labels, mode)

        return bound

    def _create_global_step(self, graph: tf.Graph) -> Any:
        return v1.train.create_global_step(graph)

    def train(
        self,
        input_fn: Callable[..., Any],
        hooks: Iterable[Any] | None = None,
        steps: int | None = None,
        max_steps: int | None = None,
        saving_listeners: Iterable[Any] | None = None,
    ) -> EstimatorV1:
        """Trains `steps` more steps, or until global step `max_steps`, or until the input ends.

        Args:
          input_fn: returns a Dataset of batches, an iterator, `features` or
            `(features, labels)`; may take `mode`, `params`, `config`,
            `input_context`.
          hooks: `SessionRunHook`s around each step.
          steps: counted from now; not together with `max_steps`.
          max_steps: a total; nothing is done where it is already reached.
          saving_listeners: told before and after each checkpoint.

        Returns the estimator itself. Raises InvalidArgument for both or non
        positive numbers of steps, NanLossDuringTrainingError for a loss that
        is not a number.
        """
        check_input_fn(input_fn, "Estimator.train")
        if self._config.task_type in ("evaluator", "ps"):
            raise InvalidArgument(
                f"Train has been called wrong configuration: this process is '{self._config.task_type}'."
                " Please use train_and_evaluate, which does what each task is for."
            )
        steps, max_steps = _step_numbers(steps, max_steps)
        request = TrainingRequest(
            _checked_hooks(hooks), _checked_listeners(saving_listeners), steps, max_steps
        )
        if max_steps is not None:
            step = int(checkpoints.global_step_of(self.latest_checkpoint()))
            if step >= max_steps:
                log.info("Skipping training since max_steps %d has already been reached.", max_steps)
                reporter = reporter_of(self._config.task_environment)
                reporter.update(step=step, max_steps=max_steps, checkpoint_step=step)
                return self
        loss = training.train(self._model, input_fn, request)
        log.info("Loss for final step: %s.", loss)
        return self

    def evaluate(
        self,
        input_fn: Callable[..., Any],
        steps: int | None = None,
        hooks: Iterable[Any] | None = None,
        checkpoint_path: str | None = None,
        name: str | None = None,
    ) -> dict[str, Any]:
        """Evaluates the newest checkpoint, or `checkpoint_path`, over `steps` batches or all.

        Without any checkpoint freshly initialised weights are evaluated.
        Returns metrics by name, with `loss` (mean over batches) and
        `global_step`; they are also written to `eval_dir(name)`. Under an
        `eval_distribute` strategy a step takes one batch for each replica, and
        batches at the end that are fewer than the replicas are not counted.
        Raises InvalidArgument where `steps` is not positive.
        """
        check_input_fn(input_fn, "Estimator.evaluate")
        steps = _step_number("steps", steps)
        model = self._model
        checkpoint = evaluation.checkpoint_or_newest(
            model, checkpoint_path or self.latest_checkpoint(), "evaluate"
        )
        request = evaluation.EvaluationRequest(input_fn, steps, _checked_hooks(hooks), self.eval_dir(name))
        return evaluation.evaluate(model, request, checkpoint)

    def predict(
        self,
        input_fn: Callable[..., Any],
        predict_keys: Iterable[str] | None = None,
        hooks: Iterable[Any] | None = None,
        checkpoint_path: str | None = None,
        yield_single_examples: bool = True,
    ) -> Iterator[Any]:
        """Yields predictions of the newest checkpoint, or `checkpoint_path`, until the input ends.

        Args:
          input_fn: as for `train`; labels are ignored.
          predict_keys: which of the predictions, where they are a dict.
          hooks: `SessionRunHook`s around each batch.
          yield_single_examples: whether batches are taken apart; if not, whole
            batches are yielded as `model_fn` returned them.

        Raises InvalidArgument for keys that do not exist and for predictions of
        different batch lengths.
        """
        check_input_fn(input_fn, "Estimator.predict")
        model = self._model
        checkpoint = evaluation.checkpoint_or_newest(
            model, checkpoint_path or self.latest_checkpoint(), "predict"
        )
        request = prediction.PredictionRequest(
            input_fn, predict_keys, _checked_hooks(hooks), yield_single_examples
        )
        yield from prediction.predict(model, request, checkpoint)

    def export_saved_model(  # noqa: PLR0917  (the original's signature)
        self,
        export_dir_base: str | os.PathLike[str],
        serving_input_receiver_fn: Callable[[], Any],
        assets_extra: Mapping[str, str] | None = None,
        as_text: bool = False,
        checkpoint_path: str | None = None,
        experimental_mode: str = ModeKeys.PREDICT,
    ) -> bytes:
        """Exports the newest checkpoint, or `checkpoint_path`, for serving.

        Args:
          export_dir_base: the SavedModel goes into a new directory below it,
            named after the time in seconds.
          serving_input_receiver_fn: returns a ServingInputReceiver.
          assets_extra: source files by their path below `assets.extra`.
          as_text: whether the graph is written as text.
          experimental_mode: the mode in which `model_fn` is called.

        Returns the new directory, as bytes. Raises NotTrained (a ValueError)
        where there is no checkpoint.
        """
        if not serving_input_receiver_fn:
            raise InvalidArgument("An input_receiver_fn must be defined.")
        return self.experimental_export_all_saved_models(
            export_dir_base,
            {experimental_mode: serving_input_receiver_fn},
            assets_extra=assets_extra,
            as_text=as_text,
            checkpoint_path=checkpoint_path,
        )

    def experimental_export_all_saved_models(
        self,
        export_dir_base: str | os.PathLike[str],
        input_receiver_fn_map: Mapping[str, Callable[[], Any]],
        assets_extra: Mapping[str, str] | None = None,
        as_text: bool = False,
        checkpoint_path: str | None = None,
    ) -> bytes:
        """Exports one SavedModel with a graph for each mode in `input_receiver_fn_map`.

        The other arguments are those of `export_saved_model`.
        """
        request = saved_model.ExportRequest(export_dir_base, input_receiver_fn_map, assets_extra, as_text)
        return saved_model.export(self._model, request, checkpoint_path or self.latest_checkpoint())

    def export_savedmodel(  # noqa: PLR0917  (the original's signature)
        self,
        export_dir_base: str | os.PathLike[str],
        serving_input_receiver_fn: Callable[[], Any],
        assets_extra: Mapping[str, str] | None = None,
        as_text: bool = False,
        checkpoint_path: str | None = None,
        strip_default_attrs: bool = False,
    ) -> bytes:
        """`export_saved_model` in the spelling of TensorFlow 1.

        `strip_default_attrs`: whether attributes of operations that have their
        defaults are left out, so that older versions of TensorFlow can read it.
        """
        if not serving_input_receiver_fn:
            raise InvalidArgument("An input_receiver_fn must be defined.")
        receiver_fns = {ModeKeys.PREDICT: serving_input_receiver_fn}
        request = saved_model.ExportRequest(
            export_dir_base, receiver_fns, assets_extra, as_text, strip_default_attrs
        )
        return saved_model.export(self._model, request, checkpoint_path or self.latest_checkpoint())

    def latest_checkpoint(self) -> str | None:
        """Prefix of the newest checkpoint in `model_dir`, or None."""
        return checkpoints.newest(self.model_dir)

    def get_variable_names(self) -> list[str]:
        """Names of all variables in the newest checkpoint; raises NotTrained (a ValueError) without one."""
        return [name for name, _ in tf.train.list_variables(checkpoints.required(self.model_dir))]

    def get_variable_value(self, name: str) -> Any:
        """Value of a variable in the newest checkpoint; raises NotTrained (a ValueError) without one."""
        return tf.train.load_variable(checkpoints.required(self.model_dir), name)

    def eval_dir(self, name: str | None = None) -> str:
        """Directory of the summaries of the evaluation `name`."""
        return os.path.join(self.model_dir, f"eval_{name}" if name else "eval")


class Estimator(EstimatorV1):
    __doc__ = EstimatorV1.__doc__

    @property
    def export_savedmodel(self) -> Any:  # type: ignore[override]
        """Gone from TensorFlow 2."""
        raise Unsupported(
            "`Estimator.export_savedmodel` has been deprecated. Please use `export_saved_model` instead."
        )


def set_warm_start(estimator: EstimatorV1, source: Any) -> None:
    """Lets an estimator start from `source`, as the constructor's `warm_start_from`, in place of its own."""
    if estimator._model.warm_start is not None:
        log.info("The warm start that the experiment itself asks for is replaced by the job's.")
    estimator._model = dataclasses.replace(estimator._model, warm_start=source_of(source))


def plan_for_training(estimator: EstimatorV1, input_fn: Callable[..., Any], wanted: WarmStart) -> Plan:
    """The plan of a warm start of this estimator's training; builds its graph and runs nothing."""
    model = dataclasses.replace(estimator._model, warm_start=wanted)
    built = training.build_training_graph(model, input_fn, None)
    return plan_for_graph(built.graph, wanted)


def _refuse_overridden_members(cls: type) -> None:
    ours = (EstimatorV1, Estimator)
    public = {name for name in vars(EstimatorV1) if not name.startswith("__")} - set(_MAY_BE_OVERRIDDEN)
    overridden = sorted(public & {name for base in cls.__mro__ if base not in ours for name in vars(base)})
    if overridden:
        raise InvalidArgument(
            f"Subclasses of Estimator cannot override members of Estimator."
            f" {cls.__name__} does override {overridden}."
        )


def _completed(config: RunConfig | None, model_dir: Any) -> RunConfig:
    """The config with a model directory and a session configuration; raises where two directories differ."""
    config = RunConfig() if config is None else config
    if not isinstance(config, RunConfig):
        raise InvalidArgument(f"config must be an instance of `RunConfig`, but provided {config}.")
    if config.session_config is None:
        config = config.replace(session_config=default_session_config())
    path = _as_path(model_dir)
    if path is not None and config.model_dir is not None and path != config.model_dir:
        raise InvalidArgument(
            "`model_dir` are set both in constructor and `RunConfig`, but with different values."
            f" In constructor: '{path}', in `RunConfig`: '{config.model_dir}'."
        )
    path = path or config.model_dir
    if not path:
        path = tempfile.mkdtemp()
        log.warning("Using temporary folder as model directory: %s", path)
    return config.replace(model_dir=path)


def _as_path(model_dir: Any) -> str | None:
    if model_dir is None:
        return None
    if not isinstance(model_dir, (str, bytes, os.PathLike)):
        raise InvalidType(f"model_dir must be a string or a path, given: {model_dir!r}")
    path = os.fsdecode(model_dir)
    if os.path.isfile(path):
        raise InvalidArgument(f"model_dir must be a directory; {path} is a file")
    return path


def _step_numbers(steps: Any, max_steps: Any) -> tuple[int | None, int | None]:
    if steps is not None and max_steps is not None:
        raise InvalidArgument("Can not provide both steps and max_steps.")
    return _step_number("steps", steps), _step_number("max_steps", max_steps)


def _step_number(name: str, value: Any) -> int | None:
    """The number, rounded up: programs divide the number of rows by the batch size."""
    if value is None:
        return None
    if not isinstance(value, numbers.Real) or isinstance(value, bool) or not math.isfinite(value):
        raise InvalidType(f"{name} must be a number, given: {value!r}")
    if value <= 0:
        raise InvalidArgument(f"Must specify {name} > 0, given: {value}")
    return math.ceil(value)


def _checked_hooks(hooks: Iterable[Any] | None) -> tuple[Any, ...]:
    checked = _as_tuple(hooks, "hooks must be a list of SessionRunHook")
    for hook in checked:
        if not isinstance(hook, v1.train.SessionRunHook):
            raise InvalidType(f"Hooks must be a SessionRunHook, given: {hook}")
    return checked


def _as_tuple(items: Any, message: str) -> tuple[Any, ...]:
    try:
        return tuple(items or ())
    except TypeError:
        raise InvalidType(f"{message}, given: {items!r}") from None


def _checked_listeners(listeners: Iterable[Any] | None) -> tuple[Any, ...]:
    checked = _as_tuple(listeners, "saving_listeners must be a list of CheckpointSaverListener")
    for listener in checked:
        if not isinstance(listener, v1.train.CheckpointSaverListener):
            raise InvalidType(
                f"saving_listeners must be a list of CheckpointSaverListener, given: {listener}"
            )
    return checked
