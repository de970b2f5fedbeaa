"""A model whose random numbers no checkpoint holds is named once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from orchestrator.estimator import strategies
from orchestrator.estimator.estimator import Estimator
from orchestrator.estimator.run_config import RunConfig
from orchestrator.estimator.specs import EstimatorSpec
from tests.estimator import linear_model

v1 = tf.compat.v1
pytestmark = pytest.mark.xdist_group("estimator")


def spec_of(kernel: Any, features: Any, labels: Any, mode: str) -> EstimatorSpec:
    loss = v1.losses.mean_squared_error(labels, tf.matmul(features, kernel))
    optimizer = v1.train.GradientDescentOptimizer(0.01)
    return EstimatorSpec(mode, loss=loss, train_op=optimizer.minimize(loss, v1.train.get_global_step()))


def dropping(features: Any, labels: Any, mode: str) -> EstimatorSpec:
    kernel = v1.get_variable("kernel", [4, 1])  # drawn at random, but before the first step
    with v1.name_scope("thinned"):
        features = tf.nn.dropout(features, rate=0.5)
    return spec_of(kernel, features, labels, mode)


def drawing_in_a_function(features: Any, labels: Any, mode: str) -> EstimatorSpec:
    @tf.function
    def noisy(values: tf.Tensor) -> tf.Tensor:
        return values + tf.random.normal(tf.shape(values))

    return spec_of(v1.get_variable("kernel", [4, 1]), noisy(features), labels, mode)


def stateless(features: Any, labels: Any, mode: str) -> EstimatorSpec:
    seed = tf.stack([tf.constant(3, tf.int64), v1.train.get_global_step().read_value()])
    noise = tf.random.stateless_normal(tf.shape(features), seed)
    return spec_of(v1.get_variable("kernel", [4, 1]), features + noise, labels, mode)


def random_batches() -> tf.data.Dataset:
    noise = lambda x, y: (x + tf.random.normal(tf.shape(x)), y)  # noqa: E731
    return linear_model.training_input().map(noise).shuffle(4)


def random_tensors() -> Any:
    return v1.data.make_one_shot_iterator(random_batches()).get_next()


@pytest.mark.parametrize(
    ("model_fn", "name"), [(dropping, "thinned/dropout"), (drawing_in_a_function, "noisy")]
)
@pytest.mark.parametrize("strategy", [None, "mirrored"])
def test_stateful_random_operations_are_named_once(
    tmp_path: Path, warnings_said: list[str], model_fn: Any, name: str, strategy: str | None
) -> None:
    config = RunConfig(train_distribute=strategies.make_strategy(strategy, 2) if strategy else None)
    estimator = Estimator(model_fn, tmp_path, config)
    for _ in range(2):
        estimator.train(linear_model.training_input, steps=1)
    (warning,) = [said for said in warnings_said if "random" in said]
    assert f"model_fn {model_fn.__name__}" in warning
    assert name in warning


@pytest.mark.parametrize("input_fn", [random_batches, random_tensors])
@pytest.mark.parametrize("model_fn", [stateless, linear_model.model_fn])
def test_the_inputs_own_and_stateless_ones_are_no_cause(
    tmp_path: Path, warnings_said: list[str], model_fn: Any, input_fn: Any
) -> None:
    params = {} if model_fn is linear_model.model_fn else None
    Estimator(model_fn, tmp_path, params=params).train(input_fn, steps=1)
    assert not [said for said in warnings_said if "random" in said]
