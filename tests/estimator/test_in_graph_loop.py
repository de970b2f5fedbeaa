"""Loops in the graph: the results and files of single steps, at every period, or a refusal that says why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from orchestrator.errors import InvalidArgument
from orchestrator.estimator import strategies
from orchestrator.estimator.estimator import Estimator
from orchestrator.estimator.loop_length import AUTO_LIMIT, LoopLength
from orchestrator.estimator.run_config import RunConfig
from orchestrator.estimator.specs import EstimatorSpec
from tests.estimator import linear_model

v1 = tf.compat.v1
pytestmark = pytest.mark.xdist_group("estimator")


def layered(features: Any, labels: Any, mode: str) -> EstimatorSpec:
    """Two layers, Adam, batch statistics, a summary, a metric, weight decay: all that a step can hang on."""
    with v1.variable_scope("hidden"):
        kernel = v1.get_variable("kernel", [4, 8], regularizer=lambda w: 0.01 * tf.nn.l2_loss(w))
        hidden = tf.nn.relu(tf.matmul(features, kernel))
    plain = tf.Variable(np.ones([8], np.float32), name="scale")
    mean = tf.Variable(np.zeros([8], np.float32), trainable=False, name="moving_mean")
    v1.add_to_collection(v1.GraphKeys.UPDATE_OPS, mean.assign(0.9 * mean + 0.1 * tf.reduce_mean(hidden, 0)))
    never = tf.Variable(0.0, trainable=False, name="never_updated")
    never.assign_add(1.0)
    outputs = tf.matmul((hidden - tf.reduce_mean(hidden, 0)) * plain, v1.get_variable("kernel", [8, 1]))
    loss = v1.losses.mean_squared_error(labels, outputs)
    total = v1.losses.get_total_loss()
    error = v1.metrics.mean_absolute_error(labels, outputs)
    v1.summary.scalar("error", error[1])
    rate = v1.train.exponential_decay(0.05, v1.train.get_global_step(), 5, 0.9)
    with tf.control_dependencies(v1.get_collection(v1.GraphKeys.UPDATE_OPS)):
        train_op = v1.train.AdamOptimizer(rate).minimize(total, v1.train.get_global_step())
    del loss
    return EstimatorSpec(mode, loss=total, train_op=train_op)


def trained(model_dir: Path, steps: int = 47, model_fn: Any = layered, hooks: Any = (), **config: Any) -> Any:
    run_config = RunConfig(tf_random_seed=5, **config)
    return Estimator(model_fn, model_dir, run_config).train(
        linear_model.training_input, steps=steps, hooks=hooks
    )


def all_variables(estimator: Estimator) -> dict[str, np.ndarray]:
    return {name: estimator.get_variable_value(name) for name in estimator.get_variable_names()}


def events(directory: Path) -> list[tuple[int, str]]:
    found = []
    for path in sorted(directory.glob("events.out.tfevents.*")):
        for event in v1.train.summary_iterator(str(path)):
            found += [(event.step, v.tag) for v in event.summary.value if v.tag != "global_step/sec"]
    return found


@pytest.mark.parametrize("steps_per_loop", [7, 100, "auto"])
def test_a_loop_gives_the_weights_and_files_of_single_steps(tmp_path: Path, steps_per_loop: Any) -> None:
    periods = {"save_checkpoints_steps": 20, "save_summary_steps": 15, "log_step_count_steps": 10}
    single = trained(tmp_path / "single", **periods)
    looped = trained(tmp_path / "looped", steps_per_loop=steps_per_loop, **periods)
    expected, found = all_variables(single), all_variables(looped)
    assert sorted(found) == sorted(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    assert found["never_updated"] == 0.0
    assert found["global_step"] == 47
    assert {p.name for p in looped_files(looped)} == {p.name for p in looped_files(single)}
    assert events(tmp_path / "looped") == events(tmp_path / "single")


def dropping(features: Any, labels: Any, mode: str) -> EstimatorSpec:
    """Dropout, noise and a summary: random numbers in every step, with seeds of graph and operation."""
    noisy = features + tf.random.normal(tf.shape(features), stddev=0.1, seed=11)
    hidden = tf.nn.relu(tf.matmul(noisy, v1.get_variable("first", [4, 16])))
    hidden = tf.nn.dropout(hidden, rate=0.5)
    outputs = tf.matmul(hidden, v1.get_variable("second", [16, 1]))
    loss = v1.losses.mean_squared_error(labels, outputs)
    v1.summary.scalar("outputs", tf.reduce_mean(outputs))
    train_op = v1.train.AdamOptimizer(0.05).minimize(loss, v1.train.get_global_step())
    return EstimatorSpec(mode, loss=loss, train_op=train_op)


def sampling(features: Any, labels: Any, mode: str) -> EstimatorSpec:
    """Classes that are drawn for each batch, and pools of random sizes."""
    pooled, _, _ = tf.nn.fractional_max_pool(
        tf.reshape(features, [-1, 2, 2, 1]), 1.5, pseudo_random=True, seed=7
    )
    hidden = tf.concat([features, tf.reshape(pooled, [-1, 1])], 1)
    classes = tf.cast(tf.reduce_sum(features, 1, keepdims=True) > 0, tf.int64)
    weights, biases = v1.get_variable("weights", [40, 5]), v1.get_variable("biases", [40])
    loss = tf.reduce_mean(v1.nn.sampled_softmax_loss(weights, biases, classes, hidden, 4, 40))
    train_op = v1.train.AdamOptimizer(0.05).minimize(loss, v1.train.get_global_step())
    return EstimatorSpec(mode, loss=loss, train_op=train_op)


def summaries(directory: Path) -> list[tuple[int, str, float]]:
    found = []
    for path in sorted(directory.glob("events.out.tfevents.*")):
        for event in v1.train.summary_iterator(str(path)):
            values = [v for v in event.summary.value if v.tag != "global_step/sec"]
            found += [(event.step, v.tag, v.simple_value) for v in values]
    return found


@pytest.mark.parametrize("steps_per_loop", [7, "auto"])
@pytest.mark.parametrize("model_fn", [dropping, sampling])
def test_random_numbers_in_a_loop_are_those_of_single_steps(
    tmp_path: Path, steps_per_loop: Any, model_fn: Any
) -> None:
    periods = {"save_checkpoints_steps": 20, "save_summary_steps": 15, "log_step_count_steps": 10}
    single = trained(tmp_path / "single", model_fn=model_fn, **periods)
    looped = trained(tmp_path / "looped", model_fn=model_fn, steps_per_loop=steps_per_loop, **periods)
    for name, value in all_variables(single).items():
        np.testing.assert_array_equal(looped.get_variable_value(name), value, err_msg=name)
    assert summaries(tmp_path / "looped") == summaries(tmp_path / "single")
    assert {p.name for p in looped_files(looped)} == {p.name for p in looped_files(single)}


def test_random_steps_that_a_hook_looks_at_cannot_loop(tmp_path: Path) -> None:
    hook = v1.train.LoggingTensorHook(["outputs"], every_n_iter=5)
    with pytest.raises(InvalidArgument, match="LoggingTensorHook looks at each step"):
        trained(tmp_path, model_fn=dropping, hooks=[hook], steps_per_loop=10)


@pytest.mark.parametrize("strategy", [None, "mirrored"])
def test_a_model_that_initialises_itself_from_a_checkpoint_can_loop(
    tmp_path: Path, strategy: str | None
) -> None:
    plain = lambda features, labels, mode: linear_model.model_fn(features, labels, mode, {})  # noqa: E731
    donor = trained(tmp_path / "donor", 5, plain).latest_checkpoint()

    def taking(features: Any, labels: Any, mode: str) -> EstimatorSpec:
        spec = plain(features, labels, mode)
        v1.train.init_from_checkpoint(donor, {"kernel": "kernel"})
        return spec

    def kernels(name: str, **config: Any) -> list[np.ndarray]:
        """At the start and at the end."""
        config["train_distribute"] = strategies.make_strategy(strategy, 2) if strategy else None
        trained(tmp_path / name, 20, taking, **config)
        return [tf.train.load_variable(str(tmp_path / name / f"model.ckpt-{n}"), "kernel") for n in (0, 20)]

    single, looped = kernels("single"), kernels("looped", steps_per_loop=6)
    np.testing.assert_array_equal(looped, single)
    np.testing.assert_array_equal(single[0], tf.train.load_variable(donor, "kernel"))
    assert np.abs(single[1] - single[0]).max() > 0.1


def looped_files(estimator: Estimator) -> list[Path]:
    return list(Path(estimator.model_dir).glob("model.ckpt-*"))


def test_steps_do_run_in_loops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lengths: list[int] = []
    choose = LoopLength.choose

    def noting(self: LoopLength, steps_left: float) -> int:
        lengths.append(choose(self, steps_left))
        return lengths[-1]

    monkeypatch.setattr(LoopLength, "choose", noting)
    trained(tmp_path, steps=200, steps_per_loop=30, log_step_count_steps=None, save_summary_steps=None)
    assert max(lengths) > 1
    assert max(lengths) <= 30


def test_a_loop_resumes_what_single_steps_began_and_the_reverse(tmp_path: Path) -> None:
    single = trained(tmp_path / "single", steps=32)
    trained(tmp_path / "mixed", steps=8)
    trained(tmp_path / "mixed", steps=16, steps_per_loop=5)
    mixed = trained(tmp_path / "mixed", steps=8)
    for name, value in all_variables(single).items():
        np.testing.assert_array_equal(mixed.get_variable_value(name), value, err_msg=name)


def test_a_loop_stops_at_the_first_bad_loss(tmp_path: Path) -> None:
    def diverging(features: Any, labels: Any, mode: str) -> EstimatorSpec:
        step = v1.train.get_global_step()
        loss = tf.where(step >= 33, np.float32("nan"), 1.0)
        with tf.control_dependencies([loss]):
            train_op = step.assign_add(1)
        return EstimatorSpec(mode, loss=loss, train_op=train_op)

    with pytest.raises(v1.train.NanLossDuringTrainingError):
        trained(tmp_path, 1000, diverging, steps_per_loop=100, save_checkpoints_steps=20)
    assert tf.train.latest_checkpoint(str(tmp_path)).endswith("-20")


def test_input_that_ends_within_a_loop_leaves_the_step_right(tmp_path: Path) -> None:
    config = RunConfig(steps_per_loop=50, save_summary_steps=None, log_step_count_steps=None)
    estimator = Estimator(layered, tmp_path, config).train(linear_model.evaluation_input)
    assert estimator.get_variable_value("global_step") == 6


def test_a_hook_that_looks_at_each_step_still_sees_each(tmp_path: Path) -> None:
    class Counter(v1.train.SessionRunHook):
        runs = 0

        def after_run(self, run_context: Any, run_values: Any) -> None:
            self.runs += 1

    hook = Counter()
    trained(tmp_path, hooks=[hook], steps_per_loop="auto")
    assert hook.runs == 47


def fickle(features: Any, labels: Any, mode: str) -> EstimatorSpec:
    if v1.get_default_graph().building_function:
        v1.get_variable("another", [4, 1])
    return linear_model.model_fn(features, labels, mode, {})


def tensors() -> Any:
    features, labels = linear_model.examples(8)
    return tf.constant(features), tf.constant(labels)


def plain(features: Any, labels: Any, mode: str) -> EstimatorSpec:
    return linear_model.model_fn(features, labels, mode, {})


@pytest.mark.parametrize(
    ("model_fn", "input_fn", "reason"),
    [
        (plain, tensors, "input_fn returns tensors"),
        (fickle, linear_model.training_input, "when called again"),
    ],
)
def test_what_cannot_loop_is_refused_with_the_reason_or_done_in_single_steps(
    tmp_path: Path, model_fn: Any, input_fn: Any, reason: str
) -> None:
    with pytest.raises(InvalidArgument, match=reason):
        Estimator(model_fn, tmp_path / "n", RunConfig(steps_per_loop=10)).train(input_fn, steps=20)
    auto = Estimator(model_fn, tmp_path / "auto", RunConfig(steps_per_loop="auto")).train(input_fn, steps=20)
    assert auto.get_variable_value("global_step") == 20


def test_the_length_of_a_loop_never_passes_what_is_waited_for() -> None:
    length = LoopLength(100)
    assert length.choose(500) == 10  # nothing is known about the time of a step yet
    length.took(10, 0.001)
    assert length.choose(500) == 100
    assert length.choose(37) == 37
    assert length.choose(0) == 1
    assert LoopLength(100, workers=3).choose(9) == 3  # the others take the rest
    length.took(10, 1.0)
    assert length.choose(500) == 2
    length.took(10, 50.0)
    assert length.choose(500) == 1
    automatic = LoopLength("auto")
    automatic.took(10, 1e-6)
    assert automatic.choose(float("inf")) == AUTO_LIMIT
