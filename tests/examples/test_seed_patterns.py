"""How Estimator programs are written in tutorials, posts and answers: each pattern works here.

The programs read 8x8 images of two kinds, bright in the upper or in the lower half.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from orchestrator import estimator as tf_estimator

v1 = tf.compat.v1
Estimator, EstimatorSpec, ModeKeys = tf_estimator.Estimator, tf_estimator.EstimatorSpec, tf_estimator.ModeKeys

COUNT = 60


def images_and_labels() -> tuple[np.ndarray, np.ndarray]:
    """Images, float32 of shape (60, 8, 8, 1), and labels, int32: 0 bright above, 1 bright below."""
    random = np.random.RandomState(0)
    labels = np.arange(COUNT, dtype=np.int32) % 2
    images = random.uniform(0, 0.4, (COUNT, 8, 8, 1)).astype(np.float32)
    for image, label in zip(images, labels, strict=True):
        image[4 * label : 4 * label + 4] += 0.6
    return images, labels


def inputs(mode: str, batch_size: int = 12) -> Any:
    """The tensors of a one-shot iterator, as input functions returned them before datasets could be."""
    dataset = tf.data.Dataset.from_tensor_slices(images_and_labels())
    if mode == "train":
        dataset = dataset.repeat().shuffle(100, seed=1)
    return v1.data.make_one_shot_iterator(dataset.batch(batch_size)).get_next()


def get_logits(images: tf.Tensor) -> tf.Tensor:
    with v1.variable_scope("net", reuse=v1.AUTO_REUSE):
        kernel = v1.get_variable("kernel", [64, 2], initializer=v1.glorot_uniform_initializer(seed=1))
        bias = v1.get_variable("bias", [2], initializer=v1.zeros_initializer())
    return tf.reshape(images, [-1, 64]) @ kernel + bias


def spec_of_all_modes(features: tf.Tensor, labels: tf.Tensor, mode: str) -> EstimatorSpec:
    """Builds the training operation and the metric in every mode that has labels."""
    logits = get_logits(features)
    classes = tf.argmax(logits, axis=-1)
    probabilities = tf.nn.softmax(logits, axis=-1)
    if mode == "infer":
        return EstimatorSpec(
            mode=mode, predictions={"preds": classes, "probs": probabilities, "image": features}
        )
    loss = v1.losses.sparse_softmax_cross_entropy(labels, logits)
    step = v1.train.get_or_create_global_step()
    train_op = v1.train.AdamOptimizer(learning_rate=0.02).minimize(loss, global_step=step)
    accuracy = v1.metrics.accuracy(labels, classes)
    return EstimatorSpec(
        mode=mode,
        predictions={"preds": classes, "probs": probabilities},
        loss=loss,
        train_op=train_op,
        eval_metric_ops={"accuracy": accuracy},
    )


def summaries_in(directory: Path) -> set[str]:
    """Tags in the event files right below a directory."""
    files = [str(path) for path in directory.glob("events.out.tfevents.*")]
    events = (event for path in files for event in v1.train.summary_iterator(path))
    return {value.tag for event in events for value in event.summary.value}


def stats_of(path: Path) -> dict[str, str]:
    with path.open(newline="") as stream:
        return dict(csv.reader(stream))


def test_input_functions_in_lambdas_returning_tensors_of_a_one_shot_iterator(tmp_path: Path) -> None:
    estimator = Estimator(spec_of_all_modes, str(tmp_path))
    assert estimator.train(lambda: inputs("train"), max_steps=60) is estimator
    metrics = [estimator.evaluate(lambda: inputs("eval")) for _ in range(3)]
    assert metrics[0]["accuracy"] == 1.0
    assert metrics[0]["global_step"] == 60
    assert metrics[1] == metrics[0] == metrics[2]
    predictions = list(estimator.predict(lambda: inputs("infer")))
    assert [int(prediction["preds"]) for prediction in predictions] == images_and_labels()[1].tolist()
    assert np.array_equal([prediction["image"] for prediction in predictions], images_and_labels()[0])


def test_one_program_trains_and_another_evaluates(tmp_path: Path) -> None:
    Estimator(spec_of_all_modes, str(tmp_path)).train(lambda: inputs("train"), max_steps=60)
    metrics = Estimator(spec_of_all_modes, str(tmp_path)).evaluate(lambda: inputs("eval"))
    assert (metrics["accuracy"], metrics["global_step"]) == (1.0, 60)


def test_training_goes_on_where_it_ended(tmp_path: Path) -> None:
    estimator = Estimator(spec_of_all_modes, str(tmp_path))
    estimator.train(lambda: inputs("train"), steps=5)
    estimator.train(lambda: inputs("train"), steps=5)
    assert estimator.get_variable_value("global_step") == 10
    estimator.train(lambda: inputs("train"), max_steps=10)
    assert estimator.get_variable_value("global_step") == 10


def test_augmentation_prefetching_and_summaries_inside_the_input_function(tmp_path: Path) -> None:
    def noisy(image: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return image + v1.random_normal(stddev=5e-2, shape=tf.shape(image), dtype=tf.float32), label

    def input_fn() -> Any:
        dataset = tf.data.Dataset.from_tensor_slices(images_and_labels()).repeat().shuffle(100)
        dataset = dataset.map(noisy, num_parallel_calls=8).batch(12).prefetch(1)
        image, label = v1.data.make_one_shot_iterator(dataset).get_next()
        v1.summary.image("input_image", image)
        return image, label

    def model_fn(features: tf.Tensor, labels: tf.Tensor, mode: str) -> EstimatorSpec:
        spec = spec_of_all_modes(features, labels, mode)
        v1.summary.histogram("max_prob", tf.reduce_max(spec.predictions["probs"], axis=-1))
        return spec

    config = tf_estimator.RunConfig(save_summary_steps=5)
    Estimator(model_fn, str(tmp_path), config).train(input_fn, max_steps=10)
    tags = summaries_in(tmp_path)
    assert {"max_prob", "loss"} <= tags
    assert any(tag.startswith("input_image/") for tag in tags)


@pytest.mark.parametrize("with_update_ops", [True, False])
def test_batch_normalisation_moves_its_averages_through_update_ops(
    tmp_path: Path, with_update_ops: bool
) -> None:
    def normalised(net: tf.Tensor, training: bool) -> tf.Tensor:
        depth = net.shape[-1]
        scale = v1.get_variable("gamma", [depth], initializer=v1.ones_initializer())
        offset = v1.get_variable("beta", [depth], initializer=v1.zeros_initializer())
        mean = v1.get_variable("mean", [depth], trainable=False, initializer=v1.zeros_initializer())
        variance = v1.get_variable("variance", [depth], trainable=False, initializer=v1.ones_initializer())
        if not training:
            return v1.nn.fused_batch_norm(net, scale, offset, mean, variance, is_training=False)[0]
        net, batch_mean, batch_variance = v1.nn.fused_batch_norm(net, scale, offset)
        for average, value in ((mean, batch_mean), (variance, batch_variance)):
            v1.add_to_collection(v1.GraphKeys.UPDATE_OPS, average.assign_sub((average - value) * 0.1))
        return net

    def model_fn(features: tf.Tensor, labels: tf.Tensor, mode: str) -> EstimatorSpec:
        with v1.variable_scope("norm"):
            net = normalised(features, training=mode == ModeKeys.TRAIN)
        logits = get_logits(net)
        loss = v1.losses.sparse_softmax_cross_entropy(labels, logits)
        updates = v1.get_collection(v1.GraphKeys.UPDATE_OPS) if with_update_ops else []
        with tf.control_dependencies(updates):
            train_op = v1.train.AdamOptimizer(0.02).minimize(loss, v1.train.get_or_create_global_step())
        accuracy = v1.metrics.accuracy(labels, tf.argmax(logits, -1))
        return EstimatorSpec(mode, loss=loss, train_op=train_op, eval_metric_ops={"accuracy": accuracy})

    estimator = Estimator(model_fn, str(tmp_path))
    estimator.train(lambda: inputs("train"), max_steps=60)
    mean = estimator.get_variable_value("norm/mean")
    if with_update_ops:
        assert mean == pytest.approx(images_and_labels()[0].mean(), abs=0.02)
        assert estimator.evaluate(lambda: inputs("eval"))["accuracy"] == 1.0
    else:
        assert mean == 0


def test_two_optimizers_in_one_training_operation(tmp_path: Path) -> None:
    """Two losses, each with its optimizer and its variables, joined by an operation that does nothing."""

    def model_fn(features: tf.Tensor, labels: tf.Tensor, mode: str) -> EstimatorSpec:
        generator = v1.get_variable("generator", [], initializer=v1.zeros_initializer())
        critic = v1.get_variable("critic", [], initializer=v1.zeros_initializer())
        losses = (tf.square(generator - 1), tf.square(critic - 2))
        step = v1.train.get_or_create_global_step()
        first = v1.train.GradientDescentOptimizer(0.5).minimize(losses[0], step, var_list=[generator])
        second = v1.train.AdamOptimizer(0.5).minimize(losses[1], var_list=[critic])
        with tf.control_dependencies([first, second]):
            train_op = tf.no_op()
        return EstimatorSpec(mode, loss=losses[0] + losses[1], train_op=train_op)

    estimator = Estimator(model_fn, str(tmp_path)).train(lambda: inputs("train"), max_steps=50)
    assert estimator.get_variable_value("global_step") == 50
    assert estimator.get_variable_value("generator") == pytest.approx(1)
    assert estimator.get_variable_value("critic") == pytest.approx(2, abs=0.2)


def test_a_graph_around_a_placeholder_restores_the_newest_checkpoint(tmp_path: Path) -> None:
    Estimator(spec_of_all_modes, str(tmp_path)).train(lambda: inputs("train"), max_steps=60)
    with tf.Graph().as_default():
        fed = v1.placeholder(shape=(8, 8), dtype=tf.uint8)
        image = tf.cast(fed[tf.newaxis, :, :, tf.newaxis], tf.float32) / 255
        probabilities = tf.nn.softmax(get_logits(image), axis=-1)
        saver = v1.train.Saver()
        with v1.Session() as session:
            saver.restore(session, v1.train.latest_checkpoint(str(tmp_path)))
            (above, below) = (
                session.run(probabilities, {fed: (image[..., 0] * 255).astype(np.uint8)})
                for image in images_and_labels()[0][:2]
            )
    assert above[0, 0] > 0.5 > below[0, 0]


def streaming_concat(values: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """A metric whose value is every row seen: what `tf.contrib.metrics.streaming_concat` was used for."""
    seen = v1.Variable(
        lambda: tf.zeros([0, *values.shape[1:]], values.dtype),
        trainable=False,
        validate_shape=False,
        shape=tf.TensorShape([None, *values.shape[1:]]),
        collections=[v1.GraphKeys.LOCAL_VARIABLES, v1.GraphKeys.METRIC_VARIABLES],
        use_resource=True,
        name="seen",
    )
    update = seen.assign(tf.concat([seen, values], axis=0), read_value=False)
    with tf.control_dependencies([update]):
        updated = seen.read_value()
    return seen.read_value(), updated


def test_a_tensor_is_smuggled_out_of_an_evaluation_as_a_metric(tmp_path: Path) -> None:
    def model_fn(features: tf.Tensor, labels: tf.Tensor, mode: str) -> EstimatorSpec:
        spec = spec_of_all_modes(features, labels, mode)
        (gradient,) = tf.gradients(spec.loss, [features])
        metrics = {**spec.eval_metric_ops, "gradient": streaming_concat(gradient)}
        return spec._replace(eval_metric_ops=metrics)

    estimator = Estimator(model_fn, str(tmp_path)).train(lambda: inputs("train"), max_steps=5)
    for batch_size in (12, 25):
        metrics = estimator.evaluate(lambda size=batch_size: inputs("eval", size))
        assert metrics["gradient"].shape == (COUNT, 8, 8, 1)
        assert np.abs(metrics["gradient"]).max() > 0


def test_labels_are_smuggled_in_among_the_features_to_predict_a_gradient(tmp_path: Path) -> None:
    """`predict` gives no labels to the model: they travel as a feature. Only the wanted key is computed."""

    def model_fn(features: dict[str, tf.Tensor], labels: tf.Tensor | None, mode: str) -> EstimatorSpec:
        assert (labels is None) == (mode == ModeKeys.PREDICT)
        logits = get_logits(features["image"])
        loss = v1.losses.sparse_softmax_cross_entropy(features["label"], logits)
        if mode == ModeKeys.PREDICT:
            gradient = tf.gradients(loss, features["image"])[0]
            with tf.control_dependencies([tf.debugging.Assert(False, ["nobody asked for it"])]):
                trap = tf.identity(logits)
            return EstimatorSpec(mode, predictions={"gradient": gradient, "trap": trap})
        train_op = v1.train.AdamOptimizer(0.02).minimize(loss, v1.train.get_or_create_global_step())
        return EstimatorSpec(mode, loss=loss, train_op=train_op)

    def input_fn() -> Any:
        image, label = inputs("train")
        return {"image": image, "label": label}, label

    images, labels = images_and_labels()
    estimator = Estimator(model_fn, str(tmp_path)).train(input_fn, max_steps=5)
    once = tf_estimator.inputs.numpy_input_fn(
        {"image": images[:3], "label": labels[:3]}, batch_size=2, shuffle=False
    )
    rows = list(estimator.predict(once, predict_keys=["gradient"]))
    assert [sorted(row) for row in rows] == [["gradient"]] * 3
    assert all(np.abs(row["gradient"]).max() > 0 for row in rows)


def test_predict_is_lazy_and_reads_arrays_with_numpy_input_fn(tmp_path: Path) -> None:
    opened: list[str] = []

    class Opened(v1.train.SessionRunHook):
        def after_create_session(self, session: Any, coord: Any) -> None:
            opened.append("session")

    def model_fn(features: dict[str, tf.Tensor], labels: tf.Tensor, mode: str) -> EstimatorSpec:
        spec = spec_of_all_modes(features["image"], labels, mode)
        return spec._replace(prediction_hooks=[Opened()])

    def train_fn() -> Any:
        image, label = inputs("train")
        return {"image": image}, label

    images, labels = images_and_labels()
    estimator = Estimator(model_fn, str(tmp_path)).train(train_fn, max_steps=60)
    input_fn = tf_estimator.inputs.numpy_input_fn(x={"image": images[:5]}, shuffle=False, batch_size=1)
    predictions = estimator.predict(input_fn)
    assert opened == []
    names = {0: "above", 1: "below"}
    assert [names[int(row["preds"])] for row in predictions] == [names[int(label)] for label in labels[:5]]
    assert opened == ["session"]


def test_numpy_input_fn_shuffles_repeats_and_keeps_images_with_their_labels(tmp_path: Path) -> None:
    images, labels = images_and_labels()
    input_fn = tf_estimator.inputs.numpy_input_fn(
        images, labels, batch_size=16, num_epochs=None, shuffle=True
    )
    estimator = Estimator(spec_of_all_modes, str(tmp_path)).train(input_fn, max_steps=60)
    evaluation = tf_estimator.inputs.numpy_input_fn(images, labels, batch_size=16, shuffle=False)
    assert estimator.evaluate(evaluation)["accuracy"] == 1.0


def fine_tuned(source: Path, calls: list[str]) -> Callable[[tf.Tensor, tf.Tensor, str], EstimatorSpec]:
    """A model whose scaffold takes `net/` from the checkpoint in `source`; other variables are its own."""

    def model_fn(features: tf.Tensor, labels: tf.Tensor, mode: str) -> EstimatorSpec:
        logits = get_logits(features)
        chosen = {v.op.name: v for v in v1.global_variables() if v.op.name.startswith("net/")}
        restore = v1.train.Saver(chosen).restore
        with v1.variable_scope("new"):
            scale = v1.get_variable("scale", [], initializer=v1.ones_initializer())
        loss = v1.losses.sparse_softmax_cross_entropy(labels, logits * scale)
        train_op = v1.train.GradientDescentOptimizer(0.0).minimize(loss, v1.train.get_or_create_global_step())

        def init_fn(scaffold: Any, session: Any) -> None:
            calls.append("init_fn")
            restore(session, v1.train.latest_checkpoint(str(source)))

        return EstimatorSpec(mode, loss=loss, train_op=train_op, scaffold=v1.train.Scaffold(init_fn=init_fn))

    return model_fn


def test_fine_tuning_through_the_scaffolds_init_fn_happens_once(tmp_path: Path) -> None:
    source = Estimator(spec_of_all_modes, str(tmp_path / "a")).train(lambda: inputs("train"), max_steps=20)
    calls: list[str] = []
    tuned = Estimator(fine_tuned(tmp_path / "a", calls), str(tmp_path / "b"))
    tuned.train(lambda: inputs("train"), max_steps=2)
    assert calls == ["init_fn"]
    assert np.array_equal(tuned.get_variable_value("net/kernel"), source.get_variable_value("net/kernel"))
    assert tuned.get_variable_value("global_step") == 2
    tuned.train(lambda: inputs("train"), max_steps=4)
    assert calls == ["init_fn"]


class ModelStats(v1.train.SessionRunHook):
    """Counts operations and parameters when the graph is complete, and leaves them in a CSV file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def begin(self) -> None:
        graph = v1.get_default_graph()
        kinds = [operation.type for operation in graph.get_operations()]
        parameters = sum(int(np.prod(v.shape.as_list())) for v in v1.trainable_variables())
        with self.path.open("w", newline="") as stream:
            csv.writer(stream).writerows([["MatMul", kinds.count("MatMul")], ["parameters", parameters]])


