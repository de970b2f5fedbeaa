from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from orchestrator.errors import InvalidArgument, InvalidType, MissingKey
from orchestrator.estimator.estimator import Estimator
from orchestrator.estimator.export.outputs import ClassificationOutput, RegressionOutput
from orchestrator.estimator.export.receiver_builders import build_raw_serving_input_receiver_fn
from orchestrator.estimator.keras import model_to_estimator, model_to_estimator_v1
from orchestrator.estimator.run_config import RunConfig

tf_keras = pytest.importorskip("tf_keras")
pytestmark = [
    pytest.mark.xdist_group("estimator_keras"),
    pytest.mark.filterwarnings("ignore:.*state_updates:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*HDF5:UserWarning"),
]
RANDOM = np.random.RandomState(0)
X = RANDOM.rand(64, 10).astype(np.float32)
Y = (X.sum(axis=1) > 5).astype(np.int64)


class Subclassed(tf_keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.dense = tf_keras.layers.Dense(2, activation="softmax")

    def call(self, inputs: Any) -> Any:
        return self.dense(inputs)

    def get_config(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        return cls()


@pytest.fixture(autouse=True)
def same_initial_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    # Put back afterwards: from then on Keras would draw every seed of this process from there.
    monkeypatch.setattr(tf_keras.src.backend._SEED_GENERATOR, "generator", None, raising=False)
    tf_keras.utils.set_random_seed(1)


def functional() -> Any:
    inputs = tf_keras.Input((10,), name="x")
    hidden = tf_keras.layers.BatchNormalization()(tf_keras.layers.Dense(8)(inputs))
    return tf_keras.Model(inputs, tf_keras.layers.Dense(2, activation="softmax", name="y")(hidden))


def sequential() -> Any:
    layers = tf_keras.layers
    return tf_keras.Sequential([layers.Dense(8, input_shape=(10,)), layers.Dense(2, activation="softmax")])


def compiled(model: Any, optimizer: Any = "adam") -> Any:
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def fitted(model: Any) -> Any:
    compiled(model).fit(X, Y, epochs=3, verbose=0)
    return model


def batches() -> Any:
    return tf.data.Dataset.from_tensor_slices((X, Y)).batch(32)


@pytest.mark.parametrize("checkpoint_format", ["checkpoint", "saver"])
@pytest.mark.parametrize("make", [functional, sequential])
def test_a_fitted_model_evaluates_as_in_keras_and_trains_on(
    make: Any, checkpoint_format: str, tmp_path: Path
) -> None:
    model = fitted(make())
    loss, accuracy = model.evaluate(X, Y, batch_size=32, verbose=0)
    estimator = model_to_estimator(model, model_dir=tmp_path, checkpoint_format=checkpoint_format)
    before = estimator.evaluate(batches)
    assert before["loss"] == pytest.approx(loss, rel=1e-5)
    assert before["accuracy"] == pytest.approx(accuracy, rel=1e-5)
    estimator.train(lambda: batches().repeat(20))
    after = estimator.evaluate(batches)
    assert after["global_step"] == 40
    assert after["loss"] < before["loss"]


@pytest.mark.parametrize(
    ("make", "arguments"), [(functional, {}), (Subclassed, {"checkpoint_format": "saver"})]
)
def test_the_model_itself_is_left_as_it_is(make: Any, arguments: Any, tmp_path: Path) -> None:
    model = fitted(make())
    weights, optimizer = model.get_weights(), model.optimizer
    estimator = model_to_estimator(model, model_dir=tmp_path, **arguments)
    estimator.train(batches)
    assert model.optimizer is optimizer
    assert all((now == then).all() for now, then in zip(model.get_weights(), weights, strict=True))
    model.fit(X, Y, verbose=0)
    assert model.predict(X, verbose=0).shape == (64, 2)


def test_a_subclassed_model_starts_with_new_weights(tmp_path: Path) -> None:
    estimator = model_to_estimator(compiled(Subclassed()), model_dir=tmp_path, checkpoint_format="saver")
    estimator.train(lambda: batches().repeat(30))
    assert estimator.evaluate(batches)["global_step"] == 60


def test_keras_reads_the_object_based_checkpoints_back(tmp_path: Path) -> None:
    model = fitted(functional())
    estimator = model_to_estimator(model, model_dir=tmp_path)
    estimator.train(lambda: batches().repeat(5))
    other = compiled(functional(), tf_keras.optimizers.legacy.Adam())
    other.load_weights(estimator.latest_checkpoint()).expect_partial()
    loss, _ = other.evaluate(X, Y, batch_size=32, verbose=0)
    assert loss == pytest.approx(estimator.evaluate(batches)["loss"], rel=1e-5)


@pytest.mark.parametrize("extension", ["", ".h5", ".keras"])
def test_a_saved_model_can_be_taken(extension: str, tmp_path: Path) -> None:
    if extension:
        pytest.importorskip("h5py")
    model = fitted(functional())
    path = tmp_path / f"model{extension}"
    model.save(str(path))
    estimator = model_to_estimator(keras_model_path=path, model_dir=tmp_path / "estimator")
    predicted = [row["y"] for row in estimator.predict(batches)]
    np.testing.assert_allclose(predicted, model.predict(X, verbose=0), atol=1e-5)


def test_sample_weights_count(tmp_path: Path) -> None:
    model = fitted(functional())
    weights = np.linspace(0, 1, 64, dtype=np.float32)
    expected, _ = model.evaluate(X, Y, sample_weight=weights, batch_size=64, verbose=0)
    estimator = model_to_estimator(model, model_dir=tmp_path)
    features = {"features": X, "sample_weights": weights}
    metrics = estimator.evaluate(lambda: tf.data.Dataset.from_tensors((features, Y)))
    assert metrics["loss"] == pytest.approx(expected, rel=1e-5)


def two_headed() -> Any:
    a, b = tf_keras.Input((1,), name="a"), tf_keras.Input((1,), name="b")
    outputs = {
        "c": tf_keras.layers.Dense(1, name="c")(a),
        "d": tf_keras.layers.Dense(1, activation="sigmoid", name="d")(b),
    }
    model = tf_keras.Model({"a": a, "b": b}, outputs)
    model.compile("sgd", {"c": "mse", "d": "binary_crossentropy"}, metrics={"c": "mae", "d": "accuracy"})
    return model


def two_headed_batches() -> Any:
    column = np.ones([8, 1], np.float32)
    return tf.data.Dataset.from_tensors(({"a": column, "b": column}, {"c": column, "d": column}))


def test_metrics_can_be_renamed(tmp_path: Path) -> None:
    names = {"c_mae": "error", "d_accuracy": "hits"}
    estimator = model_to_estimator(two_headed(), model_dir=tmp_path, metric_names_map=names)
    assert {"error", "hits"} <= set(estimator.evaluate(two_headed_batches))
    for wrong, text in (
        ({"c_mae": "e"}, r"\['d_accuracy'\] do not exist"),
        ({**names, "x": "y"}, r"unexpected keys .*'x'"),
    ):
        renamed = model_to_estimator(two_headed(), model_dir=tmp_path, metric_names_map=wrong)
        with pytest.raises(InvalidArgument, match=f"Invalid `metric_names_map`.*{text}"):
            renamed.evaluate(two_headed_batches)


def test_each_output_can_have_a_signature_of_its_own(tmp_path: Path) -> None:
    outputs = {"c": RegressionOutput, "d": ClassificationOutput}
    estimator = model_to_estimator(two_headed(), model_dir=tmp_path, export_outputs=outputs)
    from orchestrator.estimator.export.receiver_builders import build_parsing_serving_input_receiver_fn

    scalar = tf.io.FixedLenFeature([1], tf.float32)
    receiver_fn = build_parsing_serving_input_receiver_fn({"a": scalar, "b": scalar})
    path = estimator.export_saved_model(str(tmp_path / "export"), receiver_fn)
    loaded = tf.saved_model.load(path.decode())
    assert set(loaded.signatures) == {"c", "d", "serving_default"}
    unknown = model_to_estimator(two_headed(), model_dir=tmp_path, export_outputs={"e": RegressionOutput})
    with pytest.raises(MissingKey, match=r"Missed keys: \['e'\]"):
        unknown.export_saved_model(str(tmp_path / "export"), receiver_fn)


def test_an_exported_model_predicts_as_keras_does(tmp_path: Path) -> None:
    model = fitted(functional())
    estimator = model_to_estimator(model, model_dir=tmp_path)
    receiver_fn = build_raw_serving_input_receiver_fn({"x": tf.TensorSpec([None, 10], tf.float32)})
    path = estimator.export_saved_model(str(tmp_path / "export"), receiver_fn)
    serve = tf.saved_model.load(path.decode()).signatures["serving_default"]
    np.testing.assert_allclose(serve(x=tf.constant(X))["y"], model.predict(X, verbose=0), atol=1e-5)


def test_inputs_that_do_not_fit_the_model_are_named(tmp_path: Path) -> None:
    estimator = model_to_estimator(compiled(functional()), model_dir=tmp_path)
    with pytest.raises(MissingKey, match=r"features of input_fn .* Missed keys: \['x'\]") as caught:
        estimator.train(lambda: ({"image": X}, Y), steps=1)
    assert isinstance(caught.value, KeyError)
    with pytest.raises(MissingKey, match=r"labels of input_fn .* Missed keys: \['y'\]"):
        estimator.train(lambda: ({"x": X}, {"label": Y}), steps=1)


def test_the_version_1_spelling_saves_by_name(tmp_path: Path) -> None:
    estimator = model_to_estimator_v1(compiled(functional()), model_dir=tmp_path)
    estimator.train(batches, steps=1)
    assert "y/kernel" in estimator.get_variable_names()
    by_object = model_to_estimator(compiled(functional()), model_dir=tmp_path / "objects")
    by_object.train(batches, steps=1)
    assert "y/kernel" not in by_object.get_variable_names()


def test_mirrored_replicas(tmp_path: Path) -> None:
    tf.config.set_soft_device_placement(True)  # a graph of another test may have settled for no
    strategy = tf.compat.v1.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"])
    config = RunConfig(train_distribute=strategy)
    estimator = model_to_estimator(compiled(functional(), "sgd"), model_dir=tmp_path, config=config)
    assert isinstance(estimator, Estimator)
    estimator.train(lambda: batches().repeat(5))
    assert estimator.get_variable_value("estimator_global_step/.ATTRIBUTES/VARIABLE_VALUE") > 0


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({}, InvalidArgument, "Either `keras_model` or `keras_model_path`"),
        ({"keras_model": 1, "keras_model_path": "p"}, InvalidArgument, "but not both"),
        ({"keras_model": object()}, InvalidType, "keras_model must be a model of tf_keras"),
        ({"keras_model_path": "/absent"}, InvalidArgument, "no Keras model at keras_model_path /absent"),
    ],
)
def test_wrong_arguments(arguments: Any, error: type, text: str) -> None:
    with pytest.raises(error, match=text):
        model_to_estimator(**arguments)


def test_models_that_cannot_be_converted() -> None:
    with pytest.raises(InvalidArgument, match="has not been compiled yet"):
        model_to_estimator(functional())
    with pytest.raises(InvalidArgument, match=r"one of .* not 'h5'"):
        model_to_estimator(compiled(functional()), checkpoint_format="h5")
    with pytest.raises(
        InvalidArgument, match='not supported with subclassed models; pass checkpoint_format="saver"'
    ):
        model_to_estimator(compiled(Subclassed()))

    class Closed(tf_keras.Model):
        def call(self, inputs: Any) -> Any:
            return inputs

        def get_config(self) -> Any:
            raise NotImplementedError

    with pytest.raises(InvalidArgument, match=r"must implement `Model\.get_config`.*Closed does not"):
        model_to_estimator(compiled(Closed()), checkpoint_format="saver")


def test_a_keras_3_model_is_refused_with_what_to_do() -> None:
    keras = pytest.importorskip("keras", minversion="3")
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(InvalidType, match="It is a Keras 3 model; build it with TF_USE_LEGACY_KERAS=1"):
        model_to_estimator(model)
