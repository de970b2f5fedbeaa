"""Where real pretrained weights lie, for tests that are skipped without them."""

from __future__ import annotations

from pathlib import Path

import pytest

DATA = Path(__file__).parents[2].parent / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"no pretrained weights in {DATA}")

MOBILENET_TF1 = DATA / "tf1_mobilenet_v1_0.25_224_imagenet_derived" / "mobilenet_v1_0.25_224.ckpt"
MOBILENET_H5 = DATA / "keras_mobilenet_v1_0.25_224_imagenet" / "mobilenet_v1_0.25_224.h5"
SOFTMAX_MNIST = DATA / "tf1_softmax_mnist"
BASIC_PITCH = DATA / "savedmodel_basic_pitch" / "nmp"
RESNET8_H5 = DATA / "keras_resnet8_cifar10" / "pretrainedResnet.h5"
SQUEEZENET_H5 = (
    DATA / "keras_squeezenet11_imagenet_notop" / "squeezenet_weights_tf_dim_ordering_tf_kernels_notop.h5"
)
