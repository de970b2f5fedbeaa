"""What an Estimator is made of, and how the user's two functions are called."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from orchestrator.errors import InvalidArgument
from orchestrator.estimator import layer_names, loss_scaling, python_seed
from orchestrator.estimator.inputs.array_batches import ArrayInput
from orchestrator.estimator.modes import ModeKeys
from orchestrator.estimator.run_config import RunConfig
from orchestrator.estimator.signatures import argument_names, describe
from orchestrator.estimator.specs import EstimatorSpec
from orchestrator.warm_start.freezing import trainable_only

_REQUIRED = {ModeKeys.TRAIN: ("loss", "train_op"), ModeKeys.EVAL: ("loss",), ModeKeys.PREDICT: ()}


def _require_fields(spec: EstimatorSpec, mode: str, model_fn: Any) -> None:
    """Raises InvalidArgument where a spec made for another mode lacks what this one needs."""
    missing = [name for name in _REQUIRED.get(mode, ()) if getattr(spec, name) is None]
    if missing:
        raise InvalidArgument(
            f"model_fn {describe(model_fn)} was called with mode={mode!r} and returned an EstimatorSpec with"
            f" mode={spec.mode!r}, without {' and '.join(missing)}. Write EstimatorSpec(mode, ...)."
        )


@dataclass(frozen=True)
class Model:
    """The parts from which every graph of an Estimator is built."""

    model_fn: Callable[..., EstimatorSpec]
    params: Any
    config: RunConfig
    warm_start: Any = None
    """What `warm_starting.source_of` returns."""
    create_global_step: Callable[[tf.Graph], Any] = tf.compat.v1.train.create_global_step

    @property
    def model_dir(self) -> str:
        return self.config.model_dir

    def call_model_fn(self, features: Any, labels: Any, mode: str) -> EstimatorSpec:
        """Calls `model_fn` with the arguments it takes, in the graph that is the default one.

        Raises InvalidArgument where it takes no labels but there are some, and
        where it returns something else than an EstimatorSpec.
        """
        names = argument_names(self.model_fn)
        given = {"labels": labels, "mode": mode, "params": copy.deepcopy(self.params), "config": self.config}
        if labels is not None and "labels" not in names:
            raise InvalidArgument(
                "model_fn does not take labels, but input_fn returns labels."
                f" Add 'labels' to {describe(self.model_fn)}."
            )
        arguments = {name: given[name] for name in given if name in names}
        with (
            trainable_only(*self._trainable(mode)),
            loss_scaling.around_model_fn(self.config, mode),
            layer_names.counted_anew(),
            python_seed.seeded(self.config.tf_random_seed),
        ):
            spec = self.model_fn(features=features, **arguments)
        if not isinstance(spec, EstimatorSpec):
            raise InvalidArgument(
                "model_fn should return an EstimatorSpec;"
                f" {describe(self.model_fn)} returned {type(spec).__name__}."
            )
        _require_fields(spec, mode, self.model_fn)
        loss_scaling.note_missing(self.config, mode)
        return spec

    def _trainable(self, mode: str) -> tuple[Any, ...]:
        """What a WarmStart lets train; () for everything. A property of training, also after a restart."""
        return tuple(getattr(self.warm_start, "trainable", ())) if mode == ModeKeys.TRAIN else ()

    def call_input_fn(self, input_fn: Callable[..., Any], mode: str, input_context: Any = None) -> Any:
        """Calls `input_fn` on the CPU with the arguments it takes.

        Inputs over arrays give their Dataset: it can be started again, saved and split, unlike tensors.
        """
        if isinstance(input_fn, ArrayInput):
            input_fn = input_fn.dataset
        names = argument_names(input_fn)
        given = {"mode": mode, "params": copy.deepcopy(self.params), "config": self.config}
        if input_context is not None:
            given["input_context"] = input_context
        with tf.device("/cpu:0"):
            return input_fn(**{name: given[name] for name in given if name in names})
