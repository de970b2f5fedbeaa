"""Loops in the graph on the replicas of a strategy: the weights, files and summaries of single steps."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from orchestrator.errors import InvalidArgument
from orchestrator.estimator import strategies
from orchestrator.estimator.estimator import Estimator
from orchestrator.estimator.loop_length import LoopLength, add_loop
from orchestrator.estimator.run_config import RunConfig
from orchestrator.estimator.specs import EstimatorSpec
from tests.estimator import linear_model
from tests.estimator.test_clusters import STEPS, Cluster, steps_saved
from tests.estimator.test_in_graph_loop import all_variables, dropping, looped_files, summaries

v1 = tf.compat.v1
pytestmark = pytest.mark.xdist_group("estimator")
SEVERAL = 1e-6
"""Replicas may add their gradients in any order."""
PERIODS = {"save_checkpoints_steps": 20, "save_summary_steps": 15, "log_step_count_steps": 10}


def normalized(features: Any, labels: Any, mode: str) -> EstimatorSpec:
    """Adam, a mean over replicas, one kept apart on each, weight decay, a summary, a falling rate."""
    mean_of_all = tf.VariableAggregation.MEAN
    with v1.variable_scope("hidden"):
        kernel = v1.get_variable("kernel", [4, 8], regularizer=lambda w: 0.01 * tf.nn.l2_loss(w))
        hidden = tf.nn.relu(tf.matmul(features, kernel))
    mean = v1.get_variable("mean", [8], trainable=False, aggregation=mean_of_all)
    apart = v1.get_variable(
        "apart",
        [8],
        trainable=False,
        aggregation=mean_of_all,
        synchronization=tf.VariableSynchronization.ON_READ,
    )
    updates = [v.assign(0.9 * v + 0.1 * tf.reduce_mean(hidden, 0)) for v in (mean, apart)]
    centred = hidden - tf.reduce_mean(hidden, 0)
    v1.losses.mean_squared_error(labels, tf.matmul(centred, v1.get_variable("kernel", [8, 1])))
    loss = v1.losses.get_total_loss()
    v1.summary.scalar("error", loss)
    rate = v1.train.exponential_decay(0.05, v1.train.get_global_step(), 5, 0.9)
    with tf.control_dependencies(updates):
        train_op = v1.train.AdamOptimizer(rate).minimize(loss, v1.train.get_global_step())
    return EstimatorSpec(mode, loss=loss, train_op=train_op)


def trained(model_dir: Path, name: str, model_fn: Any = normalized, **config: Any) -> Estimator:
    strategy = strategies.make_strategy(name, 1 if name == "one_device" else 2)
    run_config = RunConfig(tf_random_seed=5, train_distribute=strategy, **{**PERIODS, **config})
    return Estimator(model_fn, model_dir, run_config).train(linear_model.training_input, steps=47)


@pytest.fixture
def lengths(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The length of every loop that is run."""
    found: list[int] = []
    choose = LoopLength.choose

    def noting(self: LoopLength, steps_left: float) -> int:
        found.append(choose(self, steps_left))
        return found[-1]

    monkeypatch.setattr(LoopLength, "choose", noting)
    return found


@pytest.mark.parametrize(
    ("name", "model_fn", "steps_per_loop"),
    [
        ("one_device", dropping, "auto"),
        ("mirrored", normalized, 7),
        pytest.param("one_device", normalized, 7, marks=pytest.mark.faults),
        pytest.param("mirrored", dropping, "auto", marks=pytest.mark.faults),
        pytest.param("central_storage", normalized, 7, marks=pytest.mark.faults),
    ],
)
def test_a_loop_on_replicas_is_single_steps(
    tmp_path: Path, lengths: list[int], name: str, model_fn: Any, steps_per_loop: Any
) -> None:
    single = trained(tmp_path / "single", name, model_fn)
    assert lengths == []
    looped = trained(tmp_path / "looped", name, model_fn, steps_per_loop=steps_per_loop)
    assert max(lengths) > 1
    expected, found = all_variables(single), all_variables(looped)
    assert sorted(found) == sorted(expected)
    assert found["global_step"] == 47
    tolerance = 0.0 if name == "one_device" else SEVERAL
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value, rtol=tolerance, atol=tolerance, err_msg=key)
    assert {p.name for p in looped_files(looped)} == {p.name for p in looped_files(single)}
    told, expected_summaries = summaries(tmp_path / "looped"), summaries(tmp_path / "single")
    assert [row[:2] for row in told] == [row[:2] for row in expected_summaries]
    values = ([row[2] for row in rows] for rows in (told, expected_summaries))
    np.testing.assert_allclose(*values, rtol=tolerance * 10, atol=tolerance * 10)


