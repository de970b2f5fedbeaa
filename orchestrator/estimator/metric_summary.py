"""Evaluation metrics as summaries that TensorBoard shows."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from orchestrator.estimator.graph import GLOBAL_STEP
from orchestrator.estimator.logger import log

v1 = tf.compat.v1


def write_metrics(output_dir: str, metrics: dict[str, Any], checkpoint: str | None) -> None:
    """Writes metrics, and the checkpoint they belong to, into the event file of `output_dir`."""
    step = int(metrics[GLOBAL_STEP])
    shown = ", ".join(
        f"{key} = {value}" for key, value in sorted(metrics.items()) if not isinstance(value, bytes)
    )
    log.info("Saving dict for global step %d: %s", step, shown)
    summary = v1.Summary()
    for name, value in metrics.items():
        if name != GLOBAL_STEP and value is not None:
            _add(summary, name, value)
    writer = v1.summary.FileWriterCache.get(output_dir)
    writer.add_summary(summary, step)
    if checkpoint:
        path = v1.Summary()
        path.value.add(tag="checkpoint_path", tensor=tf.make_tensor_proto(checkpoint, dtype=tf.string))
        writer.add_summary(path, step)
    writer.flush()


def _add(summary: v1.Summary, name: str, value: Any) -> None:
    """A number as a scalar, bytes as a serialized Summary, an array as a tensor; else a warning."""
    if isinstance(value, (numbers.Number, np.generic)) and not isinstance(value, (bytes, complex)):
        summary.value.add(tag=name, simple_value=float(value))
    elif isinstance(value, bytes):
        _add_serialized(summary, name, value)
    elif isinstance(value, np.ndarray):
        summary.value.add(tag=name, node_name=name, tensor=tf.make_tensor_proto(value))
    else:
        log.warning(
            "Skipping summary for %s: a %s is no number, array or serialized Summary.", name, type(value)
        )


def _add_serialized(summary: v1.Summary, name: str, value: bytes) -> None:
    try:
        parts = v1.Summary.FromString(value)
    except DecodeError:
        log.warning("Skipping summary for %s, cannot parse string to Summary.", name)
        return
    for index, part in enumerate(parts.value):
        part.tag = f"{name}/{index}"
    summary.value.extend(parts.value)
