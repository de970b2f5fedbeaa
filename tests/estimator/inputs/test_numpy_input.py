from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from orchestrator.errors import InvalidArgument, InvalidType
from orchestrator.estimator.inputs.numpy_input import numpy_input_fn

pytestmark = pytest.mark.xdist_group("estimator_api")
v1 = tf.compat.v1
X = {"b": np.arange(5), "a": np.arange(10).reshape(5, 2) / 4}
Y = np.array(["zero", "one", "two", "three", "fünf"])


def batches(input_fn: Any, seed: int | None = None) -> list[Any]:
    with tf.Graph().as_default(), v1.Session() as session:
        v1.set_random_seed(seed)
        tensors, seen = input_fn(), []
        try:
            while True:
                seen.append(session.run(tensors))
        except tf.errors.OutOfRangeError:
            return seen


def test_batches_run_across_epochs_and_the_last_one_is_smaller() -> None:
    seen = batches(numpy_input_fn(np.arange(5), batch_size=3, num_epochs=2, shuffle=False))
    assert [batch.tolist() for batch in seen] == [[0, 1, 2], [3, 4, 0], [1, 2, 3], [4]]


def test_dicts_stay_dicts_and_text_is_utf_8() -> None:
    ((features, labels),) = batches(numpy_input_fn(X, Y, shuffle=False))
    assert list(features) == ["a", "b"]
    assert (features["a"] == X["a"]).all()
    assert features["a"].dtype == np.float64
    assert labels.tolist() == [word.encode() for word in Y]


def test_labels_may_be_a_dict_and_share_a_tensor_s_rows() -> None:
    ((features, labels),) = batches(numpy_input_fn(X["a"], {"y": X["b"], "z": X["b"] * 2}, shuffle=False))
    assert (features == X["a"]).all()
    assert (labels["z"] == 2 * labels["y"]).all()


def test_shapes_are_known_as_far_as_they_can_be() -> None:
    with tf.Graph().as_default():
        assert numpy_input_fn(X, batch_size=3, shuffle=False)()["a"].shape.as_list() == [None, 2]
        endless = numpy_input_fn(X, batch_size=3, shuffle=True, num_epochs=None)
        assert endless()["a"].shape.as_list() == [3, 2]


def test_shuffled_epochs_hold_each_row_once_and_features_stay_with_their_labels() -> None:
    rows = np.arange(1000)
    seen = batches(numpy_input_fn(rows, rows * 2, batch_size=250, num_epochs=2, shuffle=True))
    features = np.concatenate([batch[0] for batch in seen])
    assert (np.concatenate([batch[1] for batch in seen]) == 2 * features).all()
    for epoch in (features[:1000], features[1000:]):
        assert not (epoch == rows).all()
        assert (np.sort(epoch) == rows).all()
    assert (features[:1000] != features[1000:]).any()


def test_the_order_follows_the_graph_s_seed() -> None:
    input_fn = numpy_input_fn(np.arange(100), batch_size=100, shuffle=True)
    first, again, other = (batches(input_fn, seed)[0].tolist() for seed in (1, 1, 2))
    assert first == again != other


def test_no_epoch_gives_no_batch() -> None:
    for shuffle in (True, False):
        assert batches(numpy_input_fn(np.arange(5), num_epochs=0, shuffle=shuffle)) == []


def test_arrays_are_not_written_into_the_graph() -> None:
    with tf.Graph().as_default() as graph:
        numpy_input_fn(np.zeros([1000, 1000]), shuffle=True)()
        assert len(graph.as_graph_def().SerializeToString()) < 100_000


def test_a_saved_position_goes_on_exactly(tmp_path: Any) -> None:
    dataset = numpy_input_fn(np.arange(500), batch_size=7, num_epochs=None, shuffle=True).dataset
    with tf.Graph().as_default(), v1.Session() as session:
        iterator = v1.data.make_initializable_iterator(dataset())
        following = iterator.get_next()
        saver = v1.train.Saver([tf.data.experimental.make_saveable_from_iterator(iterator)])
        session.run(iterator.initializer)
        for _ in range(100):
            session.run(following)
        path = saver.save(session, str(tmp_path / "position"), write_meta_graph=False)
        expected = [session.run(following).tolist() for _ in range(50)]
        saver.restore(session, path)
        assert [session.run(following).tolist() for _ in range(50)] == expected


def test_an_input_fn_can_be_looked_up() -> None:
    first, second = (numpy_input_fn(np.arange(4), shuffle=False) for _ in range(2))
    assert {first: 1, second: 2}[first] == 1


def test_called_eagerly_it_is_a_dataset() -> None:
    dataset = numpy_input_fn(np.arange(4), batch_size=2, shuffle=False)()
    assert [batch.tolist() for batch in dataset.as_numpy_iterator()] == [[0, 1], [2, 3]]


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"x": X}, ValueError, "shuffle must be provided and explicitly set as boolean; got None"),
        ({"x": X, "shuffle": 1}, ValueError, "got 1"),
        ({"x": X, "batch_size": 0}, ValueError, "batch_size must be a whole number from 1; got 0"),
        ({"x": X, "num_epochs": -1}, ValueError, "num_epochs .* got -1"),
        ({"x": [1, 2]}, TypeError, "x must be a dict or array; got list"),
        ({"x": {}}, ValueError, "x cannot be an empty dict"),
        ({"x": np.zeros([2, 0])}, ValueError, r"x cannot be an empty array; its shape is \(2, 0\)"),
        ({"x": {"a": [1]}}, TypeError, r"x\['a'\] must be a numpy array; got list"),
        ({"x": X, "y": {}}, ValueError, "y cannot be empty"),
        ({"x": X, "y": np.arange(4)}, ValueError, r"is mismatched\..*y': \(4,\)"),
        ({"x": X, "y": {"a": X["a"]}}, ValueError, r"1 duplicate keys are found in both x and y: \['a'\]"),
        ({"x": np.array([b"a", 1], object)}, TypeError, r"row 1 is 1 \(int\)"),
        ({"x": np.array(["2020-01-01"], "datetime64[D]")}, TypeError, "x has dtype datetime64"),
        ({"x": {"a": np.array(3)}}, ValueError, r"x\['a'\] is a single value"),
    ],
)
def test_wrong_arguments_are_named(arguments: Any, error: type, text: str) -> None:
    if "shuffle" not in arguments and "shuffle" not in text:
        arguments = {"shuffle": False, **arguments}
    with pytest.raises((InvalidArgument, InvalidType), match=text) as caught:
        numpy_input_fn(**arguments)
    assert isinstance(caught.value, error)
    assert str(caught.value).startswith("numpy_input_fn: ")
