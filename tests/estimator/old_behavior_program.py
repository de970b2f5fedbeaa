"""A program under `disable_v2_behavior`, as most that came from TensorFlow 1 are: MODEL_DIR.

No eager execution, variables that are references, shapes of Dimension objects.
"""

import sys

import numpy as np
import tensorflow.compat.v1 as tf

tf.disable_v2_behavior()

STEPS = 6


def training_input():
    features = np.arange(32, dtype=np.float32).reshape(16, 2) / 32
    return tf.data.Dataset.from_tensor_slices((features, features.sum(1))).repeat().batch(4)


def evaluation_input():
    return training_input().take(3)


def model_fn(features, labels, mode):
    outputs = tf.squeeze(tf.layers.dense(features, 1), 1)
    if mode == tf.estimator.ModeKeys.PREDICT:
        return tf.estimator.EstimatorSpec(mode, predictions=outputs)
    loss = tf.losses.mean_squared_error(labels, outputs)
    train_op = tf.train.AdamOptimizer(0.1).minimize(loss, tf.train.get_global_step())
    rows = tf.metrics.mean(tf.ones_like(labels))
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op, eval_metric_ops={"rows": rows})


def serving_input():
    features = tf.placeholder(tf.float32, [None, 2])
    return tf.estimator.export.TensorServingInputReceiver(features, {"x": features})


def weights(estimator):
    return np.concatenate([estimator.get_variable_value(f"dense/{n}").ravel() for n in ("kernel", "bias")])


def trained(name, steps=STEPS, warm_start_from=None, **arguments):
    config = tf.estimator.RunConfig(f"{sys.argv[1]}/{name}", tf_random_seed=1, **arguments)
    estimator = tf.estimator.Estimator(model_fn, config=config, warm_start_from=warm_start_from)
    return estimator.train(training_input, steps=steps)


def main():
    plain = trained("plain")
    print("TRAINED", plain.get_variable_value("global_step"), plain.evaluate(evaluation_input)["rows"])
    print("PREDICTED", len(list(plain.predict(evaluation_input))))
    print(
        "EXPORTED",
        tf.gfile.Exists(
            plain.export_saved_model(f"{sys.argv[1]}/export", serving_input) + b"/saved_model.pb"
        ),
    )
    for name, arguments in {
        "auto": {"steps_per_loop": "auto"},
        "beside": {"save_checkpoints_async": True, "save_checkpoints_steps": 2},
        "positions": {"save_input_state": True},
    }.items():
        print(name.upper(), np.array_equal(weights(trained(name, **arguments)), weights(plain)))
    parts = [trained("parts", STEPS // 2, save_input_state=True) for _ in range(2)]
    print("RESUMED", np.array_equal(weights(parts[1]), weights(plain)))
    strategy = tf.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"])
    replicas = trained("replicas", train_distribute=strategy, eval_distribute=strategy)
    print("REPLICAS", replicas.get_variable_value("global_step"), replicas.evaluate(evaluation_input)["rows"])
    warm = trained("warm", steps=1, warm_start_from=plain.model_dir)
    print("WARM", np.abs(weights(warm) - weights(plain)).max() < 0.11)
    spec = tf.estimator.EvalSpec({"a": evaluation_input, "b": evaluation_input}, steps=None, throttle_secs=0)
    metrics, _ = tf.estimator.train_and_evaluate(
        plain, tf.estimator.TrainSpec(training_input, max_steps=9), spec
    )
    print("EVALUATED", metrics["global_step"], metrics["a/rows"], metrics["b/rows"])


if __name__ == "__main__":
    main()
