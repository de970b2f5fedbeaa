"""Examples a step, from the shapes of the features; reported with the rate of steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from orchestrator.cluster.records import ProgressRecord, TaskEnvironment
from orchestrator.cluster.task import TaskId
from orchestrator.estimator import strategies
from orchestrator.estimator.estimator import Estimator
from orchestrator.estimator.progress import ProgressReporter
from orchestrator.estimator.run_config import RunConfig
from orchestrator.estimator.specs import EstimatorSpec
from tests.estimator import linear_model

v1 = tf.compat.v1
pytestmark = pytest.mark.xdist_group("estimator")


def first_value(features: Any) -> tf.Tensor:
    part = tf.nest.flatten(features)[0]
    if isinstance(part, tf.SparseTensor):
        return tf.reduce_sum(part.values)
    return tf.reduce_sum(part.values if isinstance(part, tf.RaggedTensor) else part)


def summing(features: Any, labels: Any, mode: str) -> EstimatorSpec:
    with tf.control_dependencies([first_value(features)]):
        step = v1.assign_add(v1.train.get_global_step(), 1)
    return EstimatorSpec(mode, loss=tf.constant(1.0), train_op=step)


def ignoring(features: Any, labels: Any, mode: str) -> EstimatorSpec:
    step = v1.assign_add(v1.train.get_global_step(), 1)
    return EstimatorSpec(mode, loss=tf.constant(1.0), train_op=step)


def reported(
    monkeypatch: pytest.MonkeyPatch, model_dir: Path, model_fn: Any, input_fn: Any, strategy: Any = None
) -> list[int | None]:
    """The batch sizes that were reported with the steps."""
    sizes: list[int | None] = []
    monkeypatch.setattr("orchestrator.estimator.progress.RECORD_SECONDS", 0.0)
    monkeypatch.setattr(ProgressReporter, "stepped", lambda self, step, loss, size=None: sizes.append(size))
    Estimator(model_fn, model_dir, RunConfig(train_distribute=strategy)).train(input_fn, steps=3)
    return sizes


def dataset(drop_remainder: bool) -> tf.data.Dataset:
    rows = {"b": np.ones([20, 3], np.float32), "a": np.ones([20, 2], np.float32)}
    return tf.data.Dataset.from_tensor_slices(rows).batch(8, drop_remainder=drop_remainder)


def sparse() -> tf.data.Dataset:
    return dataset(False).map(lambda row: tf.sparse.from_dense(row["a"]))


def ragged() -> tf.data.Dataset:
    return tf.data.Dataset.range(20).map(lambda n: tf.range(n % 3 + 1)).ragged_batch(8)


@pytest.mark.parametrize(
    ("input_fn", "sizes"),
    [
        (lambda: dataset(False), [8, 8, 4]),
        (lambda: dataset(True).repeat(), [8, 8, 8]),
        (sparse, [8, 8, 4]),
        (ragged, [8, 8, 4]),
    ],
    ids=["dense", "static", "sparse", "ragged"],
)
def test_sizes_follow_each_batch(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, input_fn: Any, sizes: list[int]
) -> None:
    assert reported(monkeypatch, tmp_path, summing, input_fn) == sizes


def test_replicas_add_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    strategy = strategies.make_strategy("mirrored", 2)
    batches = lambda: dataset(False).repeat()  # noqa: E731
    assert reported(monkeypatch, tmp_path, summing, batches, strategy)[0] == 16


def test_an_input_that_no_step_reads_is_not_read_for_its_size(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    once = lambda: dataset(False).take(1)  # noqa: E731
    assert reported(monkeypatch, tmp_path, ignoring, once) == [None] * 3
    assert reported(monkeypatch, tmp_path / "numbers", ignoring, lambda: tf.constant(1.0)) == [None] * 3


def test_the_record_has_examples_per_second(tmp_path: Path) -> None:
    times = iter(float(n) for n in range(10))
    environment = TaskEnvironment(tmp_path, TaskId.parse("chief-0"), 0)
    reporter = ProgressReporter(environment, clock=lambda: next(times))
    reporter.stepped(10, 1.0, 32)
    before = environment.records.read(ProgressRecord)
    assert before is not None
    assert before.examples_per_second is None
    reporter.stepped(30, 1.0, 32)
    record = environment.records.read(ProgressRecord)
    assert record is not None
    assert record.steps_per_second is not None
    assert record.examples_per_second == record.steps_per_second * 32


def test_training_reports_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.estimator.progress.RECORD_SECONDS", 0.0)
    environment = TaskEnvironment(tmp_path / "run", TaskId.parse("chief-0"), 0, str(tmp_path / "model"))
    for name, value in environment.as_environment().items():
        monkeypatch.setenv(name, value)
    config = RunConfig.from_environment()
    Estimator(linear_model.model_fn, config=config, params={}).train(linear_model.training_input, steps=50)
    record = environment.records.read(ProgressRecord)
    assert record is not None
    assert record.steps_per_second is not None
    assert record.examples_per_second == pytest.approx(record.steps_per_second * 8)