def test_a_hook_reads_the_finished_graph_in_begin_in_each_mode(tmp_path: Path) -> None:
    def model_fn(features: tf.Tensor, labels: tf.Tensor, mode: str) -> EstimatorSpec:
        spec = spec_of_all_modes(features, labels, mode)
        hooks = [ModelStats(tmp_path / f"{mode}.csv")]
        kinds = {"train": "training_hooks", "eval": "evaluation_hooks", "infer": "prediction_hooks"}
        return spec._replace(**{kinds[mode]: hooks})

    estimator = Estimator(model_fn, str(tmp_path / "model"))
    estimator.train(lambda: inputs("train"), max_steps=2)
    estimator.evaluate(lambda: inputs("eval"))
    next(estimator.predict(lambda: inputs("infer")))
    assert stats_of(tmp_path / "train.csv")["parameters"] == "130"
    assert stats_of(tmp_path / "infer.csv") == {"MatMul": "1", "parameters": "130"}
    assert int(stats_of(tmp_path / "eval.csv")["MatMul"]) > 1


def test_hooks_given_to_train_see_each_step(tmp_path: Path) -> None:
    seen: list[int] = []

    class Steps(v1.train.SessionRunHook):
        def before_run(self, run_context: Any) -> Any:
            return v1.train.SessionRunArgs(v1.train.get_global_step())

        def after_run(self, run_context: Any, run_values: Any) -> None:
            seen.append(int(run_values.results))

    Estimator(spec_of_all_modes, str(tmp_path)).train(lambda: inputs("train"), max_steps=4, hooks=[Steps()])
    assert len(seen) == 4
    assert seen == sorted(seen)


