"""Experiment: what a train-and-evaluate function returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from orchestrator.errors import InvalidType
from orchestrator.estimator.estimator import Estimator
from orchestrator.estimator.specs import EvalSpec, TrainSpec


@dataclass(frozen=True)
class Experiment:
    """An estimator, how to train it and how to evaluate it. Immutable.

    Every task of a job builds the same Experiment; the task's place in the
    cluster stands in `estimator.config`.

    Raises InvalidType (a TypeError), naming the part, when one is something else.
    """

    estimator: Estimator
    train_spec: TrainSpec
    eval_spec: EvalSpec

    def __post_init__(self) -> None:
        for name, value, expected in (
            ("estimator", self.estimator, Estimator),
            ("train_spec", self.train_spec, TrainSpec),
            ("eval_spec", self.eval_spec, EvalSpec),
        ):
            if not isinstance(value, expected):
                raise InvalidType(
                    f"Experiment: {name} must be an orchestrator.estimator.{expected.__name__}, "
                    f"not {_described(value)}.{self._order_hint()}"
                )

    def _order_hint(self) -> str:
        given = (self.estimator, self.train_spec, self.eval_spec)
        kinds = (Estimator, TrainSpec, EvalSpec)
        if all(any(isinstance(value, kind) for value in given) for kind in kinds):
            return " The order is Experiment(estimator, train_spec, eval_spec)."
        return ""


def _described(value: Any) -> str:
    kind = type(value)
    if value is None:
        return "None"
    place = "" if kind.__module__ == "builtins" else f" of {kind.__module__}"
    return f"{value!r} ({kind.__name__}{place})"
