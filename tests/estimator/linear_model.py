"""A linear regression small enough to train in a test, and inputs for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from orchestrator.estimator.specs import EstimatorSpec

v1 = tf.compat.v1
ROWS = 64
WEIGHTS = np.array([[1.0], [-2.0], [3.0], [0.5]], np.float32)


def examples(rows: int = ROWS, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features [rows, 4] and labels [rows, 1], both float32."""
    features = np.random.RandomState(seed).randn(rows, 4).astype(np.float32)
    return features, features @ WEIGHTS


def training_input(batch_size: int = 8) -> tf.data.Dataset:
    """Endless batches in a fixed order."""
    return tf.data.Dataset.from_tensor_slices(examples()).repeat().batch(batch_size)


def evaluation_input() -> tf.data.Dataset:
    """Five batches of eight and one of four."""
    return tf.data.Dataset.from_tensor_slices(examples(44, seed=1)).batch(8)


def model_fn(features: Any, labels: Any, mode: str, params: dict[str, Any]) -> EstimatorSpec:
    """Gradient descent on the mean squared error; `params['count']` adds a metric that counts rows."""
    kernel = v1.get_variable("kernel", [4, 1], initializer=v1.zeros_initializer())
    outputs = tf.matmul(features, kernel)
    if mode == "infer":
        return EstimatorSpec(mode, predictions={"outputs": outputs})
    loss = v1.losses.mean_squared_error(labels, outputs)
    optimizer = v1.train.GradientDescentOptimizer(params.get("learning_rate", 0.05))
    train_op = optimizer.minimize(loss, global_step=v1.train.get_global_step()) if mode == "train" else None
    metrics = {"mae": v1.metrics.mean_absolute_error(labels, outputs)}
    if mode == "eval":
        metrics["rows"] = total_of("rows", tf.ones([tf.shape(features)[0]]))
        metrics["feature_sum"] = total_of("feature_sum", features)
    return EstimatorSpec(mode, loss=loss, train_op=train_op, eval_metric_ops=metrics)


def total_of(name: str, values: Any) -> Any:
    """A metric that adds up values, over replicas too."""
    total = v1.get_variable(
        name,
        [],
        initializer=v1.zeros_initializer(),
        trainable=False,
        collections=[v1.GraphKeys.LOCAL_VARIABLES, v1.GraphKeys.METRIC_VARIABLES],
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.SUM,
    )
    update = total.assign_add(tf.reduce_sum(values))

    def over_replicas(strategy: Any, variable: Any) -> Any:
        return strategy.extended.read_var(variable)

    value = tf.distribute.get_replica_context().merge_call(over_replicas, args=(total,))
    return value, update