@pytest.mark.faults
def test_a_loop_takes_the_batches_of_an_iterator_whose_position_is_saved(
    tmp_path: Path, lengths: list[int]
) -> None:
    single = trained(tmp_path / "single", "mirrored")
    looped = trained(tmp_path / "looped", "mirrored", steps_per_loop=5, save_input_state=True)
    assert max(lengths) > 1
    for key, value in all_variables(single).items():
        found = looped.get_variable_value(key)
        np.testing.assert_allclose(found, value, rtol=SEVERAL, atol=SEVERAL, err_msg=key)


def fickle(features: Any, labels: Any, mode: str) -> EstimatorSpec:
    if v1.get_default_graph().building_function:
        v1.get_variable("another", [4, 1])
    return linear_model.model_fn(features, labels, mode, {})


def test_what_cannot_loop_on_replicas_is_refused_or_done_in_single_steps_and_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(InvalidArgument, match="when called again"):
        trained(tmp_path / "n", "mirrored", fickle, steps_per_loop=10)
    assert not list((tmp_path / "n").glob("model.ckpt*"))
    caplog.set_level(logging.INFO, "tensorflow")
    auto = trained(tmp_path / "auto", "mirrored", fickle, steps_per_loop="auto")
    assert auto.get_variable_value("global_step") == 47
    assert caplog.text.count("steps_per_loop is 1: ") == 1


def test_beside_parameter_servers_single_steps_have_a_reason(caplog: pytest.LogCaptureFixture) -> None:
    graph: Any = SimpleNamespace(repetition=object(), votes=None, loop=None)
    model: Any = SimpleNamespace(config=SimpleNamespace(steps_per_loop="auto", num_worker_replicas=2))
    caplog.set_level(logging.INFO, "tensorflow")
    add_loop(graph, model, [])
    assert "steps_per_loop is 1: other workers step meanwhile" in caplog.text
    assert graph.loop is None


@pytest.mark.faults
@pytest.mark.parametrize("steps_per_loop", [4, "auto"])
def test_a_loop_of_tasks_that_step_together_is_single_steps(tmp_path: Path, steps_per_loop: Any) -> None:
    tasks = ["chief-0", "worker-0"]
    found = {}
    for setting in (1, steps_per_loop):
        directory = tmp_path / str(setting)
        directory.mkdir()
        cluster = Cluster(directory, "ours:multi_worker_mirrored", tasks, steps_per_loop=setting)
        try:
            cluster.wait(*tasks)
        finally:
            cluster.kill()
        newest = str(cluster.model_dir / f"model.ckpt-{STEPS}")
        weights = {name: tf.train.load_variable(newest, name) for name, _ in tf.train.list_variables(newest)}
        found[setting] = (weights, steps_saved(cluster.model_dir), summaries(cluster.model_dir))
        assert ("take their steps in loops" in cluster.log("worker-0")) == (setting != 1)
    single, looped = found.values()
    assert sorted(looped[0]) == sorted(single[0])
    for name, value in single[0].items():
        np.testing.assert_array_equal(looped[0][name], value, err_msg=name)
    assert looped[1:] == single[1:]


@pytest.mark.faults
def test_beside_parameter_servers_each_worker_loops_for_itself(tmp_path: Path) -> None:
    tasks = ["chief-0", "worker-0", "ps-0"]
    cluster = Cluster(tmp_path, "ours:parameter_server", tasks, steps_per_loop=5)
    try:
        cluster.wait(*tasks)
    finally:
        cluster.kill()
    last = steps_saved(cluster.model_dir)[-1]
    assert STEPS <= last <= STEPS + 2 * 5
    kernel = tf.train.load_variable(str(cluster.model_dir), "kernel")
    assert np.abs(kernel - linear_model.WEIGHTS).max() < np.abs(linear_model.WEIGHTS).max()
