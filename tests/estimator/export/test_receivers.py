from __future__ import annotations

from typing import Any

import pytest
import tensorflow as tf

from orchestrator.errors import InvalidArgument
from orchestrator.estimator.export.receiver_builders import (
    build_parsing_serving_input_receiver_fn,
    build_raw_serving_input_receiver_fn,
    build_raw_supervised_input_receiver_fn,
    build_supervised_input_receiver_fn_from_input_fn,
)
from orchestrator.estimator.export.receivers import (
    ServingInputReceiver,
    SupervisedInputReceiver,
    TensorServingInputReceiver,
)

pytestmark = pytest.mark.xdist_group("estimator_api")
v1 = tf.compat.v1


@pytest.fixture(autouse=True)
def graph() -> Any:
    with tf.Graph().as_default() as entered:
        yield entered


def tensor() -> Any:
    return tf.constant([[1.0, 2.0]])


def test_single_tensors_get_names() -> None:
    receiver = ServingInputReceiver(tensor(), tensor())
    assert list(receiver.features) == ["feature"]
    assert list(receiver.receiver_tensors) == ["input"]
    assert receiver.receiver_tensors_alternatives is None


def test_a_tensor_receiver_hands_the_tensor_on_as_it_is() -> None:
    feature = tensor()
    receiver = TensorServingInputReceiver(feature, {"x": feature}, {"other": feature})
    assert receiver.features is feature
    assert receiver.receiver_tensors_alternatives == {"other": {"input": feature}}


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: ServingInputReceiver(None, tensor()), "features must be defined"),
        (lambda: ServingInputReceiver({4.5: tensor()}, tensor()), "keys must be strings or ints: 4.5"),
        (lambda: ServingInputReceiver({"a": 1}, tensor()), "feature a must be a Tensor, .* Given: 1"),
        (lambda: ServingInputReceiver({}, {3: tensor()}), "receiver_tensor keys must be strings: 3"),
        (lambda: ServingInputReceiver({}, tensor(), [1]), "receiver_tensors_alternatives must be a dict"),
        (lambda: TensorServingInputReceiver({"a": tensor()}, tensor()), "feature must be a Tensor"),
        (lambda: SupervisedInputReceiver(tensor(), None, tensor()), "labels must be defined"),
    ],
)
def test_wrong_receivers(make: Any, text: str) -> None:
    with pytest.raises(InvalidArgument, match=text):
        make()


def test_parsing_receivers_are_fed_examples() -> None:
    receiver = build_parsing_serving_input_receiver_fn({"a": tf.io.FixedLenFeature([2], tf.float32)}, 3)()
    assert receiver.receiver_tensors["examples"].shape == [3]
    assert receiver.features["a"].shape == [3, 2]


def test_raw_receivers_have_types_shapes_and_names_of_what_they_stand_for() -> None:
    dense = tf.constant([[1, 2]], name="dense")
    receiver = build_raw_serving_input_receiver_fn(
        {
            "dense": dense,
            "spec": tf.TensorSpec([5, 7], tf.string, name="spec"),
            "sparse": tf.sparse.from_dense([[0, 1]]),
            "ragged": tf.ragged.constant([[1], [2, 3]]),
            "unknown": v1.placeholder(tf.float32),
        }
    )
    with tf.Graph().as_default():
        features = receiver().features
        assert features["dense"].op.name == "dense"
        assert features["dense"].shape.as_list() == [None, 2]
        assert features["dense"].dtype == tf.int32
        assert features["spec"].shape.as_list() == [None, 7]
        assert isinstance(features["sparse"], tf.SparseTensor)
        assert isinstance(features["ragged"], tf.RaggedTensor)
        assert features["unknown"].shape.rank is None


def test_raw_supervised_receivers_feed_features_and_labels() -> None:
    receiver = build_raw_supervised_input_receiver_fn({"a": tensor()}, tensor(), default_batch_size=4)()
    assert set(receiver.receiver_tensors) == {"a", "label"}
    assert receiver.labels.shape == [4, 2]
    alone = build_raw_supervised_input_receiver_fn(tensor(), {"y": tensor()})()
    assert set(alone.receiver_tensors) == {"input", "y"}
    with pytest.raises(InvalidArgument, match=r"distinct keys\. Found overlapping keys: \['a'\]"):
        build_raw_supervised_input_receiver_fn({"a": tensor()}, {"a": tensor()})


def test_receivers_can_be_taken_from_an_input_fn() -> None:
    def input_fn(rows: int) -> Any:
        return tf.data.Dataset.from_tensors(({"x": tf.zeros([rows, 3])}, tf.zeros([rows])))

    receiver = build_supervised_input_receiver_fn_from_input_fn(input_fn, rows=2)()
    assert receiver.features["x"].shape.as_list() == [None, 3]
    assert set(receiver.receiver_tensors) == {"x", "label"}
