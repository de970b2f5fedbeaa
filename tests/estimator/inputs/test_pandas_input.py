from __future__ import annotations

from typing import Any

import pytest
import tensorflow as tf

from orchestrator.errors import InvalidArgument, InvalidType
from orchestrator.estimator.inputs.pandas_input import pandas_input_fn

pandas = pytest.importorskip("pandas")
pytestmark = pytest.mark.xdist_group("estimator_api")
INDEX = [10, 20, 30]
X = pandas.DataFrame({"a": [1, 2, 3], "b": ["x", "y", "z"]}, index=INDEX)
Y = pandas.Series([0.5, 1.5, 2.5], index=INDEX)


def first_batch(input_fn: Any) -> Any:
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        return session.run(input_fn())


def test_columns_become_features_without_the_index() -> None:
    features, labels = first_batch(pandas_input_fn(X, Y, batch_size=2, shuffle=False))
    assert {name: values.tolist() for name, values in features.items()} == {"a": [1, 2], "b": [b"x", b"y"]}
    assert labels.tolist() == [0.5, 1.5]


def test_without_labels_only_features_come() -> None:
    assert set(first_batch(pandas_input_fn(X, shuffle=False))) == {"a", "b"}


def test_labels_of_a_data_frame_are_a_dict_also_where_names_repeat() -> None:
    y = pandas.DataFrame({"a": [7, 8, 9], "c": [1, 1, 1]}, index=INDEX)
    features, labels = first_batch(pandas_input_fn(X, y, shuffle=False))
    assert features["a"].tolist() == [1, 2, 3]
    assert labels["a"].tolist() == [7, 8, 9]


def test_columns_of_pandas_own_types() -> None:
    frame = pandas.DataFrame(
        {
            "category": pandas.Categorical(["u", "v"]),
            "nullable": pandas.array([1, 2], dtype="Int64"),
            "flag": pandas.array([True, False], dtype="boolean"),
            "text": pandas.array(["p", "q"], dtype="string"),
        }
    )
    batch = first_batch(pandas_input_fn(frame, shuffle=False))
    assert {name: values.tolist() for name, values in batch.items()} == {
        "category": [b"u", b"v"],
        "nullable": [1, 2],
        "flag": [True, False],
        "text": [b"p", b"q"],
    }


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"x": X, "shuffle": None}, "shuffle must be provided"),
        ({"x": [1]}, "x must be a pandas DataFrame; got list"),
        ({"x": X[:0]}, "x is empty"),
        ({"x": X, "y": [1, 2, 3]}, "y must be a pandas Series or DataFrame; got list"),
        ({"x": X, "y": pandas.Series([1, 2, 3])}, "Index for x and y are mismatched"),
        ({"x": X, "y": Y, "target_column": "a"}, "Cannot use name 'a' for target column"),
        ({"x": X, "y": Y, "target_column": ["t"]}, "target_column must be a string type"),
        ({"x": pandas.DataFrame({"n": ["x", None]})}, "column 'n' of x .* row 1 is (None|nan)"),
        ({"x": pandas.DataFrame({"n": pandas.array([1, None], dtype="Int64")})}, "has missing values"),
    ],
)
def test_wrong_arguments_are_named(arguments: Any, text: str) -> None:
    with pytest.raises((InvalidArgument, InvalidType), match=text):
        pandas_input_fn(**{"shuffle": False, **arguments})
