"""The embedded default experiment: a small convolutional net that reads handwritten digits.

    python launch.py run cluster_configs/local.yaml --set params.max_steps=500

It is also the shortest complete example of an experiment: a model function, an
input function, and a function that puts them together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from orchestrator.data.handwritten_digits import HandwrittenDigits
from orchestrator.data.pipeline import evaluation_batches, training_batches
from orchestrator.data.sharding import replica_batch_size, training_shard
from orchestrator.data.tfds_input import TfdsInput
from orchestrator.errors import ConfigError
from orchestrator.estimator import (
    Estimator,
    EstimatorSpec,
    EvalSpec,
    FinalExporter,
    ModeKeys,
    RunConfig,
    TrainSpec,
    export,
)
from orchestrator.experiments.experiment import Experiment

v1 = tf.compat.v1

CLASSES = 10
EVALUATION_BATCH = 128
EVALUATIONS = 5
"""How often the model is saved, and so evaluated, where the cluster file does not say."""


def experiment(
    config: RunConfig,
    max_steps: int = 2000,
    batch_size: int = 64,
    learning_rate: float = 0.003,
    seed: int = 1,
) -> Experiment:
    """A digit classifier that reaches about 98 % of the test images.

    Args:
      config: where this task runs.
      max_steps: global step at which training ends; the learning rate falls to zero until then.
      batch_size: examples a step. Synchronous replicas share it; each parameter-server task has its own.
      learning_rate: of Adam, at the start.
      seed: of the initial weights and of the order of the training examples.

    Raises ConfigError for a number out of range.
    """
    for name, value in (
        ("max_steps", max_steps),
        ("batch_size", batch_size),
        ("learning_rate", learning_rate),
    ):
        if value <= 0:
            raise ConfigError(f"params.{name} is {value}; it must be above 0.")
    data = digits(None if config.task_environment is None else config.task_environment.data_dir)

    def training_input(input_context: tf.distribute.InputContext | None = None) -> tf.data.Dataset:
        return training_batches(
            data.read("train", training_shard(config, input_context)),
            replica_batch_size(batch_size, input_context),
            seed=seed,
            transform=_scaled,
        )

    def evaluation_input() -> tf.data.Dataset:
        return evaluation_batches(data.read("test"), EVALUATION_BATCH, transform=_scaled)

    estimator = Estimator(
        model_fn,
        config=_paced(config, max_steps).replace(tf_random_seed=seed),
        params={"learning_rate": learning_rate, "max_steps": max_steps},
    )
    return Experiment(
        estimator,
        TrainSpec(training_input, max_steps=max_steps),
        EvalSpec(
            evaluation_input,
            steps=None,
            exporters=FinalExporter("serving", _serving_input),
            start_delay_secs=0,
            throttle_secs=0,
        ),
    )


def _paced(config: RunConfig, max_steps: int) -> RunConfig:
    """Periods that suit a training of seconds, where the cluster file leaves RunConfig's defaults."""
    part = max(1, max_steps // EVALUATIONS)
    if config.save_checkpoints_secs == 600:
        config = config.replace(save_checkpoints_steps=part)
    if config.log_step_count_steps == 100:
        config = config.replace(log_step_count_steps=part)
    return config


def prepare_data(data_dir: str | None) -> None:
    """Writes the digits as TFRecord files, once; needs scikit-learn (the extra `examples`)."""
    digits(data_dir).prepare()


def digits(data_dir: str | None) -> TfdsInput:
    """The data set: pairs of an image, uint8 of shape (8, 8, 1), and a label, int64."""
    return TfdsInput(HandwrittenDigits, data_dir)


def model_fn(
    features: tf.Tensor, labels: tf.Tensor | None, mode: str, params: dict[str, Any]
) -> EstimatorSpec:
    """Two convolutions, a hidden layer of 64, ten classes. `features`: float32 of shape (batch, 8, 8, 1)."""
    logits = _logits(features)
    predictions = {"class": tf.argmax(logits, axis=-1), "probabilities": tf.nn.softmax(logits)}
    if mode == ModeKeys.PREDICT:
        return EstimatorSpec(mode, predictions=predictions)
    loss = v1.losses.sparse_softmax_cross_entropy(labels, logits)
    if mode == ModeKeys.EVAL:
        accuracy = v1.metrics.accuracy(labels, predictions["class"])
        return EstimatorSpec(mode, loss=loss, eval_metric_ops={"accuracy": accuracy})
    step = v1.train.get_global_step()
    rate = v1.train.cosine_decay(params["learning_rate"], step, params["max_steps"])
    v1.summary.scalar("learning_rate", rate)
    train_op = v1.train.AdamOptimizer(rate).minimize(loss, global_step=step)
    return EstimatorSpec(mode, loss=loss, train_op=train_op)


def _logits(images: tf.Tensor) -> tf.Tensor:
    net = _layer(images, "convolution_1", (3, 3, 1, 16), _convolution, tf.nn.relu)
    net = _layer(net, "convolution_2", (3, 3, 16, 32), _convolution, tf.nn.relu)
    net = tf.nn.max_pool2d(net, ksize=2, strides=2, padding="SAME")
    net = tf.reshape(net, (-1, 4 * 4 * 32))
    net = _layer(net, "hidden", (4 * 4 * 32, 64), tf.matmul, tf.nn.relu)
    return _layer(net, "logits", (64, CLASSES), tf.matmul, tf.identity)


def _layer(
    net: tf.Tensor,
    name: str,
    shape: tuple[int, ...],
    operation: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    activation: Callable[[tf.Tensor], tf.Tensor],
) -> tf.Tensor:
    with v1.variable_scope(name):
        kernel = v1.get_variable("kernel", shape, initializer=v1.glorot_uniform_initializer())
        bias = v1.get_variable("bias", shape[-1:], initializer=v1.zeros_initializer())
        return activation(operation(net, kernel) + bias)


def _convolution(images: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    return tf.nn.conv2d(images, kernel, strides=1, padding="SAME")


def _serving_input() -> export.TensorServingInputReceiver:
    """What the exported model is fed: bytes of images, uint8 of shape (batch, 8, 8, 1)."""
    images = v1.placeholder(tf.uint8, (None, 8, 8, 1), name="images")
    return export.TensorServingInputReceiver(tf.cast(images, tf.float32) / 255.0, {"images": images})


def _scaled(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    return tf.cast(images, tf.float32) / 255.0, labels
