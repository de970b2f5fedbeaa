"""Parsing specifications for `tf.Example`s that hold features, label and weight together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import tensorflow as tf

from orchestrator.errors import InvalidArgument


def classifier_parse_example_spec(
    feature_columns: Iterable[Any],
    label_key: str,
    label_dtype: Any = tf.int64,
    label_default: Any = None,
    weight_column: Any = None,
) -> dict[str, Any]:
    """What `tf.io.parse_example` needs for a classifier's examples.

    Args:
      feature_columns: `tf.feature_column`s of the model.
      label_key: the label's key in the example.
      label_dtype: its type; `tf.string` where labels are words.
      label_default: label of examples that lack it; None makes them an error.
      weight_column: key, or numeric column, of the example's weight.

    Returns parsing configurations by key. Raises InvalidArgument (a ValueError)
    where label or weight is also a feature, or the weight is no numeric column.
    """
    label = tf.io.FixedLenFeature((1,), label_dtype, label_default)
    return _with_label_and_weight(feature_columns, label_key, label, weight_column)


def regressor_parse_example_spec(  # noqa: PLR0917 - the order of the public API
    feature_columns: Iterable[Any],
    label_key: str,
    label_dtype: Any = tf.float32,
    label_default: Any = None,
    label_dimension: int = 1,
    weight_column: Any = None,
) -> dict[str, Any]:
    """What `tf.io.parse_example` needs for a regressor's examples.

    `label_dimension` is the number of targets an example; all else as
    classifier_parse_example_spec.
    """
    label = tf.io.FixedLenFeature((label_dimension,), label_dtype, label_default)
    return _with_label_and_weight(feature_columns, label_key, label, weight_column)


def _with_label_and_weight(
    feature_columns: Iterable[Any], label_key: str, label: Any, weight_column: Any
) -> dict[str, Any]:
    spec = _feature_spec(list(feature_columns))
    if label_key is None:
        raise InvalidArgument("parse_example_spec: label_key must be given.")
    if label_key in spec:
        raise InvalidArgument(
            f"parse_example_spec: label should not be used as feature. label_key: {label_key},"
            f" features: {sorted(spec)}."
        )
    spec[label_key] = label
    if weight_column is None:
        return spec
    by_key = isinstance(weight_column, str)
    weight = tf.feature_column.numeric_column(weight_column) if by_key else weight_column
    if not all(hasattr(weight, name) for name in ("key", "normalizer_fn", "parse_example_spec")):
        raise InvalidArgument(
            "parse_example_spec: weight_column should be a key or a tf.feature_column.numeric_column,"
            f" given: {weight_column!r}."
        )
    if weight.key in spec:
        raise InvalidArgument(
            f"parse_example_spec: weight_column should not be used as feature. weight_column: {weight.key},"
            f" features: {sorted(spec)}."
        )
    return {**spec, **weight.parse_example_spec}


def _feature_spec(columns: list[Any]) -> dict[str, Any]:
    """The features' part; columns of TensorFlow 1 know only its own function, new ones only the new one."""
    if all(hasattr(column, "parse_example_spec") for column in columns):
        return tf.feature_column.make_parse_example_spec(columns)
    return tf.compat.v1.feature_column.make_parse_example_spec(columns)
