"""EstimatorSpec, TrainSpec and EvalSpec: checked when made, immutable afterwards."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from orchestrator.errors import InvalidArgument, InvalidType
from orchestrator.estimator import spec_checks as checks
from orchestrator.estimator.export.outputs import ExportOutput, serving_outputs
from orchestrator.estimator.modes import ModeKeys

_SPEC_FIELDS = (
    "mode",
    "predictions",
    "loss",
    "train_op",
    "eval_metric_ops",
    "export_outputs",
    "training_chief_hooks",
    "training_hooks",
    "scaffold",
    "evaluation_hooks",
    "prediction_hooks",
)


class EstimatorSpec(namedtuple("EstimatorSpec", _SPEC_FIELDS)):
    """What a model_fn returns.

    Args:
      mode: a ModeKeys value, the `mode` that model_fn was called with.
      predictions: tensor or dict of tensors, batch first. Required to predict.
      loss: tensor, scalar or of one element. Required to train and evaluate.
      train_op: operation of one training step. Required to train.
      eval_metric_ops: metrics by name: (value tensor, update operation) or a
        metric of Keras 2 whose `update_state` was called.
      export_outputs: ExportOutput by signature key. None serves `predictions`;
        of several one must have the key "serving_default".
      training_chief_hooks: `SessionRunHook`s of the chief, while training.
      training_hooks: those of every task that trains.
      scaffold: `tf.compat.v1.train.Scaffold` with initialization and saver.
      evaluation_hooks, prediction_hooks: hooks of those modes.

    Raises:
      InvalidArgument (a ValueError): a required field is missing, the loss is
        not scalar, a tensor belongs to another graph.
      InvalidType (a TypeError): a field has the wrong type.
    """

    __slots__ = ()

    def __new__(  # noqa: PLR0917 - the order of the public API
        cls,
        mode: str,
        predictions: Any = None,
        loss: Any = None,
        train_op: Any = None,
        eval_metric_ops: dict[str, Any] | None = None,
        export_outputs: dict[str, ExportOutput] | None = None,
        training_chief_hooks: Iterable[Any] | None = None,
        training_hooks: Iterable[Any] | None = None,
        scaffold: Any = None,
        evaluation_hooks: Iterable[Any] | None = None,
        prediction_hooks: Iterable[Any] | None = None,
    ) -> EstimatorSpec:
        checks.check_mode(mode)
        train_op = checks.checked_train_op(train_op, mode)
        loss = checks.checked_loss(loss, mode)
        predictions = checks.checked_predictions(predictions, mode)
        if mode == ModeKeys.PREDICT:
            export_outputs = serving_outputs(export_outputs, predictions)
        owner = cls.__name__
        return super().__new__(
            cls,
            mode=mode,
            predictions=predictions,
            loss=loss,
            train_op=train_op,
            eval_metric_ops=checks.checked_metrics(eval_metric_ops),
            export_outputs=export_outputs,
            training_chief_hooks=checks.checked_hooks(training_chief_hooks, owner),
            training_hooks=checks.checked_hooks(training_hooks, owner),
            scaffold=checks.checked_scaffold(scaffold),
            evaluation_hooks=checks.checked_hooks(evaluation_hooks, owner),
            prediction_hooks=checks.checked_hooks(prediction_hooks, owner),
        )

    def _replace(self, **fields: Any) -> EstimatorSpec:
        """A checked copy with other fields; the mode stays."""
        if fields.get("mode", self.mode) != self.mode:
            raise InvalidArgument("EstimatorSpec: mode of EstimatorSpec cannot be changed.")
        unknown = sorted(set(fields) - set(self._fields))
        if unknown:
            raise InvalidArgument(f"EstimatorSpec: got unexpected field names: {unknown}.")
        return EstimatorSpec(**{**self._asdict(), **fields})


class TrainSpec(namedtuple("TrainSpec", ("input_fn", "max_steps", "hooks", "saving_listeners"))):
    """The training half of train_and_evaluate.

    Args:
      input_fn: returns a Dataset of (features, labels) batches, or such tensors.
      max_steps: global step at which training ends; None trains until the input
        ends or a hook stops it.
      hooks: `SessionRunHook`s of every task that trains.
      saving_listeners: `CheckpointSaverListener`s of the chief.

    Raises InvalidArgument (a ValueError) or InvalidType (a TypeError), naming
    the argument.
    """

    __slots__ = ()

    def __new__(
        cls,
        input_fn: Callable[..., Any],
        max_steps: int | None = None,
        hooks: Iterable[Any] | None = None,
        saving_listeners: Iterable[Any] | None = None,
    ) -> TrainSpec:
        owner = cls.__name__
        checks.check_input_fn(input_fn, owner)
        checks.check_positive(max_steps, "max_steps", owner)
        return super().__new__(
            cls,
            input_fn=input_fn,
            max_steps=max_steps,
            hooks=checks.checked_hooks(hooks, owner, "`SessionRunHook`"),
            saving_listeners=checks.checked_listeners(saving_listeners, owner),
        )


class EvalInput(NamedTuple):
    """One data set of an EvalSpec: `name` is the evaluation's (None: the plain `eval` directory)."""

    name: str | None
    input_fn: Callable[..., Any]
    steps: int | None


