"""An experiment of one's own: which of three growers made a wine, from its 13 chemical measurements.

    orchestrator run ../cluster_configs/local.yaml --experiment wine:experiment --model-dir models/wine

Run it in this directory: the module is looked for where the command is run, then on PYTHONPATH.
"""

import tensorflow as tf
from sklearn.datasets import load_wine

from orchestrator import Experiment
from orchestrator import estimator as est

v1 = tf.compat.v1
TEST_EVERY = 5  # every fifth bottle is kept for the test


def experiment(
    config: est.RunConfig, max_steps: int = 1000, learning_rate: float = 0.01, hidden: int = 16
) -> Experiment:
    """Called in each task with its RunConfig and with `params:` of the cluster file as keyword arguments."""
    model = est.Estimator(
        model_fn,
        config=config.replace(save_checkpoints_steps=max(1, max_steps // 4)),
        params={"learning_rate": learning_rate, "hidden": hidden},
    )
    return Experiment(
        model,
        est.TrainSpec(train_input_fn, max_steps=max_steps),
        est.EvalSpec(eval_input_fn, steps=None, start_delay_secs=0, throttle_secs=0),
    )


def model_fn(features, labels, mode, params):
    """`features["measurements"]`: float32 (batch, 13); `labels`: int64 (batch,)."""
    net = dense(features["measurements"], "hidden", 13, params["hidden"])
    logits = dense(tf.nn.relu(net), "logits", params["hidden"], 3)
    grower = tf.argmax(logits, axis=-1)
    if mode == est.ModeKeys.PREDICT:
        return est.EstimatorSpec(mode, predictions={"grower": grower, "scores": tf.nn.softmax(logits)})
    loss = v1.losses.sparse_softmax_cross_entropy(labels, logits)
    if mode == est.ModeKeys.EVAL:
        metrics = {"accuracy": v1.metrics.accuracy(labels, grower)}
        return est.EstimatorSpec(mode, loss=loss, eval_metric_ops=metrics)
    optimizer = v1.train.AdamOptimizer(params["learning_rate"])
    return est.EstimatorSpec(mode, loss=loss, train_op=optimizer.minimize(loss, v1.train.get_global_step()))


def dense(net, name, inputs, units):
    """A layer in plain TensorFlow; `tf.compat.v1.layers` is gone with Keras 3."""
    with v1.variable_scope(name):
        kernel = v1.get_variable("kernel", (inputs, units), initializer=v1.glorot_uniform_initializer())
        bias = v1.get_variable("bias", (units,), initializer=v1.zeros_initializer())
        return net @ kernel + bias


def train_input_fn():
    """Endless shuffled batches of 32."""
    return wines(test=False).shuffle(200).repeat().batch(32)


def eval_input_fn():
    """Every test bottle once."""
    return wines(test=True).batch(64)


def wines(test):
    """Single examples, each measurement scaled to mean 0 and deviation 1."""
    values, growers = load_wine(return_X_y=True)
    values = ((values - values.mean(axis=0)) / values.std(axis=0)).astype("float32")
    chosen = [(number % TEST_EVERY == 0) == test for number in range(len(growers))]
    return tf.data.Dataset.from_tensor_slices(
        ({"measurements": values[chosen]}, growers[chosen].astype("int64"))
    )
