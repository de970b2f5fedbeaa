"""The workload every subject runs: an MLP 64-64-64-10, batch 64, Adam, data in memory.

Written for TensorFlow 2.15 and today's alike, so that the genuine Estimator
and ours run the same lines.
"""

from __future__ import annotations

import itertools

import numpy as np
import tensorflow as tf

tf1 = tf.compat.v1

BATCH = 64
EXAMPLES = 4096
EVALUATION_BATCHES = 16
WIDTHS = (64, 64, 64, 10)


def examples() -> tuple[np.ndarray, np.ndarray]:
    """Features (4096, 64) float32 and labels (4096,) int32, a learnable function of them."""
    random = np.random.default_rng(7)
    features = random.normal(size=(EXAMPLES, WIDTHS[0])).astype(np.float32)
    labels = np.argmax(features @ random.normal(size=(WIDTHS[0], WIDTHS[-1])), axis=1).astype(np.int32)
    return features, labels


def train_input_fn() -> tf.data.Dataset:
    return (
        tf.data.Dataset.from_tensor_slices(examples())
        .shuffle(EXAMPLES, seed=1)
        .repeat()
        .batch(BATCH)
        .prefetch(2)
    )


def evaluation_input_fn() -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices(examples()).batch(BATCH).take(EVALUATION_BATCHES)


def logits_of(features: tf.Tensor) -> tf.Tensor:
    net = features
    for layer, (rows, columns) in enumerate(itertools.pairwise(WIDTHS)):
        with tf1.variable_scope(f"dense_{layer}", reuse=tf1.AUTO_REUSE):
            kernel = tf1.get_variable("kernel", [rows, columns])
            bias = tf1.get_variable("bias", [columns], initializer=tf1.zeros_initializer())
        net = net @ kernel + bias
        if layer < len(WIDTHS) - 2:
            net = tf.nn.relu(net)
    return net


def loss_of(features: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    return tf1.losses.sparse_softmax_cross_entropy(labels, logits_of(features))


def train_op_of(loss: tf.Tensor) -> tf.Operation:
    return tf1.train.AdamOptimizer(1e-3).minimize(loss, global_step=tf1.train.get_or_create_global_step())


def model_fn_for(estimator_module: object) -> object:
    """The model_fn for `tf.estimator` or `orchestrator.estimator`."""

    def model_fn(features: tf.Tensor, labels: tf.Tensor, mode: str) -> object:
        spec = estimator_module.EstimatorSpec
        logits = logits_of(features)
        loss = tf1.losses.sparse_softmax_cross_entropy(labels, logits)
        if mode == "eval":
            accuracy = tf1.metrics.accuracy(labels, tf.argmax(logits, axis=1))
            return spec(mode, loss=loss, eval_metric_ops={"accuracy": accuracy})
        return spec(mode, loss=loss, train_op=train_op_of(loss))

    return model_fn