_EVAL_FIELDS = ("input_fn", "steps", "name", "hooks", "exporters", "start_delay_secs", "throttle_secs")


class EvalSpec(namedtuple("EvalSpec", _EVAL_FIELDS)):
    """The evaluation half of train_and_evaluate.

    Args:
      input_fn: as TrainSpec's; or a dict of them by name, to evaluate each
        checkpoint on several data sets while it is loaded once. Each name gets
        its own directory `eval_NAME`; the first one is the main data set.
      steps: batches an evaluation; None takes all. With several inputs also a
        dict by name, 100 for names that it lacks.
      name: of the evaluation, for its directory `eval_NAME`; not with several
        inputs.
      hooks: `SessionRunHook`s of the evaluation.
      exporters: an Exporter or several of different names, called after each
        evaluation.
      start_delay_secs: seconds before the evaluator's first evaluation.
      throttle_secs: least number of seconds between the starts of two.

    Raises InvalidArgument (a ValueError) or InvalidType (a TypeError), naming
    the argument.
    """

    __slots__ = ()

    def __new__(  # noqa: PLR0917 - the order of the public API
        cls,
        input_fn: Callable[..., Any] | Mapping[str, Callable[..., Any]],
        steps: int | Mapping[str, int | None] | None = 100,
        name: str | None = None,
        hooks: Iterable[Any] | None = None,
        exporters: Any = None,
        start_delay_secs: float = 120,
        throttle_secs: float = 600,
    ) -> EvalSpec:
        owner = cls.__name__
        if name is not None and not isinstance(name, str):
            raise InvalidType(f"{owner}: `name` must be string, given: {name!r}.")
        _check_inputs(input_fn, steps, name, owner)
        checks.check_not_negative(start_delay_secs, "start_delay_secs", owner)
        checks.check_not_negative(throttle_secs, "throttle_secs", owner)
        return super().__new__(
            cls,
            input_fn=input_fn,
            steps=steps,
            name=name,
            hooks=checks.checked_hooks(hooks, owner, "`SessionRunHook`"),
            exporters=checks.checked_exporters(exporters),
            start_delay_secs=start_delay_secs,
            throttle_secs=throttle_secs,
        )


def eval_inputs(spec: EvalSpec) -> tuple[EvalInput, ...]:
    """Every data set that `spec` names, the main one first."""
    if not isinstance(spec.input_fn, Mapping):
        return (EvalInput(spec.name, spec.input_fn, spec.steps),)
    steps = spec.steps
    return tuple(
        EvalInput(name, input_fn, steps.get(name, 100) if isinstance(steps, Mapping) else steps)
        for name, input_fn in spec.input_fn.items()
    )


def merged_metrics(results: Mapping[str | None, Mapping[str, Any]]) -> dict[str, Any]:
    """One dict from the metrics of each input, in the order of `eval_inputs`.

    The main input's metrics keep their names; with several inputs all of them
    are there as `NAME/METRIC` too. This is what exporters and the caller of
    train_and_evaluate see.
    """
    merged = dict(next(iter(results.values())))
    if len(results) > 1:
        for name, metrics in results.items():
            merged.update({f"{name}/{key}": metrics[key] for key in metrics if key != "global_step"})
    return merged


def _check_inputs(input_fn: Any, steps: Any, name: str | None, owner: str) -> None:
    if not isinstance(input_fn, Mapping):
        checks.check_input_fn(input_fn, owner)
        checks.check_positive(steps, "steps", owner)
        return
    checks.check_named_inputs(input_fn, owner)
    if name is not None:
        raise InvalidArgument(
            f"{owner}: `name` cannot be set beside several named inputs; their names are {list(input_fn)}."
        )
    counts = steps if isinstance(steps, Mapping) else dict.fromkeys(input_fn, steps)
    unknown = [key for key in counts if key not in input_fn]
    if unknown:
        raise InvalidArgument(f"{owner}: `steps` names {unknown}, but the inputs are {list(input_fn)}.")
    for key, count in counts.items():
        checks.check_positive(count, f"steps[{key!r}]" if isinstance(steps, Mapping) else "steps", owner)
