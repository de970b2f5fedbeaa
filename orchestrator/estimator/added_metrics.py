"""add_metrics: an Estimator with more metrics than its model_fn has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from orchestrator.errors import InvalidArgument, InvalidType, near_miss
from orchestrator.estimator.estimator import Estimator, EstimatorV1
from orchestrator.estimator.modes import ModeKeys
from orchestrator.estimator.signatures import argument_names, check_estimator, describe

_ARGUMENTS = ("features", "labels", "predictions", "config")


def add_metrics(estimator: EstimatorV1, metric_fn: Callable[..., dict[str, Any]]) -> EstimatorV1:
    """A new Estimator on the same model directory that also evaluates `metric_fn`'s metrics.

    `metric_fn` takes any of `features`, `labels`, `predictions` and `config` and
    returns metrics as EstimatorSpec takes them; one of a name that the model has
    replaces it. Raises InvalidArgument (a ValueError) where it takes anything
    else, InvalidType (a TypeError) where it is no function.
    """
    check_estimator(estimator, "add_metrics")
    if not callable(metric_fn):
        raise InvalidType(f"add_metrics: metric_fn must be callable, given: {metric_fn!r}.")
    wanted = argument_names(metric_fn)
    unknown = [name for name in wanted if name not in _ARGUMENTS]
    if unknown:
        raise InvalidArgument(
            f"add_metrics: metric_fn ({describe(metric_fn)}) has following not expected args: {unknown}."
            f"{near_miss(unknown[0], _ARGUMENTS)} It can take {', '.join(_ARGUMENTS)}."
        )

    def model_fn(features: Any, labels: Any, mode: str, config: Any) -> Any:
        spec = estimator.model_fn(features, labels, mode, config)
        if mode != ModeKeys.EVAL:
            return spec
        given = {"features": features, "labels": labels, "predictions": spec.predictions, "config": config}
        added = metric_fn(**{name: given[name] for name in wanted})
        if not isinstance(added, dict):
            raise InvalidType(
                f"add_metrics: metric_fn {describe(metric_fn)} must return a dict of metrics, not {added!r}."
            )
        return spec._replace(eval_metric_ops={**spec.eval_metric_ops, **added})

    kind = Estimator if isinstance(estimator, Estimator) else EstimatorV1
    return kind(
        model_fn=model_fn,
        model_dir=estimator.model_dir,
        config=estimator.config,
        warm_start_from=estimator._model.warm_start,
    )
