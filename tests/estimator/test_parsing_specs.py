from __future__ import annotations

from typing import Any

import pytest
import tensorflow as tf

from orchestrator.errors import InvalidArgument
from orchestrator.estimator.parsing_specs import classifier_parse_example_spec, regressor_parse_example_spec

pytestmark = pytest.mark.xdist_group("estimator_api")
FLOAT = tf.io.FixedLenFeature((1,), tf.float32)


def columns() -> list[Any]:
    return [tf.feature_column.numeric_column("a")]


def test_a_classifier_s_label_is_a_number_by_default() -> None:
    assert classifier_parse_example_spec(columns(), "b") == {
        "a": FLOAT,
        "b": tf.io.FixedLenFeature((1,), tf.int64),
    }
    words = classifier_parse_example_spec(columns(), "b", label_dtype=tf.string, label_default="none")
    assert words["b"] == tf.io.FixedLenFeature((1,), tf.string, "none")


def test_a_regressor_may_have_several_targets() -> None:
    assert regressor_parse_example_spec(columns(), "b")["b"] == FLOAT
    assert regressor_parse_example_spec(columns(), "b", label_dimension=3)["b"].shape == (3,)


@pytest.mark.parametrize("by_key", [True, False])
def test_the_weight_is_a_key_or_a_column(by_key: bool) -> None:
    weight = "w" if by_key else tf.feature_column.numeric_column("w")
    assert regressor_parse_example_spec(columns(), "b", weight_column=weight)["w"] == FLOAT


def test_sequence_columns_are_understood() -> None:
    column = tf.feature_column.sequence_numeric_column("s")
    assert classifier_parse_example_spec([column], "b")["s"] == tf.io.VarLenFeature(tf.float32)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"label_key": "a"}, "label should not be used as feature. label_key: a"),
        ({"label_key": None}, "label_key must be given"),
        ({"label_key": "b", "weight_column": "a"}, "weight_column should not be used as feature"),
        ({"label_key": "b", "weight_column": 3}, "given: 3"),
    ],
)
def test_what_cannot_be_parsed_together_is_refused(arguments: Any, text: str) -> None:
    with pytest.raises(InvalidArgument, match=text):
        classifier_parse_example_spec(columns(), **arguments)