def serving_input_receiver_fn() -> Any:
    specification = {"image": tf.io.FixedLenFeature([8, 8, 1], tf.float32)}
    serialized = v1.placeholder(dtype=tf.string, shape=[None], name="input_example_tensor")
    features = tf.io.parse_example(serialized, specification)
    return tf_estimator.export.TensorServingInputReceiver(features["image"], {"examples": serialized})


def test_an_exported_model_is_loaded_in_a_session_and_fed_by_name(tmp_path: Path) -> None:
    estimator = Estimator(spec_of_all_modes, str(tmp_path / "model"))
    estimator.train(lambda: inputs("train"), max_steps=60)
    exported = estimator.export_saved_model(str(tmp_path / "export"), serving_input_receiver_fn)
    images, labels = images_and_labels()
    examples = [
        tf.train.Example(
            features=tf.train.Features(
                feature={"image": tf.train.Feature(float_list=tf.train.FloatList(value=image.ravel()))}
            )
        ).SerializeToString()
        for image in images
    ]
    with tf.Graph().as_default() as graph, v1.Session() as session:
        meta = v1.saved_model.loader.load(session, [v1.saved_model.tag_constants.SERVING], exported.decode())
        assert "input_example_tensor" in [operation.name for operation in graph.get_operations()]
        assert {"net/kernel", "net/bias"} <= {v.op.name for v in v1.global_variables()}
        signature = meta.signature_def["serving_default"]
        assert signature.inputs["examples"].name == "input_example_tensor:0"
        found = session.run(signature.outputs["preds"].name, {"input_example_tensor:0": examples})
    assert found.tolist() == labels.tolist()


