"""Warm starts: weights of another model, once, before step 0."""

from __future__ import annotations

import os
from typing import Any

import tensorflow as tf

from orchestrator.errors import InvalidArgument
from orchestrator.estimator.logger import log
from orchestrator.estimator.warm_start_settings import WarmStartSettings


def settings_of(warm_start_from: Any) -> WarmStartSettings | None:
    """WarmStartSettings of what a user gave: a checkpoint, its directory, a SavedModel, settings or None.

    Raises InvalidArgument for anything else.
    """
    if warm_start_from is None or isinstance(warm_start_from, WarmStartSettings):
        return warm_start_from
    if isinstance(warm_start_from, (str, bytes, os.PathLike)):
        path = os.fsdecode(warm_start_from)
        variables = os.path.join(path, "variables", "variables")
        if tf.io.gfile.exists(variables + ".index"):
            return WarmStartSettings(ckpt_to_initialize_from=variables)
        return WarmStartSettings(ckpt_to_initialize_from=path)
    raise InvalidArgument(
        f"warm_start_from must be a string or a WarmStartSettings, instead got {type(warm_start_from)}."
    )


def add_warm_start(settings: WarmStartSettings | None) -> None:
    """Lets the initializers of the default graph's variables load from another checkpoint."""
    if settings is None:
        return
    log.info("Warm-starting from %s.", settings.ckpt_to_initialize_from)
    tf.compat.v1.train.warm_start(*settings)
