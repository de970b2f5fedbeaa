"""Two trainings: a net that reads the digits 0 to 4, and one that learns 5 to 9 from its weights.

    python launch.py run cluster_configs/local.yaml --experiment examples.fine_tune_digits:pretrain \\
        --model-dir models/digits-0-to-4
    python launch.py run cluster_configs/local_fine_tune.yaml

The second command loads the convolutions and the hidden layer of the first
model; the last layer, which tells digits apart, begins anew. docs/fine_tuning.md
explains it line by line.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from orchestrator import Experiment
from orchestrator.data.pipeline import evaluation_batches, training_batches
from orchestrator.data.sharding import replica_batch_size, training_shard
from orchestrator.estimator import Estimator, EstimatorSpec, EvalSpec, ModeKeys, RunConfig, TrainSpec
from orchestrator.experiments.digits import digits, prepare_data

v1 = tf.compat.v1
__all__ = ["finetune", "prepare_data", "pretrain"]

CLASSES = 5
BATCH = 32


def pretrain(
    config: RunConfig, max_steps: int = 400, learning_rate: float = 0.003, examples: int = 0
) -> Experiment:
    """Learns the digits 0 to 4 from all their training images (`examples` above 0: from so many)."""
    return _experiment(config, 0, max_steps, learning_rate, examples)


def finetune(
    config: RunConfig, max_steps: int = 60, learning_rate: float = 0.003, examples: int = 100
) -> Experiment:
    """Learns the digits 5 to 9 from 100 images; the cluster file's `warm_start` brings the other weights."""
    return _experiment(config, CLASSES, max_steps, learning_rate, examples)


def _experiment(
    config: RunConfig, first: int, max_steps: int, learning_rate: float, examples: int
) -> Experiment:
    data = digits(None if config.task_environment is None else config.task_environment.data_dir)

    def only_ours(split: tf.data.Dataset) -> tf.data.Dataset:
        return split.filter(lambda image, label: (label >= first) & (label < first + CLASSES))

    def prepared(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.cast(images, tf.float32) / 255.0, labels - first

    def training_input(input_context: tf.distribute.InputContext | None = None) -> tf.data.Dataset:
        rows = only_ours(data.read("train", training_shard(config, input_context)))
        rows = rows.take(examples) if examples > 0 else rows
        return training_batches(rows, replica_batch_size(BATCH, input_context), seed=1, transform=prepared)

    def evaluation_input() -> tf.data.Dataset:
        return evaluation_batches(only_ours(data.read("test")), 128, transform=prepared)

    estimator = Estimator(model_fn, config=config.replace(tf_random_seed=1), params={"rate": learning_rate})
    return Experiment(
        estimator,
        TrainSpec(training_input, max_steps=max_steps),
        EvalSpec(evaluation_input, steps=None, start_delay_secs=0, throttle_secs=1),
    )


def model_fn(
    features: tf.Tensor, labels: tf.Tensor | None, mode: str, params: dict[str, Any]
) -> EstimatorSpec:
    """A body that sees strokes, and a head that names digits. `features`: float32 [batch, 8, 8, 1]."""
    with v1.variable_scope("body"):
        net = _layer(features, "convolution_1", (3, 3, 1, 16), _convolution)
        net = _layer(net, "convolution_2", (3, 3, 16, 32), _convolution)
        net = tf.nn.max_pool2d(net, ksize=2, strides=2, padding="SAME")
        net = _layer(tf.reshape(net, (-1, 4 * 4 * 32)), "hidden", (4 * 4 * 32, 64), tf.matmul)
    logits = _layer(net, "head", (64, CLASSES), tf.matmul, tf.identity)
    digit = tf.argmax(logits, axis=-1)
    if mode == ModeKeys.PREDICT:
        return EstimatorSpec(mode, predictions={"class": digit, "probabilities": tf.nn.softmax(logits)})
    loss = v1.losses.sparse_softmax_cross_entropy(labels, logits)
    if mode == ModeKeys.EVAL:
        return EstimatorSpec(
            mode, loss=loss, eval_metric_ops={"accuracy": v1.metrics.accuracy(labels, digit)}
        )
    optimizer = v1.train.AdamOptimizer(params["rate"])
    return EstimatorSpec(mode, loss=loss, train_op=optimizer.minimize(loss, v1.train.get_global_step()))


def _layer(
    net: tf.Tensor,
    name: str,
    shape: tuple[int, ...],
    operation: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    activation: Callable[[tf.Tensor], tf.Tensor] = tf.nn.relu,
) -> tf.Tensor:
    with v1.variable_scope(name):
        kernel = v1.get_variable("kernel", shape, initializer=v1.glorot_uniform_initializer())
        bias = v1.get_variable("bias", shape[-1:], initializer=v1.zeros_initializer())
        return activation(operation(net, kernel) + bias)


def _convolution(images: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    return tf.nn.conv2d(images, kernel, strides=1, padding="SAME")
