"""MobileNetV1 from real ImageNet weights, by name and from Keras, through `predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from examples import mobilenet_v1
from orchestrator.estimator import Estimator, inputs
from tests.warm_start import real_checkpoints as real

PARAMS = {"width": 0.25}
PHOTOS = ("tabby_cat.jpg", "chelsea.png", "coffee.png")
BEST = (281, 281, 967)


def photographs() -> np.ndarray:
    """The photographs, float32 [3, 224, 224, 3], from -1 to 1."""
    pictures = []
    for name in PHOTOS:
        data = tf.io.decode_image(
            (real.DATA / "photos" / name).read_bytes(), channels=3, expand_animations=False
        )
        size = min(data.shape[:2])
        middle = tf.image.resize_with_crop_or_pad(data, size, size)
        pictures.append(tf.image.resize(middle, [224, 224], antialias=True).numpy() / 127.5 - 1)
    return np.stack(pictures).astype(np.float32)


def labels() -> list[str]:
    lines = (real.DATA / "labels" / "imagenet1000_labels.tsv").read_text().splitlines()
    rows = [line.split("\t") for line in lines if line.split("\t")[0].isdigit()]
    return [row[-1] for row in rows]


def predicted(model_dir: Path, source: Any, pictures: np.ndarray) -> np.ndarray:
    estimator = Estimator(mobilenet_v1.model_fn, model_dir, params=PARAMS, warm_start_from=source)
    input_fn = inputs.numpy_input_fn(pictures, batch_size=3, shuffle=False)
    found = np.stack([row["probabilities"] for row in estimator.predict(input_fn)])
    assert not list(model_dir.glob("*.index"))
    return found


@real.needs_data
def test_photographs_are_told_from_both_files_of_the_same_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures, names = photographs(), labels()
    by_name = predicted(tmp_path / "a", str(real.MOBILENET_TF1), pictures)
    from_keras = predicted(tmp_path / "b", mobilenet_v1.keras_warm_start(str(real.MOBILENET_H5)), pictures)
    np.testing.assert_allclose(by_name, from_keras, atol=1e-4)
    for photo, row, best in zip(PHOTOS, by_name, BEST, strict=True):
        top = np.argsort(row)[::-1][:5]
        with capsys.disabled():
            print(f"\n{photo}: " + ", ".join(f"{names[i]} {row[i]:.2f}" for i in top))
        assert top[0] == best
