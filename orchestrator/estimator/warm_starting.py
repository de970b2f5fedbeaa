"""Warm starts: weights of another model, once, before step 0."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from orchestrator.errors import InvalidArgument, near_miss
from orchestrator.estimator.logger import log
from orchestrator.estimator.warm_start_settings import WarmStartSettings

v1 = tf.compat.v1
_OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
Load = Callable[[v1.Session], None]


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


def plan_warm_start(settings: WarmStartSettings | None) -> Load | None:
    """How the default graph's variables are loaded in a session that has just initialised them.

    The values are fed to the variables' own initializers, so the graph grows
    by nothing and every replica gets them. Changed vocabularies and
    object-based checkpoints change initializers instead, before the session
    is opened; then there is nothing left to load and None is returned. Raises
    InvalidArgument where the checkpoint lacks a variable or has another shape.
    """
    if settings is None:
        return None
    reader = _reader(settings.ckpt_to_initialize_from)
    shapes = reader.get_variable_to_shape_map()
    if settings.var_name_to_vocab_info or _OBJECT_GRAPH in shapes:
        v1.train.warm_start(*settings)
        return None
    sources = dict(_sources(settings, shapes))

    def load(session: v1.Session) -> None:
        log.info("Warm-starting %d variables from %s.", len(sources), settings.ckpt_to_initialize_from)
        for name, targets in sources.items():
            value = reader.get_tensor(name)
            for target in targets:
                initializer = target.initializer
                session.run(initializer, {initializer.inputs[1]: _part_of(value, target)})

    return load


def _reader(path: str) -> Any:
    try:
        return tf.train.load_checkpoint(path)
    except (ValueError, RuntimeError, tf.errors.OpError) as error:
        raise InvalidArgument(f"warm_start_from: no readable checkpoint at {path}: {error}") from error


def _sources(settings: WarmStartSettings, shapes: dict[str, list[int]]) -> Iterator[tuple[str, list[Any]]]:
    """Names in the checkpoint, each with the variables (components, parts) that take its value."""
    grouped: dict[str, list[Any]] = {}
    for variable in _chosen_variables(settings.vars_to_warm_start):
        name = _full_name(variable)
        grouped.setdefault(settings.var_name_to_prev_var_name.get(name, name), []).append(variable)
    for source, variables in grouped.items():
        if source not in shapes:
            raise InvalidArgument(
                f"warm_start_from: '{source}' is not found in {settings.ckpt_to_initialize_from}, which is to"
                f" initialise '{_full_name(variables[0])}'.{near_miss(source, shapes)}"
            )
        for variable in variables:
            _check_shape(variable, source, shapes[source])
        yield source, [part for variable in variables for part in getattr(variable, "values", (variable,))]


def _chosen_variables(chosen: Any) -> list[Any]:
    """What `vars_to_warm_start` means: an expression is for trainable variables, a list for all of them."""
    if chosen is None:
        return []
    if isinstance(chosen, str):
        return list(v1.get_collection(v1.GraphKeys.TRAINABLE_VARIABLES, scope=chosen))
    found: dict[str, Any] = {}
    for item in chosen:
        matches = (
            v1.get_collection(v1.GraphKeys.GLOBAL_VARIABLES, scope=item) if isinstance(item, str) else [item]
        )
        found.update({variable.name: variable for variable in matches})
    return list(found.values())


def _slice_of(variable: Any) -> Any:
    return getattr(variable, "_save_slice_info", None)


def _full_name(variable: Any) -> str:
    """The name that a checkpoint has for the variable: of the whole, where this is a part."""
    whole = _slice_of(variable)
    return whole.full_name if whole is not None else variable.name.rpartition(":")[0] or variable.name


def _check_shape(variable: Any, source: str, shape: list[int]) -> None:
    whole = _slice_of(variable)
    wanted = list(whole.full_shape) if whole is not None else variable.shape.as_list()
    if wanted != list(shape):
        raise InvalidArgument(
            f"warm_start_from: variable '{_full_name(variable)}' has shape {wanted}, but '{source}' in the"
            f" checkpoint has {list(shape)}."
        )


def _part_of(value: np.ndarray, target: Any) -> np.ndarray:
    whole = _slice_of(target)
    if whole is None:
        return value
    parts = zip(whole.var_offset, whole.var_shape, strict=True)
    return value[tuple(slice(offset, offset + size) for offset, size in parts)]