@pytest.mark.parametrize("place", ["table_initializers", "local_init_op"])
def test_an_initializable_iterator_is_initialised_with_the_session(tmp_path: Path, place: str) -> None:
    iterators: list[Any] = []

    def input_fn() -> Any:
        dataset = tf.data.Dataset.from_tensor_slices(images_and_labels()).batch(COUNT)
        iterators.append(v1.data.make_initializable_iterator(dataset.repeat(3)))
        if place == "table_initializers":
            v1.add_to_collection(v1.GraphKeys.TABLE_INITIALIZERS, iterators[-1].initializer)
        return iterators[-1].get_next()

    def model_fn(features: tf.Tensor, labels: tf.Tensor, mode: str) -> EstimatorSpec:
        spec = spec_of_all_modes(features, labels, mode)
        if place == "table_initializers":
            return spec
        default = v1.train.Scaffold.default_local_init_op()
        local_init = tf.group(default, iterators[-1].initializer)
        return spec._replace(scaffold=v1.train.Scaffold(local_init_op=local_init))

    estimator = Estimator(model_fn, str(tmp_path)).train(input_fn)
    assert estimator.get_variable_value("global_step") == 3
    first, second = (estimator.evaluate(input_fn)["loss"] for _ in range(2))
    assert first == second


def test_a_lookup_table_names_the_predicted_classes(tmp_path: Path) -> None:
    def model_fn(features: tf.Tensor, labels: tf.Tensor, mode: str) -> EstimatorSpec:
        spec = spec_of_all_modes(features, labels, mode)
        if mode != ModeKeys.PREDICT:
            return spec
        table = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(tf.constant([0, 1], tf.int64), ["above", "below"]), "?"
        )
        return EstimatorSpec(mode, predictions={"name": table.lookup(spec.predictions["preds"])})

    estimator = Estimator(model_fn, str(tmp_path)).train(lambda: inputs("train"), max_steps=60)
    names = [row["name"] for row in estimator.predict(lambda: inputs("infer"))]
    assert names == [b"above", b"below"] * (COUNT // 2)


def test_the_state_of_a_recurrent_net_travels_as_feature_and_prediction(tmp_path: Path) -> None:
    """A user's state is kept outside, goes in with each request and comes out changed."""

    def model_fn(features: dict[str, tf.Tensor], labels: tf.Tensor, mode: str) -> EstimatorSpec:
        weight = v1.get_variable("weight", [], initializer=v1.constant_initializer(0.5))
        state = features["state"] * weight + features["value"]
        if mode == ModeKeys.PREDICT:
            return EstimatorSpec(mode, predictions={"state": state, "output": state * 2})
        loss = tf.reduce_mean(tf.square(state - labels))
        train_op = v1.train.GradientDescentOptimizer(0.0).minimize(loss, v1.train.get_or_create_global_step())
        return EstimatorSpec(mode, loss=loss, train_op=train_op)

    def arrays(value: float, state: float) -> dict[str, np.ndarray]:
        return {"value": np.array([value], np.float32), "state": np.array([state], np.float32)}

    def asked(value: float, state: float) -> dict[str, Any]:
        input_fn = tf_estimator.inputs.numpy_input_fn(arrays(value, state), shuffle=False)
        return next(estimator.predict(input_fn))

    estimator = Estimator(model_fn, str(tmp_path)).train(
        tf_estimator.inputs.numpy_input_fn(arrays(1, 1), np.array([1], np.float32), shuffle=False)
    )
    first = asked(1.0, 0.0)
    second = asked(1.0, first["state"])
    assert (first["state"], second["state"], second["output"]) == (1.0, 1.5, 3.0)


def test_training_and_evaluation_together(tmp_path: Path) -> None:
    estimator = Estimator(
        spec_of_all_modes, config=tf_estimator.RunConfig(str(tmp_path), save_checkpoints_steps=20)
    )
    metrics, exported = tf_estimator.train_and_evaluate(
        estimator,
        tf_estimator.TrainSpec(lambda: inputs("train"), max_steps=60),
        tf_estimator.EvalSpec(lambda: inputs("eval"), steps=None, start_delay_secs=0, throttle_secs=0),
    )
    assert (metrics["accuracy"], metrics["global_step"]) == (1.0, 60)
    assert exported == []
    assert "accuracy" in summaries_in(tmp_path / "eval")
