"""A program of TensorFlow 2.15, which also runs under `python -m orchestrator.estimator`.

It trains from whatever step its model_dir is at to --max_steps and prints, as
one line of JSON, the model's value for fixed rows, computed from the newest
checkpoint. All batches are alike, so that only the step decides the weights.
"""

import argparse
import json

import numpy as np
import tensorflow as tf

tf1 = tf.compat.v1
ROWS = np.linspace(-1.0, 1.0, 24, dtype=np.float32).reshape(6, 4)
LABELS = (ROWS @ np.array([[1.0], [-2.0], [3.0], [0.5]], np.float32)) ** 2


def batches():
    return tf.data.Dataset.from_tensors((ROWS, LABELS)).repeat()


def model_fn(features, labels, mode):
    """Every kind of variable: tf.compat.v1.layers, Keras layers, get_variable, tf.Variable, batch norm."""
    training = mode == tf.estimator.ModeKeys.TRAIN
    hidden = tf1.layers.dense(features, 5, activation=tf.nn.tanh, name="first")
    hidden = tf1.layers.batch_normalization(hidden, training=training, momentum=0.9)
    with tf1.variable_scope("block"):
        hidden = tf.keras.layers.Dense(4, activation="tanh", name="keras_dense")(hidden)
        scale = tf1.get_variable("scale", [4], initializer=tf1.ones_initializer())
    output = tf.keras.layers.Dense(1)(hidden * scale) + tf.Variable(0.5, name="offset")
    if mode == tf.estimator.ModeKeys.PREDICT:
        return tf.estimator.EstimatorSpec(mode, predictions=output)
    loss = tf1.losses.mean_squared_error(labels, output)
    rate = tf1.train.exponential_decay(0.05, tf1.train.get_global_step(), 5, 0.9)
    with tf.control_dependencies(tf1.get_collection(tf1.GraphKeys.UPDATE_OPS)):
        train_op = tf1.train.AdamOptimizer(rate).minimize(loss, tf1.train.get_global_step())
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model_dir", required=True)
    parser.add_argument("--max_steps", type=int, required=True)
    flags = parser.parse_args()
    config = tf.estimator.RunConfig(
        model_dir=flags.model_dir,
        tf_random_seed=3,
        save_checkpoints_steps=5,
        save_summary_steps=5,
        keep_checkpoint_max=3,
        session_config=tf1.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1),
    )
    estimator = tf.estimator.Estimator(model_fn, config=config)
    estimator.train(batches, max_steps=flags.max_steps)
    predicted = estimator.predict(lambda: tf.data.Dataset.from_tensors(ROWS))
    print("PREDICTED", json.dumps([float(row[0]) for row in predicted]))


if __name__ == "__main__":
    main()
