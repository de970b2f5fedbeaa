"""The values that RunConfig accepts: one rule and one sentence an argument."""

from __future__ import annotations

import inspect
import numbers
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from orchestrator.errors import InvalidArgument
from orchestrator.estimator.distribute_config import DistributeConfig

BOTH_PERIODS = "`save_checkpoints_steps` and `save_checkpoints_secs` cannot be both set."
PROTOCOLS = ("grpc", "grpc+verbs")
MIXED_PRECISION = ("float16", "bfloat16")
AUTO = "auto"

Rule = tuple[Callable[[Any], bool], str]


def _at_least_zero(value: Any) -> bool:
    return _is_number(value) and value >= 0


def _positive(value: Any) -> bool:
    return _is_number(value) and value > 0


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _is_whole(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _takes_op_alone(function: Any) -> bool:
    return callable(function) and list(inspect.signature(function).parameters) == ["op"]


def _is_strategy(value: Any) -> bool:
    return isinstance(value, (tf.distribute.Strategy, tf.compat.v1.distribute.Strategy))


def _flag(name: str) -> Rule:
    return lambda value: isinstance(value, bool), f"{name} must be True or False"


def _strategy(name: str) -> Rule:
    return _is_strategy, f"{name} must be a tf.distribute.Strategy"


_RULES: Mapping[str, Rule] = {
    "model_dir": (lambda value: isinstance(value, str) and bool(value), "model_dir should be non-empty"),
    "tf_random_seed": (_is_whole, "tf_random_seed must be integer"),
    "save_summary_steps": (_at_least_zero, "save_summary_steps should be >= 0"),
    "save_checkpoints_steps": (_at_least_zero, "save_checkpoints_steps should be >= 0"),
    "save_checkpoints_secs": (_at_least_zero, "save_checkpoints_secs should be >= 0"),
    "session_config": (
        lambda value: isinstance(value, tf.compat.v1.ConfigProto),
        "session_config must be instance of ConfigProto",
    ),
    "keep_checkpoint_max": (_at_least_zero, "keep_checkpoint_max should be >= 0"),
    "keep_checkpoint_every_n_hours": (_positive, "keep_checkpoint_every_n_hours should be > 0"),
    "log_step_count_steps": (_positive, "log_step_count_steps should be > 0"),
    "train_distribute": _strategy("train_distribute"),
    "device_fn": (_takes_op_alone, 'device_fn must be callable with exactly one argument "op".'),
    "protocol": (lambda value: value in PROTOCOLS, f"protocol should be {' or '.join(PROTOCOLS)}"),
    "eval_distribute": _strategy("eval_distribute"),
    "experimental_distribute": (
        lambda value: isinstance(value, DistributeConfig) or hasattr(value, "train_distribute"),
        "experimental_distribute must be a DistributeConfig",
    ),
    "experimental_max_worker_delay_secs": (
        _is_whole,
        "experimental_max_worker_delay_secs must be an integer if set.",
    ),
    "session_creation_timeout_secs": (_positive, "session_creation_timeout_secs should be > 0"),
    "checkpoint_save_graph_def": _flag("checkpoint_save_graph_def"),
    "steps_per_loop": (
        lambda value: value == AUTO or (_is_whole(value) and value >= 1),
        'steps_per_loop should be a whole number >= 1 or "auto"',
    ),
    "save_checkpoints_async": _flag("save_checkpoints_async"),
    "save_input_state": _flag("save_input_state"),
    "mixed_precision": (
        lambda value: isinstance(value, bool) or value in MIXED_PRECISION,
        f"mixed_precision should be True, False or one of {', '.join(MIXED_PRECISION)}",
    ),
    "xla": _flag("xla"),
    "memory_growth": _flag("memory_growth"),
}

NAMES = tuple(_RULES)
"""Every argument of RunConfig; each can be replaced."""


def check(name: str, value: Any) -> None:
    """Raises InvalidArgument (a ValueError) where `value` is not one that argument `name` takes.

    None always passes: it means "not set".
    """
    if value is None:
        return
    if name in ("train_distribute", "eval_distribute"):
        _refuse_coordinator(name, value)
    accepts, message = _RULES[name]
    if not accepts(value):
        raise InvalidArgument(f"RunConfig: {message.rstrip('.')}. Given: {value!r}.")


def _refuse_coordinator(name: str, strategy: Any) -> None:
    """The TensorFlow 2 parameter-server strategy has a coordinator instead of sessions."""
    if isinstance(strategy, tf.distribute.experimental.ParameterServerStrategy):
        raise InvalidArgument(
            "RunConfig: Please use `tf.compat.v1.distribute.experimental.ParameterServerStrategy`"
            f" as {name}: tf.distribute.ParameterServerStrategy needs a coordinator program and cannot train"
            " an Estimator."
        )
