from __future__ import annotations

import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits

from orchestrator.data.handwritten_digits import stratified_part
from orchestrator.data.tfds_input import TfdsInput
from orchestrator.errors import EnvironmentProblem


def test_the_two_splits_are_the_source_without_overlap(digits: TfdsInput) -> None:
    pairs = [pair for split in ("train", "test") for pair in digits.read(split).as_numpy_iterator()]
    found = sorted((int(label), (image[..., 0] / 255 * 16).round().tobytes()) for image, label in pairs)
    source = load_digits()
    images = source.images.astype(np.float64)
    assert found == sorted(
        (int(label), image.tobytes()) for image, label in zip(images, source.target, strict=True)
    )


def test_each_digit_has_its_share_of_the_test_split(digits: TfdsInput) -> None:
    labels = np.array([label for _, label in digits.read("test").as_numpy_iterator()])
    everywhere = np.bincount(load_digits().target)
    assert len(labels) == 359
    assert np.abs(np.bincount(labels) / everywhere - 0.2).max() < 0.005


def test_images_fill_the_range_of_bytes(digits: TfdsInput) -> None:
    images = np.stack([image for image, _ in digits.read("test").as_numpy_iterator()])
    assert images.dtype == np.uint8
    assert images.shape == (359, 8, 8, 1)
    assert (images.min(), images.max()) == (0, 255)


def test_the_split_is_drawn_alike_each_time() -> None:
    labels = np.repeat(np.arange(4), 50)
    mask = stratified_part(labels, 0.1, seed=1)
    assert np.array_equal(mask, stratified_part(labels, 0.1, seed=1))
    assert not np.array_equal(mask, stratified_part(labels, 0.1, seed=2))
    assert np.bincount(labels[mask]).tolist() == [5, 5, 5, 5]


def test_missing_scikit_learn_is_one_line_with_the_cure(
    unprepared: TfdsInput, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(EnvironmentProblem, match=r"pip install 'tf-orchestrator\[examples\]'$"):
        unprepared.prepare()
    monkeypatch.undo()
    unprepared.prepare()
    assert len(list(unprepared.read("test"))) == 359
