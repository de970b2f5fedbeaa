"""MobileNetV1 as an Estimator's `model_fn`, with the names of TensorFlow 1's own checkpoints.

The same net is filled from two files of one set of ImageNet weights:

    Estimator(model_fn, warm_start_from="mobilenet_v1_0.25_224.ckpt", params={"width": 0.25})
    Estimator(model_fn, warm_start_from=keras_warm_start("mobilenet_v1_0.25_224.h5"), params=...)

and tells what is on photographs, or learns other classes with a new head.
docs/fine_tuning.md goes through both.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from orchestrator.estimator import EstimatorSpec, ModeKeys
from orchestrator.warm_start import WarmStart, minimize_by_scope

v1 = tf.compat.v1

SIZE = 224
LAYERS = (
    (1, 64),
    (2, 128),
    (1, 128),
    (2, 256),
    (1, 256),
    (2, 512),
    *((1, 512),) * 5,
    (2, 1024),
    (1, 1024),
)
"""Stride of the depthwise convolution and channels of the pointwise one, at width 1."""
EPSILON = 0.001
KERAS_NAMES = [
    r"conv1/kernel=MobilenetV1/Conv2d_0/weights",
    r"conv1_bn/=MobilenetV1/Conv2d_0/BatchNorm/",
    r"conv_dw_(\d+)/depthwise_kernel=MobilenetV1/Conv2d_\1_depthwise/depthwise_weights",
    r"conv_dw_(\d+)_bn/=MobilenetV1/Conv2d_\1_depthwise/BatchNorm/",
    r"conv_pw_(\d+)/kernel=MobilenetV1/Conv2d_\1_pointwise/weights",
    r"conv_pw_(\d+)_bn/=MobilenetV1/Conv2d_\1_pointwise/BatchNorm/",
    r"conv_preds/kernel=MobilenetV1/Logits/Conv2d_1c_1x1/weights",
    r"conv_preds/bias=MobilenetV1/Logits/Conv2d_1c_1x1/biases",
]
"""What `keras.applications.MobileNet` calls the same layers."""


def keras_warm_start(path: str, **options: Any) -> WarmStart:
    """A warm start from the Keras file of these weights."""
    return WarmStart.of(path, rename=KERAS_NAMES, **options)


def model_fn(
    features: tf.Tensor, labels: tf.Tensor | None, mode: str, params: dict[str, Any]
) -> EstimatorSpec:
    """Classifies pictures. `features`: float32 [batch, height, width, 3], from -1 to 1.

    `params`: `width` (1.0), `classes` (1000), `head` ("Logits": scope of the last layer), `rate` (of Adam),
    `body_rate` (of Adam for everything but the head; as `rate` where it is missing).
    """
    training = mode == ModeKeys.TRAIN
    with v1.variable_scope("MobilenetV1"):
        net = body(features, params.get("width", 1.0), training and not params.get("fixed_statistics"))
        with v1.variable_scope(params.get("head", "Logits")):
            net = tf.reduce_mean(net, [1, 2], keepdims=True)
            logits = _convolution(net, "Conv2d_1c_1x1", 1, params.get("classes", 1000), 1, bias=True)
    logits = tf.squeeze(logits, [1, 2])
    predictions = {
        "logits": logits,
        "probabilities": tf.nn.softmax(logits),
        "class": tf.argmax(logits, axis=-1),
    }
    if mode == ModeKeys.PREDICT:
        return EstimatorSpec(mode, predictions=predictions)
    loss = v1.losses.sparse_softmax_cross_entropy(labels, logits)
    accuracy = v1.metrics.accuracy(labels, predictions["class"])
    if mode == ModeKeys.EVAL:
        return EstimatorSpec(mode, loss=loss, eval_metric_ops={"accuracy": accuracy})
    return EstimatorSpec(mode, loss=loss, train_op=_train_op(loss, params))


def _train_op(loss: tf.Tensor, params: dict[str, Any]) -> tf.Operation:
    rate = params.get("rate", 0.001)
    optimizers = {
        f"MobilenetV1/{params.get('head', 'Logits')}": v1.train.AdamOptimizer(rate),
        ".*": v1.train.AdamOptimizer(params.get("body_rate", rate)),
    }
    with tf.control_dependencies(v1.get_collection(v1.GraphKeys.UPDATE_OPS)):
        return minimize_by_scope(loss, optimizers, v1.train.get_global_step())


def body(images: tf.Tensor, width: float, training: bool) -> tf.Tensor:
    """The convolutions without the classifier; `training`: normalise by the batch, and learn from it."""
    net = _normalised(_convolution(images, "Conv2d_0", 3, _scaled(32, width), 2), "Conv2d_0", training)
    for number, (stride, channels) in enumerate(LAYERS, start=1):
        name = f"Conv2d_{number}_depthwise"
        net = _normalised(_depthwise(net, name, stride), name, training)
        name = f"Conv2d_{number}_pointwise"
        net = _normalised(_convolution(net, name, 1, _scaled(channels, width), 1), name, training)
    return net


def _scaled(channels: int, width: float) -> int:
    return max(8, int(channels * width))


def _padded(net: tf.Tensor, stride: int) -> tuple[tf.Tensor, str]:
    """Keras's way with stride 2: a row and a column of zeros at the end, and no others."""
    if stride == 1:
        return net, "SAME"
    return tf.pad(net, [[0, 0], [0, 1], [0, 1], [0, 0]]), "VALID"


def _convolution(  # noqa: PLR0917
    net: tf.Tensor, name: str, size: int, channels: int, stride: int, bias: bool = False
) -> tf.Tensor:
    net, padding = _padded(net, stride)
    with v1.variable_scope(name):
        kernel = v1.get_variable("weights", [size, size, net.shape[-1], channels])
        net = tf.nn.conv2d(net, kernel, strides=stride, padding=padding)
        if not bias:
            return net
        biases = v1.get_variable("biases", [channels], initializer=v1.zeros_initializer())
        return tf.nn.bias_add(net, biases)


def _depthwise(net: tf.Tensor, name: str, stride: int) -> tf.Tensor:
    net, padding = _padded(net, stride)
    with v1.variable_scope(name):
        kernel = v1.get_variable("depthwise_weights", [3, 3, net.shape[-1], 1])
        return tf.nn.depthwise_conv2d(net, kernel, strides=[1, stride, stride, 1], padding=padding)


def _normalised(net: tf.Tensor, name: str, training: bool) -> tf.Tensor:
    """Batch normalisation and ReLU6."""
    channels = net.shape[-1]
    zeros, ones = v1.zeros_initializer(), v1.ones_initializer()
    with v1.variable_scope(f"{name}/BatchNorm"):
        gamma = v1.get_variable("gamma", [channels], initializer=ones)
        beta = v1.get_variable("beta", [channels], initializer=zeros)
        keep = {"trainable": False, "aggregation": tf.VariableAggregation.MEAN}
        mean = v1.get_variable("moving_mean", [channels], initializer=zeros, **keep)
        variance = v1.get_variable("moving_variance", [channels], initializer=ones, **keep)
        if not training:
            net, _, _ = v1.nn.fused_batch_norm(
                net, gamma, beta, mean, variance, epsilon=EPSILON, is_training=False
            )
            return tf.nn.relu6(net)
        net, batch_mean, batch_variance = v1.nn.fused_batch_norm(net, gamma, beta, epsilon=EPSILON)
        for moving, now in ((mean, batch_mean), (variance, batch_variance)):
            update = moving.assign_sub((moving - now) * 0.05)
            v1.add_to_collection(v1.GraphKeys.UPDATE_OPS, update)
        return tf.nn.relu6(net)
