"""The exports that already lie in a directory: finding them, removing the oldest."""

from __future__ import annotations

import os

import tensorflow as tf


def existing_exports(export_path: str | bytes) -> list[str]:
    """Names of the exports (seconds since the epoch) in `export_path`, oldest first."""
    if not tf.io.gfile.isdir(export_path):
        return []
    names = [os.fsdecode(name).rstrip("/") for name in tf.io.gfile.listdir(export_path)]
    return sorted(name for name in names if len(name) == 10 and name.isdigit())


def remove_old_exports(export_path: str | bytes, keep: int | None) -> None:
    """Removes all but the newest `keep` exports; None keeps all."""
    if keep is None:
        return
    for name in existing_exports(export_path)[:-keep]:
        path = os.path.join(os.fsdecode(export_path), name)
        try:
            tf.io.gfile.rmtree(path)
        except tf.errors.NotFoundError as error:  # another process was faster
            tf.compat.v1.logging.warning("Cannot remove the old export %s: %s", path, error.message)
