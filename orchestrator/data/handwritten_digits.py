"""TFDS builder of the handwritten digits that come inside scikit-learn: real data without a network."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from orchestrator.errors import EnvironmentProblem

GREY_LEVELS = 16
"""The source counts the black pixels of 4x4 blocks: 0 to 16."""
TEST_FRACTION = 0.2
SPLIT_SEED = 20


class HandwrittenDigits(tfds.core.GeneratorBasedBuilder):
    """1,797 images of the ten digits, 8x8 pixels, split into `train` (1,438) and `test` (359).

    The split is drawn once, with the same share of each digit in both parts.
    Generating needs scikit-learn; reading what was generated does not.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012 (declared so by TFDS)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Handwritten digits of 43 people, 8x8 pixels, as distributed with scikit-learn.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(8, 8, 1), dtype=np.uint8),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        del dl_manager
        images, labels = _load()
        test = stratified_part(labels, TEST_FRACTION, SPLIT_SEED)
        return {
            "train": self._generate_examples(images, labels, np.flatnonzero(~test)),
            "test": self._generate_examples(images, labels, np.flatnonzero(test)),
        }

    def _generate_examples(
        self, images: np.ndarray, labels: np.ndarray, chosen: np.ndarray
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        for number in chosen:
            image = np.rint(images[number] * (255 / GREY_LEVELS)).astype(np.uint8)
            yield int(number), {"image": image[..., np.newaxis], "label": int(labels[number])}


def _load() -> tuple[np.ndarray, np.ndarray]:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise EnvironmentProblem(
            "the handwritten digits come with scikit-learn, which is not installed: "
            "pip install 'tf-orchestrator[examples]'"
        ) from error
    digits = load_digits()
    return digits.images, digits.target


def stratified_part(labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """A mask, shape as `labels`, that is true for about `fraction` of each class.

    RandomState is used because its stream is frozen: the split is the same with every NumPy.
    """
    random = np.random.RandomState(seed)
    mask = np.zeros(labels.shape, dtype=bool)
    for label in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == label))
        mask[members[: round(len(members) * fraction)]] = True
    return mask
