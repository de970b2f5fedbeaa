"""Strategies in one process: the same weights as one device, scaffolds, warm starts, metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from orchestrator.errors import ConfigError
from orchestrator.estimator import strategies
from orchestrator.estimator.estimator import Estimator
from orchestrator.estimator.run_config import RunConfig
from orchestrator.estimator.specs import EstimatorSpec
from tests.estimator import linear_model

v1 = tf.compat.v1
pytestmark = pytest.mark.xdist_group("estimator")
TWO_REPLICAS = ["mirrored", "central_storage"]
STEPS = 12


def half_batches(input_context: Any = None) -> tf.data.Dataset:
    """The batches of 8 of `training_input` as halves: two replicas take what one device takes at once."""
    return linear_model.training_input(batch_size=8 if input_context is None else 4)


def summed_by_hand(features: Any, labels: Any, mode: str) -> EstimatorSpec:
    kernel = v1.get_variable("kernel", [4, 1], initializer=v1.zeros_initializer())
    loss = tf.reduce_sum(tf.square(tf.matmul(features, kernel) - labels)) / 8.0
    train_op = v1.train.GradientDescentOptimizer(0.05).minimize(loss, v1.train.get_global_step())
    return EstimatorSpec(mode, loss=loss, train_op=train_op)


def summed_loss(features: Any, labels: Any, mode: str) -> EstimatorSpec:
    kernel = v1.get_variable("kernel", [4, 1], initializer=v1.zeros_initializer())
    loss = v1.losses.mean_squared_error(
        labels, tf.matmul(features, kernel), weights=1 / 8, reduction=v1.losses.Reduction.SUM
    )
    train_op = v1.train.GradientDescentOptimizer(0.05).minimize(loss, v1.train.get_global_step())
    return EstimatorSpec(mode, loss=loss, train_op=train_op)


def trained(model_dir: Path, name: str, model_fn: Any = linear_model.model_fn, **arguments: Any) -> Estimator:
    strategy = strategies.make_strategy(name, 2 if name in TWO_REPLICAS else None)
    config = RunConfig(train_distribute=strategy, eval_distribute=strategy, tf_random_seed=1)
    params = {} if model_fn is linear_model.model_fn else None
    estimator = Estimator(model_fn, model_dir, config, params=params, **arguments)
    return estimator.train(half_batches, steps=STEPS)


def kernel_of(estimator: Estimator) -> np.ndarray:
    return estimator.get_variable_value("kernel")


@pytest.mark.parametrize("name", ["one_device", *TWO_REPLICAS])
@pytest.mark.parametrize("model_fn", [linear_model.model_fn, summed_loss], ids=["mean", "sum"])
def test_two_replicas_with_half_a_batch_equal_one_with_the_whole(
    tmp_path: Path, name: str, model_fn: Any
) -> None:
    if name == "one_device":
        alone = trained(tmp_path / "alone", "none", model_fn)
        one = Estimator(
            model_fn,
            tmp_path / "one",
            RunConfig(train_distribute=strategies.make_strategy(name)),
            params={} if model_fn is linear_model.model_fn else None,
        ).train(lambda: linear_model.training_input(8), steps=STEPS)
        np.testing.assert_allclose(kernel_of(one), kernel_of(alone), atol=1e-7)
        return
    alone = trained(tmp_path / "alone", "none", model_fn)
    both = trained(tmp_path / "both", name, model_fn)
    assert np.abs(kernel_of(alone)).max() > 0.1
    np.testing.assert_allclose(kernel_of(both), kernel_of(alone), atol=1e-5)
    assert int(both.get_variable_value("global_step")) == STEPS


def test_a_loss_summed_by_hand_counts_once_a_replica_too_little(tmp_path: Path) -> None:
    """Documented: such a loss is divided by the number of replicas a second time."""
    alone = trained(tmp_path / "alone", "none", summed_by_hand)
    both = trained(tmp_path / "both", "mirrored", summed_by_hand)
    assert np.abs(kernel_of(both) - kernel_of(alone)).max() > 1e-2


@pytest.mark.parametrize("name", TWO_REPLICAS)
def test_evaluation_counts_every_row_on_replicas(tmp_path: Path, name: str) -> None:
    both = trained(tmp_path, name)
    plain = Estimator(linear_model.model_fn, tmp_path, RunConfig(), params={})
    on_replicas = both.evaluate(linear_model.evaluation_input)
    alone = plain.evaluate(linear_model.evaluation_input)
    assert on_replicas["rows"] == alone["rows"] == 44
    assert on_replicas["mae"] == pytest.approx(alone["mae"], rel=1e-5)
    assert on_replicas["global_step"] == STEPS


def test_a_batch_that_is_left_without_one_for_the_other_replica_is_not_counted(tmp_path: Path) -> None:
    """Documented: four of five batches of eight rows."""
    both = trained(tmp_path, "mirrored")
    assert both.evaluate(lambda: linear_model.evaluation_input().take(5))["rows"] == 32


@pytest.mark.parametrize("name", TWO_REPLICAS)
def test_a_checkpoint_of_replicas_resumes_without_and_the_reverse(tmp_path: Path, name: str) -> None:
    both = trained(tmp_path, name)
    assert sorted(both.get_variable_names()) == ["global_step", "kernel"]
    plain = Estimator(linear_model.model_fn, tmp_path, RunConfig(), params={})
    plain.train(linear_model.training_input, steps=2)
    both.train(half_batches, steps=2)
    assert int(both.get_variable_value("global_step")) == STEPS + 4


@pytest.mark.parametrize("name", ["one_device", *TWO_REPLICAS])
def test_the_scaffold_of_the_replicas_is_honoured(tmp_path: Path, name: str) -> None:
    calls: list[str] = []

    def scaffolded(features: Any, labels: Any, mode: str) -> EstimatorSpec:
        spec = linear_model.model_fn(features, labels, mode, {"learning_rate": 0.0})
        kernel = v1.trainable_variables()[0]

        def init_fn(scaffold: Any, session: Any) -> None:
            calls.append("init_fn")
            for component in getattr(kernel, "values", [kernel]):
                session.run(component.initializer, {component.initializer.inputs[1]: np.full([4, 1], 7.0)})

        return spec._replace(scaffold=v1.train.Scaffold(init_fn=init_fn))

    estimator = trained(tmp_path, name, scaffolded)
    np.testing.assert_array_equal(kernel_of(estimator), np.full([4, 1], 7.0))
    estimator.train(half_batches, steps=1)
    assert calls == ["init_fn"]


@pytest.mark.parametrize("name", ["one_device", *TWO_REPLICAS])
def test_warm_start_reaches_every_replica(tmp_path: Path, name: str) -> None:
    donor = trained(tmp_path / "donor", "none")

    def frozen(features: Any, labels: Any, mode: str) -> EstimatorSpec:
        return linear_model.model_fn(features, labels, mode, {"learning_rate": 0.0})

    taker = trained(tmp_path / "taker", name, frozen, warm_start_from=donor.model_dir)
    np.testing.assert_array_equal(kernel_of(taker), kernel_of(donor))
    assert int(taker.get_variable_value("global_step")) == STEPS
    losses = [taker.evaluate(linear_model.evaluation_input), donor.evaluate(linear_model.evaluation_input)]
    assert losses[0]["mae"] == pytest.approx(losses[1]["mae"], rel=1e-5)


@pytest.mark.parametrize("name", TWO_REPLICAS)
def test_replicas_see_each_row_once(tmp_path: Path, name: str) -> None:
    def counting(features: Any, labels: Any, mode: str) -> EstimatorSpec:
        total = v1.get_variable(
            "total",
            [],
            initializer=v1.zeros_initializer(),
            trainable=False,
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=tf.VariableAggregation.SUM,
        )
        with tf.control_dependencies([features]):
            step = v1.assign_add(v1.train.get_global_step(), 1)
        return EstimatorSpec(
            mode, loss=tf.constant(0.0), train_op=tf.group(step, total.assign_add(tf.reduce_sum(features)))
        )

    strategy = strategies.make_strategy(name, 2)
    numbers = lambda: tf.data.Dataset.range(1, 9).map(lambda n: tf.cast(n, tf.float32)[None]).batch(1)  # noqa: E731
    estimator = Estimator(counting, tmp_path, RunConfig(train_distribute=strategy)).train(numbers)
    assert estimator.get_variable_value("total") == sum(range(1, 9))
    assert int(estimator.get_variable_value("global_step")) == 4


def test_hooks_summaries_and_step_limit_work_on_replicas(tmp_path: Path) -> None:
    class Counter(v1.train.SessionRunHook):
        runs = 0

        def after_run(self, run_context: Any, run_values: Any) -> None:
            self.runs += 1

    hook = Counter()
    strategy = strategies.make_strategy("mirrored", 2)
    config = RunConfig(train_distribute=strategy, save_summary_steps=5, save_checkpoints_steps=5)
    Estimator(linear_model.model_fn, tmp_path, config, params={}).train(
        half_batches, max_steps=11, hooks=[hook]
    )
    assert hook.runs == 11
    assert {p.name for p in tmp_path.glob("*.index")} == {f"model.ckpt-{n}.index" for n in (0, 5, 10, 11)}
    (events,) = tmp_path.glob("events.out.tfevents.*")
    found = v1.train.summary_iterator(str(events))
    written = [e.step for e in found for value in e.summary.value if value.tag == "loss"]
    assert written == [1, 6, 11]


def test_unknown_strategies_are_refused_with_the_near_miss() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'mirrored'"):
        strategies.make_strategy("mirored")
    assert strategies.make_strategy("none") is None
    assert strategies.make_strategy("parameter_server") is None


def test_sessions_get_as_many_logical_devices_as_the_strategy_uses() -> None:
    strategy = strategies.make_strategy("mirrored", 2)
    assert strategies.session_config_for(RunConfig(), strategy).device_count["CPU"] == 2
    assert "CPU" not in strategies.session_config_for(RunConfig(), None).device_count
