"""call_logit_fn: calls a function that builds logits with the arguments it takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from orchestrator.errors import InvalidArgument
from orchestrator.estimator.signatures import argument_names, describe


def call_logit_fn(logit_fn: Callable[..., Any], features: Any, mode: str, params: Any, config: Any) -> Any:
    """`logit_fn(features=...)`, with `mode`, `params` and `config` where it takes them.

    Returns a logits tensor, or a dict of them by head. Raises InvalidArgument
    (a ValueError) where it returns anything else.
    """
    names = argument_names(logit_fn)
    optional = {"mode": mode, "params": params, "config": config}
    logits = logit_fn(features=features, **{key: value for key, value in optional.items() if key in names})
    by_head = logits if isinstance(logits, dict) else {"logits": logits}
    if not all(isinstance(k, str) and isinstance(v, tf.Tensor) for k, v in by_head.items()):
        raise InvalidArgument(
            "logit_fn should return a Tensor or a dictionary mapping strings to Tensors;"
            f" {describe(logit_fn)} returned {logits!r}."
        )
    return logits
