"""ModelStats against counts made by hand, and MobileNetV1 0.25."""

from __future__ import annotations

import csv
import logging
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from examples import mobilenet_v1
from orchestrator.estimator import Estimator, EstimatorSpec
from orchestrator.hooks.model_stats import FILE_NAME, LayerStats, ModelStats, count

v1 = tf.compat.v1


def small_net(features: Any) -> Any:
    """[batch, 8, 8, 3] -> convolution 3x3 to 4, ReLU, pooling 2x2, a dense layer to 5."""
    with v1.variable_scope("convolution"):
        kernel = v1.get_variable("kernel", [3, 3, 3, 4])
        bias = v1.get_variable("bias", [4])
        net = tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(features, kernel, 1, "SAME"), bias))
    with v1.name_scope("pooling"):
        net = tf.nn.max_pool2d(net, 2, 2, "VALID")
    with v1.variable_scope("dense"):
        kernel = v1.get_variable("kernel", [64, 5])
        return tf.matmul(tf.reshape(net, [-1, 64]), kernel) + v1.get_variable("bias", [5])


BY_HAND = [
    LayerStats("convolution", 3 * 3 * 3 * 4 + 4, 8 * 8 * 3 * 3 * 3 * 4, 8 * 8 * 4, 8 * 8 * 4),
    LayerStats("pooling", 0, 0, 0, 4 * 4 * 4 * 3),
    LayerStats("dense", 64 * 5 + 5, 64 * 5, 5, 0),
    LayerStats("total", 112 + 325, 6912 + 320, 256 + 5, 256 + 192),
]


def model_fn(features: Any, labels: Any, mode: str) -> EstimatorSpec:
    loss = v1.losses.sparse_softmax_cross_entropy(labels, small_net(features))
    optimizer = v1.train.AdamOptimizer()
    return EstimatorSpec(mode, loss=loss, train_op=optimizer.minimize(loss, v1.train.get_global_step()))


@pytest.mark.parametrize("batch", [1, 7])
def test_a_net_is_counted_as_by_hand_at_any_batch_size_without_gradients(
    tmp_path: Path, batch: int, caplog: pytest.LogCaptureFixture
) -> None:
    def input_fn() -> tf.data.Dataset:
        return tf.data.Dataset.from_tensors(
            (tf.zeros([batch, 8, 8, 3]), tf.zeros([batch], tf.int64))
        ).repeat()

    hook = ModelStats(tmp_path)
    with caplog.at_level(logging.INFO, "orchestrator"):
        Estimator(model_fn, tmp_path).train(input_fn, hooks=[hook], steps=1)
    assert hook.layers == BY_HAND
    rows = list(csv.DictReader((tmp_path / FILE_NAME).open()))
    assert rows[-1] == {
        "layer": "total",
        "parameters": "437",
        "multiply_accumulates": "7232",
        "additions": "261",
        "comparisons": "448",
    }
    assert "total" in caplog.text
    assert "7,232" in caplog.text


def test_an_unknown_batch_size_changes_nothing() -> None:
    with tf.Graph().as_default() as graph:
        outputs = small_net(v1.placeholder(tf.float32, [None, 8, 8, 3]))
        assert count(graph, [outputs]) == BY_HAND


def test_a_shared_kernel_counts_once_and_its_products_each_time() -> None:
    with tf.Graph().as_default() as graph:
        kernel = v1.get_variable("shared/kernel", [4, 4])
        net = v1.placeholder(tf.float32, [None, 4])
        total = count(graph, [net @ kernel @ kernel])[-1]
    assert total == LayerStats("total", 16, 32, 0, 0)


def test_mirrored_replicas_count_once() -> None:
    with tf.Graph().as_default() as graph:
        strategy = v1.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"])
        with strategy.scope():
            outputs = strategy.extended.call_for_each_replica(lambda: small_net(tf.zeros([2, 8, 8, 3])))
        assert count(graph, strategy.experimental_local_results(outputs)) == BY_HAND


@pytest.mark.parametrize("training", [True, False])
def test_mobilenet(training: bool) -> None:
    with tf.Graph().as_default() as graph:
        v1.train.create_global_step()
        features = v1.placeholder(tf.float32, [None, 224, 224, 3])
        mode = "train" if training else "eval"
        labels = v1.placeholder(tf.int64, [None])
        mobilenet_v1.model_fn(features, labels, mode, {"width": 0.25})
        total = count(graph)[-1]
    assert total.parameters == 475_544
    assert total.multiply_accumulates == pytest.approx(41.0e6, rel=0.01)
