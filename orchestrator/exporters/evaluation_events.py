"""Evaluations that earlier processes left in event files."""

from __future__ import annotations

from collections.abc import Iterator

import tensorflow as tf


def evaluations(pattern: str) -> Iterator[tuple[int, dict[str, float]]]:
    """Global step and scalar summaries of each event that has some, from the files that `pattern` matches.

    Nothing where no file matches; what follows a torn place in a file is passed
    over, with a warning.
    """
    for path in sorted(tf.io.gfile.glob(pattern)):
        try:
            for event in tf.compat.v1.train.summary_iterator(path):
                values = event.summary.value if event.HasField("summary") else ()
                metrics = {v.tag: v.simple_value for v in values if v.HasField("simple_value")}
                if metrics:
                    yield event.step, metrics
        except tf.errors.DataLossError as error:
            tf.compat.v1.logging.warning("The event file %s is damaged from here on: %s", path, error.message)
