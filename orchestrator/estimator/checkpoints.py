"""Which checkpoints a model directory holds, and which of them are complete."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from orchestrator.errors import NotTrained


def newest(model_dir: str) -> str | None:
    """The prefix of the newest checkpoint by the directory's own state file, or None."""
    return tf.train.latest_checkpoint(model_dir)


def kept(model_dir: str) -> list[str]:
    """Prefixes of all checkpoints that the state file lists, oldest first."""
    state = tf.train.get_checkpoint_state(model_dir)
    return list(state.all_model_checkpoint_paths) if state is not None else []


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
        return int(tf.train.load_variable(checkpoint, tf.compat.v1.GraphKeys.GLOBAL_STEP))
    except (ValueError, RuntimeError, tf.errors.OpError):
        return 0


def recover_kept(saver: Any, model_dir: str) -> None:
    """Lets the saver delete checkpoints of earlier runs when they are too many."""
    if isinstance(saver, tf.compat.v1.train.Saver):
        saver.recover_last_checkpoints(kept(model_dir))
