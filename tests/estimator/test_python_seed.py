from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from orchestrator.estimator import python_seed
from orchestrator.estimator.estimator import Estimator
from orchestrator.estimator.run_config import RunConfig
from orchestrator.estimator.specs import EstimatorSpec

v1 = tf.compat.v1


def test_numbers_follow_from_the_seed_inside_and_go_on_outside() -> None:
    random.seed(5)
    expected = [random.random(), random.random()]
    random.seed(5)
    drawn = [random.random()]
    inside = []
    for seed in (7, 7, 8):
        with python_seed.seeded(seed):
            inside.append(random.random())
    drawn.append(random.random())
    assert drawn == expected
    assert inside[0] == inside[1] != inside[2]


def test_without_a_seed_nothing_changes() -> None:
    random.seed(5)
    expected = random.random()
    random.seed(5)
    with python_seed.seeded(None):
        assert random.random() == expected


@pytest.mark.parametrize("package", ["keras", "tf_keras"])
def test_layers_without_a_seed_start_alike(package: str, tmp_path: Path) -> None:
    layers: Any = pytest.importorskip(package).layers

    def model_fn(features: tf.Tensor, mode: str) -> EstimatorSpec:
        loss = tf.reduce_mean(layers.Dense(3)(layers.Dense(5)(features)))
        train_op = v1.train.GradientDescentOptimizer(0.1).minimize(loss, v1.train.get_global_step())
        return EstimatorSpec(mode, loss=loss, train_op=train_op)

    def weights(directory: str, seed: int) -> Any:
        config = RunConfig(str(tmp_path / directory), tf_random_seed=seed)
        estimator = Estimator(model_fn, config=config)
        estimator.train(lambda: tf.data.Dataset.from_tensors(np.ones([4, 2], np.float32)))
        return estimator.get_variable_value("dense_1/kernel")

    first = weights("first", 1)
    assert np.array_equal(first, weights("second", 1))
    assert not np.array_equal(first, weights("third", 2))
