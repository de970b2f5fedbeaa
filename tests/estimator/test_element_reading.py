"""A step that takes its batch itself gets what `get_next` gives, under the same name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from orchestrator.estimator.element_reading import reader
from orchestrator.estimator.estimator import Estimator
from orchestrator.estimator.run_config import RunConfig
from tests.estimator import linear_model

v1 = tf.compat.v1
pytestmark = pytest.mark.xdist_group("estimator")


class Pair(NamedTuple):
    left: Any
    right: Any


def rows(element: Any) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices(element).batch(3)


def sparse() -> tf.data.Dataset:
    return tf.data.Dataset.from_tensors(tf.sparse.from_dense([[0, 1], [2, 0]])).repeat(2)


PLAIN: dict[str, Callable[[], tf.data.Dataset]] = {
    "tensor": lambda: rows(np.arange(5)),
    "pair": lambda: rows((np.arange(5), np.ones((5, 2), np.float32))),
    "dict": lambda: rows(({"b": np.arange(5), "a": np.arange(5) * 2}, np.arange(5))),
    "named": lambda: rows(Pair(np.arange(5), {"x": np.array([b"1", b"2", b"3", b"4", b"5"])})),
}
OTHER: dict[str, Callable[[], tf.data.Dataset]] = {
    "sparse": sparse,
    "ragged": lambda: tf.data.Dataset.from_tensors(tf.ragged.constant([[1], [2, 3]])).repeat(2),
    "nested": lambda: tf.data.Dataset.range(4).window(2),
}


def read_twice(make: Callable[[], tf.data.Dataset], in_place: bool) -> tuple[Any, list[Any], list[str]]:
    """The structure, the values of both elements and the operation of the first one."""
    with tf.Graph().as_default() as graph, v1.Session() as session:
        dataset = make()
        iterator = v1.data.make_initializable_iterator(dataset)
        element = reader(iterator, dataset, in_place)()
        session.run(iterator.initializer)
        leaves = tf.nest.flatten(element, expand_composites=True)
        values = [session.run(leaves) for _ in range(2)] if "Variant" not in str(element) else []
        operation = graph.get_operation_by_name("IteratorGetNext")
        about = [operation.type, str(operation.colocation_groups()), str([leaf.shape for leaf in leaves])]
        return tf.nest.map_structure(lambda part: part.dtype, element), values, about


@pytest.mark.parametrize("kind", PLAIN)
def test_an_element_of_tensors_is_the_same_in_place(kind: str) -> None:
    expected, found = (read_twice(PLAIN[kind], in_place) for in_place in (False, True))
    assert found[0] == expected[0]
    tf.nest.map_structure(np.testing.assert_array_equal, found[1], expected[1])
    assert [expected[2][0], found[2][0]] == ["IteratorGetNext", "IteratorGetNextSync"]
    assert found[2][1:] == expected[2][1:]


@pytest.mark.parametrize("kind", OTHER)
def test_other_elements_are_read_by_get_next(kind: str) -> None:
    with tf.Graph().as_default() as graph:
        dataset = OTHER[kind]()
        iterator = v1.data.make_initializable_iterator(dataset)
        reader(iterator, dataset, in_place=True)()
        assert graph.get_operation_by_name("IteratorGetNext").type == "IteratorGetNext"


def test_training_gives_the_same_weights_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {}
    for in_place in (False, True):
        # graph.py has the name of its own
        monkeypatch.setattr("orchestrator.estimator.graph.is_on_own_cpus", lambda _, place=in_place: place)
        config = RunConfig(tf_random_seed=3)
        estimator = Estimator(linear_model.model_fn, tmp_path / str(in_place), config, params={})
        estimator.train(linear_model.training_input, steps=20)
        found[in_place] = {
            name: estimator.get_variable_value(name) for name in estimator.get_variable_names()
        }
        found[in_place] |= estimator.evaluate(linear_model.evaluation_input)
    assert found[True].keys() == found[False].keys()
    for name, value in found[True].items():
        np.testing.assert_array_equal(value, found[False][name])
