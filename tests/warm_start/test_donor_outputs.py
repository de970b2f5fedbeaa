"""Real pretrained nets, built again in graphs of TensorFlow 1 style: every tensor and the donor's outputs.

The donors run by their own loaders, in these tests alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from orchestrator import warm_start
from orchestrator.warm_start import WarmStart, open_checkpoint, plan_for_graph
from orchestrator.warm_start.tensors import Role
from tests.warm_start import real_checkpoints as real

v1 = tf.compat.v1
pytestmark = real.needs_data


def outputs_of(
    path: Any, build: Callable[[Any], Any], inputs: np.ndarray, unused: int = 0, **rules: Any
) -> list[np.ndarray]:
    """What the net gives after a warm start in which every variable is loaded.

    Every variable is then compared with its tensor; `unused` weights stay in the checkpoint.
    """
    with tf.Graph().as_default() as graph:
        features = v1.placeholder(tf.float32, [None, *inputs.shape[1:]])
        outputs = build(features)
        plan = plan_for_graph(graph, WarmStart.of(path, on_missing="error", **rules)).require()
        assert not plan.skips
        assert sum(left.source.role is Role.WEIGHT for left in plan.unused) == unused
        variables = {v.op.name: v for v in v1.global_variables()}
        scaffold = v1.train.Scaffold(init_fn=warm_start.scaffold_init_fn(plan))
        scaffold.finalize()
        with v1.train.MonitoredSession(v1.train.ChiefSessionCreator(scaffold)) as session:
            values, found = session.run((variables, outputs), {features: inputs})
    with open_checkpoint(path) as opened:
        for load in plan.loads:
            np.testing.assert_array_equal(values[load.target.name], opened.read(load.source))
    return list(found)


def convolution(
    net: Any, name: str, size: Any, channels: int, *, strides: Any = 1, padding: str = "SAME"
) -> Any:
    with v1.variable_scope(name):
        kernel = v1.get_variable("kernel", [*size, net.shape[-1], channels])
        bias = v1.get_variable("bias", [channels])
    return tf.nn.conv2d(net, kernel, strides, padding) + bias


def normalised(net: Any, name: str) -> Any:
    with v1.variable_scope(name):
        parts = ("gamma", "beta", "moving_mean", "moving_variance")
        values = [v1.get_variable(part, net.shape[-1:]) for part in parts]
    return v1.nn.fused_batch_norm(net, *values, epsilon=0.001, is_training=False)[0]


def resnet8(net: Any) -> list[Any]:
    """Three blocks of two convolutions beside a shortcut; names count in the order of their making."""

    def step(net: Any, convolution_name: str, norm: str, channels: int, stride: int = 1) -> Any:
        return normalised(convolution(net, convolution_name, (3, 3), channels, strides=stride), norm)

    net = tf.nn.relu(step(net, "conv2d", "batch_normalization", 16))
    inner = tf.nn.relu(step(net, "conv2d_1", "batch_normalization_1", 16))
    net = tf.nn.relu(net + step(inner, "conv2d_2", "batch_normalization_2", 16))
    for first, channels in ((3, 32), (6, 64)):
        norm = 3 if first == 3 else 5
        inner = tf.nn.relu(step(net, f"conv2d_{first}", f"batch_normalization_{norm}", channels, 2))
        inner = step(inner, f"conv2d_{first + 1}", f"batch_normalization_{norm + 1}", channels)
        net = tf.nn.relu(convolution(net, f"conv2d_{first + 2}", (1, 1), channels, strides=2) + inner)
    net = tf.reduce_mean(net, [1, 2])
    with v1.variable_scope("dense"):
        return [tf.nn.softmax(net @ v1.get_variable("kernel", [64, 10]) + v1.get_variable("bias", [10]))]


def pictures(count: int, size: int) -> np.ndarray:
    """Photographs, float32 [count, size, size, 3], from 0 to 255."""
    names = ("tabby_cat.jpg", "chelsea.png", "coffee.png")[:count]
    found = []
    for name in names:
        data = (real.DATA / "photos" / name).read_bytes()
        picture = tf.io.decode_image(data, channels=3, expand_animations=False)
        side = min(picture.shape[:2])
        middle = tf.image.resize_with_crop_or_pad(picture, side, side)
        found.append(tf.image.resize(middle, [size, size], antialias=True).numpy())
    return np.stack(found).astype(np.float32)


def test_resnet8_says_what_its_keras_model_says() -> None:
    import keras

    images = pictures(2, 32)
    (found,) = outputs_of(real.RESNET8_H5, resnet8, images)
    donor = keras.models.load_model(real.RESNET8_H5, compile=False)
    np.testing.assert_allclose(found, donor.predict(images, verbose=0), atol=1e-5)
    cat = 3
    assert (found.argmax(-1) == cat).all()


FIRES = ((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256))
POOLED_AFTER = (3, 5)


def squeezenet(net: Any) -> list[Any]:
    net = tf.nn.max_pool2d(
        tf.nn.relu(convolution(net, "conv1", (3, 3), 64, strides=2, padding="VALID")),
        3,
        strides=2,
        padding="VALID",
    )
    for number, (squeezed, expanded) in enumerate(FIRES, start=2):
        with v1.variable_scope(f"fire{number}"):
            net = tf.nn.relu(convolution(net, "squeeze1x1", (1, 1), squeezed))
            left = tf.nn.relu(convolution(net, "expand1x1", (1, 1), expanded))
            right = tf.nn.relu(convolution(net, "expand3x3", (3, 3), expanded))
        net = tf.concat([left, right], -1)
        if number in POOLED_AFTER:
            net = tf.nn.max_pool2d(net, 3, 2, "VALID")
    return [net]


def keras_squeezenet() -> Any:
    """The donor's layers, in its order; its own loader fills them by position."""
    from keras import Input, Model, layers

    images = Input((96, 96, 3))
    net = layers.Conv2D(64, 3, 2, activation="relu")(images)
    net = layers.MaxPooling2D(3, 2)(net)
    for number, (squeezed, expanded) in enumerate(FIRES, start=2):
        net = layers.Conv2D(squeezed, 1, activation="relu")(net)
        left = layers.Conv2D(expanded, 1, activation="relu")(net)
        right = layers.Conv2D(expanded, 3, padding="same", activation="relu")(net)
        net = layers.Concatenate()([left, right])
        if number in POOLED_AFTER:
            net = layers.MaxPooling2D(3, 2)(net)
    return Model(images, net)


