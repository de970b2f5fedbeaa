"""Estimators that start from other models: every kind of source, once only, frozen, checked."""

from __future__ import annotations

import gzip
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from orchestrator.errors import WarmStartError
from orchestrator.estimator import Estimator, EstimatorSpec, ModeKeys, WarmStartSettings, inputs
from orchestrator.warm_start import Verification, WarmStart, minimize_by_scope, plan_for_graph
from tests.warm_start import real_checkpoints as real
from tests.warm_start.test_checkpoint_reader import KERNEL, write_by_name

v1 = tf.compat.v1
BIAS = np.array([1.0, 2.0, 3.0], np.float32)
INPUT = np.eye(4, dtype=np.float32)


def model_fn(features: Any, labels: Any, mode: str, params: dict[str, Any]) -> EstimatorSpec:
    """`first` [4, 3] with a bias, and a head [3, 2]."""
    with v1.variable_scope("first"):
        kernel = v1.get_variable("kernel", [4, 3], initializer=v1.zeros_initializer())
        hidden = features @ kernel + v1.get_variable("bias", [3], initializer=v1.zeros_initializer())
    head = v1.get_variable("head/kernel", [3, 2], initializer=v1.ones_initializer())
    predictions = {"hidden": hidden, "outputs": hidden @ head}
    if mode == ModeKeys.PREDICT:
        return EstimatorSpec(mode, predictions=predictions)
    loss = tf.reduce_mean(tf.square(predictions["outputs"] - 1.0))
    if mode == ModeKeys.EVAL:
        return EstimatorSpec(mode, loss=loss)
    rates = params.get("rates", {".*": 0.01})
    optimizers = {scope: v1.train.MomentumOptimizer(rate, 0.5) for scope, rate in rates.items()}
    return EstimatorSpec(
        mode, loss=loss, train_op=minimize_by_scope(loss, optimizers, v1.train.get_global_step())
    )


def training_input() -> tf.data.Dataset:
    return tf.data.Dataset.from_tensors((INPUT, np.zeros([4, 1], np.float32))).repeat()


def hidden_of(estimator: Estimator) -> np.ndarray:
    input_fn = inputs.numpy_input_fn(INPUT, shuffle=False)
    return np.stack([row["hidden"] for row in estimator.predict(input_fn)])


@pytest.fixture
def donor(tmp_path: Path) -> str:
    (tmp_path / "donor").mkdir()
    return write_by_name(tmp_path / "donor" / "model.ckpt", {"first/kernel": KERNEL, "first/bias": BIAS})


def keras_donor(path: Path) -> None:
    import keras

    model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(3, name="first")])
    model.layers[0].set_weights([KERNEL, BIAS])
    model.save_weights(path) if path.name.endswith(".weights.h5") else model.save(path)


def object_donor(path: Path) -> None:
    net = tf.Module()
    net.kernel = tf.Variable(KERNEL, name="first/kernel")
    net.bias = tf.Variable(BIAS, name="first/bias")
    if path.name == "saved":
        tf.saved_model.save(net, str(path))
    else:
        tf.train.Checkpoint(net=net).write(str(path))


@pytest.mark.parametrize("name", ["a.keras", "a.weights.h5", "a.h5", "saved", "objects"])
def test_every_kind_of_source_gives_the_donors_outputs(tmp_path: Path, name: str) -> None:
    (keras_donor if name.startswith("a.") else object_donor)(tmp_path / name)
    taker = Estimator(model_fn, tmp_path / "taker", params={}, warm_start_from=str(tmp_path / name))
    np.testing.assert_allclose(hidden_of(taker), KERNEL + BIAS, rtol=1e-6)


def test_settings_a_warm_start_and_a_plan_mean_the_same(tmp_path: Path, donor: str) -> None:
    with tf.Graph().as_default() as graph:
        model_fn(tf.zeros([1, 4]), None, ModeKeys.PREDICT, {})
        plan = plan_for_graph(graph, WarmStart.of(donor))
    for number, source in enumerate((donor, WarmStart.of(donor), plan, WarmStartSettings(donor, ["first"]))):
        taker = Estimator(model_fn, tmp_path / str(number), params={}, warm_start_from=source)
        np.testing.assert_array_equal(hidden_of(taker), KERNEL + BIAS)


def test_settings_require_what_they_name(tmp_path: Path, donor: str) -> None:
    taker = Estimator(model_fn, tmp_path / "a", params={}, warm_start_from=WarmStartSettings(donor))
    with pytest.raises(WarmStartError, match="'head/kernel', for head/kernel: is not in the checkpoint"):
        taker.train(training_input, steps=1)


def test_it_is_done_once_and_then_the_models_own_checkpoint_counts(
    tmp_path: Path, donor: str, caplog: pytest.LogCaptureFixture
) -> None:
    def taker() -> Estimator:
        return Estimator(model_fn, tmp_path / "taker", params={}, warm_start_from=donor)

    with caplog.at_level(logging.INFO), caplog.at_level(logging.INFO, "tensorflow"):
        taker().train(training_input, steps=3)
        trained = taker().get_variable_value("first/kernel")
        assert not np.array_equal(trained, KERNEL)
        assert "2 variables loaded" in caplog.text
        caplog.clear()
        again = taker()
        again.train(training_input, steps=1)
        again.train(training_input, steps=1)
    assert "variables loaded" not in caplog.text
    assert "the warm start was done before and is not done again" in caplog.text
    assert int(again.get_variable_value("global_step")) == 5


