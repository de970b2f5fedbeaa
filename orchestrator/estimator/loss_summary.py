"""The summary of the loss that every training graph has."""

from __future__ import annotations

import tensorflow as tf

v1 = tf.compat.v1
LOSS = "loss"


def add_loss_summary(loss: tf.Tensor) -> None:
    """Adds a scalar summary named `loss` unless `model_fn` has made one."""
    if not any(summary.op.name == LOSS for summary in v1.get_collection(v1.GraphKeys.SUMMARIES)):
        v1.summary.scalar(LOSS, loss)
    v1.add_to_collection(v1.GraphKeys.LOSSES, loss)