def test_squeezenet_under_its_old_keras_names() -> None:
    images = pictures(3, 96)
    (found,) = outputs_of(real.SQUEEZENET_H5, squeezenet, images)
    donor = keras_squeezenet()
    donor.load_weights(real.SQUEEZENET_H5)
    expected = donor.predict(images, verbose=0)
    assert expected.std() > 0.1
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3 * expected.std())


HARMONICS = (0.5, 1, 2, 3, 4, 5, 6, 7)
BINS_PER_OCTAVE = 36
BINS = 264
PITCH_FRONT = "model_1/batch_normalization/FusedBatchNormV3"


def stacked(net: Any) -> Any:
    """The spectrum beside itself, shifted by each harmonic; [batch, time, 264, 8]."""
    layers = []
    for harmonic in HARMONICS:
        shift = round(BINS_PER_OCTAVE * math.log2(harmonic))
        low, high = max(shift, 0), max(-shift, 0)
        layers.append(tf.pad(net[:, :, low : net.shape[2] - high], [[0, 0], [0, 0], [high, low], [0, 0]]))
    return tf.concat(layers, -1)[:, :, :BINS]


def basic_pitch(spectrum: Any) -> list[Any]:
    """From the spectrum on, which has no weights before its normalisation: contour, note and onset."""
    net = stacked(normalised(spectrum, "batch_normalization"))
    contour = convolution(net, "conv2d_1", (3, 39), 8)
    contour = tf.nn.relu(normalised(contour, "batch_normalization_2"))
    contour = tf.sigmoid(convolution(contour, "contours-reduced", (5, 5), 1))
    note = tf.nn.relu(convolution(contour, "conv2d_2", (7, 7), 32, strides=(1, 3)))
    note = tf.sigmoid(convolution(note, "conv2d_3", (7, 3), 1))
    onset = tf.nn.relu(
        normalised(convolution(net, "conv2d_4", (5, 5), 32, strides=(1, 3)), "batch_normalization_3")
    )
    onset = tf.sigmoid(convolution(tf.concat([note, onset], -1), "conv2d_5", (3, 3), 1))
    return [contour[..., 0], note[..., 0], onset[..., 0]]


def donated_pitches(sound: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """The donor's spectrum before its first normalisation, and its outputs: contour, note, onset."""
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    donor = tf.saved_model.load(str(real.BASIC_PITCH))
    frozen = convert_variables_to_constants_v2(donor.signatures["serving_default"])
    with tf.Graph().as_default() as graph, v1.Session() as session:
        tf.import_graph_def(frozen.graph.as_graph_def(), name="")
        norm = next(op for op in graph.get_operations() if op.name.endswith(PITCH_FRONT))
        outputs = [graph.get_tensor_by_name(tensor.name) for tensor in frozen.outputs]
        found = session.run([norm.inputs[0], *outputs], {frozen.inputs[0].name: sound})
    return found[0], found[1:]


def test_basic_pitch_hears_the_same_notes_as_its_saved_model() -> None:
    time = np.arange(43844) / 22050
    sound = np.stack([0.5 * np.sin(2 * np.pi * pitch * time) for pitch in (440.0, 261.63)])
    spectrum, expected = donated_pitches(sound[..., None].astype(np.float32))
    found = outputs_of(real.BASIC_PITCH, basic_pitch, spectrum)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)
    lowest_key = 21
    assert [lowest_key + int(row.mean(0).argmax()) for row in found[1]] == [69, 60]
