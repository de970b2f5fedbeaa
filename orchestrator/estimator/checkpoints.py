"""Which checkpoints a model directory holds, and which of them are complete."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from orchestrator.errors import CheckpointError, NotTrained, near_miss
from orchestrator.estimator.logger import log
from orchestrator.warm_start.tensor_bundle import TensorBundleReader

v1 = tf.compat.v1
_INDEX = re.compile(r"-(\d+)\.index$")
_told: set[str] = set()


def newest(model_dir: str) -> str | None:
    """The prefix of the newest complete checkpoint; None where there is none at all.

    Damaged ones are passed over, which is said once. Raises CheckpointError
    where all are damaged: training from the start would overwrite them.
    """
    damage: dict[str, str] = {}
    for prefix in _newest_first(model_dir):
        reason = _damage(prefix)
        if reason is None:
            _tell(damage, prefix)
            return prefix
        damage[prefix] = reason
    if damage:
        raise CheckpointError(
            f"no checkpoint in {model_dir} can be read: {'; '.join(damage.values())}."
            " Mend or remove them, or use another model_dir."
        )
    return None


def _newest_first(model_dir: str) -> Iterator[str]:
    """Checkpoints whose files exist; by their names where the state file is damaged."""
    state = tf.train.get_checkpoint_state(model_dir)
    if state is not None:
        yield from filter(exists, reversed(state.all_model_checkpoint_paths))
    elif tf.io.gfile.exists(os.path.join(model_dir, "checkpoint")):
        found = [(_INDEX.search(name), name) for name in tf.io.gfile.listdir(model_dir)]
        numbered = sorted((int(match[1]), name.removesuffix(".index")) for match, name in found if match)
        yield from (os.path.join(model_dir, name) for _, name in reversed(numbered))


def exists(prefix: str) -> bool:
    """Whether there are files of a checkpoint, in the present or in the oldest format."""
    return bool(tf.io.gfile.exists(prefix + ".index") or tf.io.gfile.exists(prefix))


def _damage(prefix: str) -> str | None:
    try:
        TensorBundleReader(prefix).close()
    except CheckpointError as error:
        return str(error)
    return None


def _tell(damage: dict[str, str], used: str) -> None:
    for prefix, reason in damage.items():
        if prefix not in _told:
            _told.add(prefix)
            log.warning("A damaged checkpoint is passed over, %s is used instead. %s", used, reason)


def kept(model_dir: str) -> list[str]:
    """Prefixes of all checkpoints that the state file lists, oldest first."""
    state = tf.train.get_checkpoint_state(model_dir)
    return list(state.all_model_checkpoint_paths) if state is not None else []


def step_in_name(prefix: str) -> int | None:
    """The step that a checkpoint's name ends with; None for a name of another form."""
    match = _INDEX.search(prefix + ".index")
    return int(match[1]) if match else None


def required(model_dir: str) -> str:
    """`newest`, or NotTrained."""
    checkpoint = newest(model_dir)
    if checkpoint is None:
        raise NotTrained(f"Could not find trained model in model_dir: {model_dir}.")
    return checkpoint


def global_step_of(checkpoint: str | None) -> int:
    """The global step stored in a checkpoint; 0 where there is no checkpoint or no step in it."""
    if not checkpoint:
        return 0
    try:
        return int(tf.train.load_variable(checkpoint, v1.GraphKeys.GLOBAL_STEP))
    except (ValueError, RuntimeError, tf.errors.OpError):
        return 0


def recover_kept(saver: Any, model_dir: str) -> None:
    """Lets the saver delete checkpoints of earlier runs when they are too many."""
    if isinstance(saver, v1.train.Saver):
        saver.recover_last_checkpoints(kept(model_dir))


def saved_name(variable: Any) -> str:
    """The name that a checkpoint has for a variable: of the whole, where this is a part."""
    whole = getattr(variable, "_save_slice_info", None)
    return whole.full_name if whole is not None else variable.name.partition(":")[0]


def misfits(checkpoint: str, variables: list[Any]) -> str | None:
    """What keeps a checkpoint from being restored into these variables; None where nothing does."""
    shapes = dict(tf.train.list_variables(checkpoint))
    missing, different = [], []
    for variable in variables:
        name = saved_name(variable)
        whole = getattr(variable, "_save_slice_info", None)
        shape = list(whole.full_shape) if whole is not None else variable.shape.as_list()
        if name not in shapes:
            missing.append(f"{name}{near_miss(name, shapes)}")
        elif None not in shape and list(shapes[name]) != shape:
            different.append(f"{name} has shape {shape} in the model and {shapes[name]} in the checkpoint")
    lines = [f"not in the checkpoint: {', '.join(missing)}"] if missing else []
    return "; ".join([*lines, *different]) or None