def test_the_donor_may_be_gone_afterwards(tmp_path: Path, donor: str) -> None:
    taker = Estimator(model_fn, tmp_path / "taker", params={}, warm_start_from=donor)
    taker.train(training_input, steps=1)
    for path in (tmp_path / "donor").iterdir():
        path.unlink()
    taker.train(training_input, steps=1)


def test_frozen_variables_stay_and_take_no_slots(tmp_path: Path, donor: str) -> None:
    source = WarmStart.of(donor, trainable="head")
    taker = Estimator(model_fn, tmp_path / "taker", params={}, warm_start_from=source)
    taker.train(training_input, steps=3)
    np.testing.assert_array_equal(taker.get_variable_value("first/kernel"), KERNEL)
    assert not np.array_equal(taker.get_variable_value("head/kernel"), np.ones([3, 2]))
    assert taker.get_variable_names() == [
        "first/bias",
        "first/kernel",
        "global_step",
        "head/kernel",
        "head/kernel/Momentum",
    ]
    wrong = Estimator(
        model_fn, tmp_path / "b", params={}, warm_start_from=WarmStart.of(donor, trainable=["head", "fisrt"])
    )
    with pytest.raises(WarmStartError, match=r"'fisrt' chooses no trainable variable. Did you mean 'first'"):
        wrong.train(training_input, steps=1)


def test_a_rate_for_each_scope(tmp_path: Path, donor: str) -> None:
    params = {"rates": {"head": 0.01, ".*": 0.0}}
    taker = Estimator(model_fn, tmp_path / "taker", params=params, warm_start_from=donor)
    taker.train(training_input, steps=2)
    np.testing.assert_array_equal(taker.get_variable_value("first/kernel"), KERNEL)
    assert not np.array_equal(taker.get_variable_value("head/kernel"), np.ones([3, 2]))
    assert int(taker.get_variable_value("global_step")) == 2
    missing = Estimator(model_fn, tmp_path / "b", params={"rates": {"head": 0.1}}, warm_start_from=donor)
    with pytest.raises(WarmStartError, match="no pattern chooses 'first/kernel'"):
        missing.train(training_input, steps=1)


def test_outputs_are_verified_before_the_first_step(tmp_path: Path, donor: str) -> None:
    def taker(expected: dict[str, Any]) -> Estimator:
        source = WarmStart.of(donor, verify=Verification(INPUT, expected))
        return Estimator(model_fn, tmp_path / "taker", params={}, warm_start_from=source)

    with pytest.raises(WarmStartError, match="'hidden' differs from the donor's output by up to 1"):
        taker({"hidden": KERNEL + BIAS + 1}).train(training_input, steps=1)
    with pytest.raises(WarmStartError, match=r"predicts no 'hiden'. Did you mean 'hidden'"):
        taker({"hiden": KERNEL}).train(training_input, steps=1)
    assert not list((tmp_path / "taker").glob("*.index"))
    taker({"hidden": KERNEL + BIAS}).train(training_input, steps=1)
    assert taker({}).latest_checkpoint() is not None


def test_the_warm_started_weights_can_be_exported(tmp_path: Path, donor: str) -> None:
    from orchestrator.estimator import export

    taker = Estimator(model_fn, tmp_path / "taker", params={}, warm_start_from=donor)
    receiver = export.build_raw_serving_input_receiver_fn({"x": tf.TensorSpec([None, 4])})

    def only_array() -> Any:
        found = receiver()
        return export.TensorServingInputReceiver(found.features["x"], found.receiver_tensors)

    path = taker.export_saved_model(str(tmp_path / "export"), only_array)
    loaded = tf.saved_model.load(path.decode()).signatures["serving_default"]
    np.testing.assert_allclose(loaded(x=tf.constant(INPUT))["hidden"], KERNEL + BIAS, rtol=1e-6)


def softmax_model_fn(features: Any, labels: Any, mode: str) -> EstimatorSpec:
    weights = v1.get_variable("regression/W", [784, 10])
    logits = features @ weights + v1.get_variable("regression/b", [10])
    loss = v1.losses.sparse_softmax_cross_entropy(labels, logits)
    accuracy = v1.metrics.accuracy(labels, tf.argmax(logits, -1))
    return EstimatorSpec(mode, loss=loss, eval_metric_ops={"accuracy": accuracy})


@real.needs_data
def test_a_genuine_old_checkpoint_reads_mnist_before_the_first_step(tmp_path: Path) -> None:
    images = gzip.decompress((real.DATA / "mnist" / "t10k-images-idx3-ubyte.gz").read_bytes())[16:]
    labels = gzip.decompress((real.DATA / "mnist" / "t10k-labels-idx1-ubyte.gz").read_bytes())[8:]
    pixels = np.frombuffer(images, np.uint8).reshape(-1, 784).astype(np.float32) / 255
    input_fn = inputs.numpy_input_fn(
        pixels, np.frombuffer(labels, np.uint8).astype(np.int64), batch_size=1000, shuffle=False
    )
    estimator = Estimator(softmax_model_fn, tmp_path, warm_start_from=str(real.SOFTMAX_MNIST))
    assert estimator.evaluate(input_fn)["accuracy"] == pytest.approx(0.9149, abs=1e-6)
