"""Checkpoints written beside training: the Saver's own files, complete or not there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from orchestrator.errors import CheckpointError
from orchestrator.estimator import checkpoint_writer, strategies
from orchestrator.estimator.estimator import Estimator
from orchestrator.estimator.run_config import RunConfig
from tests.estimator import linear_model

v1 = tf.compat.v1
pytestmark = pytest.mark.xdist_group("estimator")


def trained(model_dir: Path, background: bool, listeners: Any = (), **config: Any) -> Estimator:
    run_config = RunConfig(
        tf_random_seed=1,
        save_checkpoints_steps=10,
        keep_checkpoint_max=3,
        save_checkpoints_async=background,
        **config,
    )
    estimator = Estimator(linear_model.model_fn, model_dir, run_config, params={})
    return estimator.train(linear_model.training_input, steps=45, saving_listeners=listeners)


@pytest.mark.parametrize("replicas", [None, 2])
def test_the_files_are_those_of_a_saver_that_blocks(tmp_path: Path, replicas: int | None) -> None:
    strategy = strategies.make_strategy("mirrored", replicas) if replicas else None
    trained(tmp_path / "blocking", False, train_distribute=strategy)
    trained(tmp_path / "beside", True, train_distribute=strategy)
    expected, found = (
        {p.name: p for p in (tmp_path / name).iterdir() if not p.name.startswith("events")}
        for name in ("blocking", "beside")
    )
    assert sorted(found) == sorted(expected)
    for name, path in expected.items():
        if name.endswith((".index", "-00001")) or name == "checkpoint":
            assert found[name].read_bytes() == path.read_bytes(), name
    for step in (30, 40, 45):
        meta = (tmp_path / "beside" / f"model.ckpt-{step}.meta").read_bytes()
        assert v1.MetaGraphDef.FromString(meta).graph_def.node


class Listener(v1.train.CheckpointSaverListener):
    """Notes steps, and what it finds on disk when it is told that a checkpoint is there."""

    def __init__(self, model_dir: Path) -> None:
        self.before: list[int] = []
        self.after: list[tuple[int, str]] = []
        self._model_dir = str(model_dir)

    def before_save(self, session: Any, global_step_value: int) -> None:
        self.before.append(int(global_step_value))

    def after_save(self, session: Any, global_step_value: int) -> None:
        self.after.append((int(global_step_value), Path(tf.train.latest_checkpoint(self._model_dir)).name))


def test_listeners_are_told_when_the_checkpoint_is_complete(tmp_path: Path) -> None:
    listener = Listener(tmp_path)
    trained(tmp_path, True, [listener])
    assert listener.before == [0, 10, 20, 30, 40, 45]
    assert listener.after == [(step, f"model.ckpt-{step}") for step in listener.before]


@pytest.mark.parametrize("elements", [3, 10_000])
def test_a_snapshot_is_of_one_moment(elements: int) -> None:
    with tf.Graph().as_default(), v1.Session() as session:
        variable = v1.get_variable("v", [elements], initializer=v1.zeros_initializer(), use_resource=True)
        add = variable.assign_add(tf.ones([elements]))
        snapshot = checkpoint_writer.Snapshot([variable.read_value()])
        session.run(variable.initializer)
        snapshot.allocate(session)
        for count in range(3):
            snapshot.take(session)
            session.run(add)
            (copied,) = session.run(snapshot.values)
            np.testing.assert_array_equal(copied, np.full(elements, count))


def test_a_failed_write_ends_training_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(self: Any, *arguments: Any, **options: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint_writer._WritingSession, "run", failing)
    with pytest.raises(CheckpointError, match="No space left"):
        trained(tmp_path, True)


PROGRAM = """
import sys
from orchestrator.estimator.estimator import Estimator
from orchestrator.estimator.run_config import RunConfig
from orchestrator.estimator.specs import EstimatorSpec
from tests.estimator import linear_model
import tensorflow as tf
v1 = tf.compat.v1

def model_fn(features, labels, mode):
    big = v1.get_variable("big", [2_000_000], initializer=v1.zeros_initializer())
    spec = linear_model.model_fn(features, labels, mode, {})
    with tf.control_dependencies([spec.train_op]):
        return spec._replace(train_op=tf.group(big.assign_add(tf.ones([2_000_000]))))

config = RunConfig(save_checkpoints_steps=5, save_checkpoints_async=True)
Estimator(model_fn, sys.argv[1], config).train(linear_model.training_input, max_steps=1_000_000)
"""


def test_the_newest_complete_checkpoint_survives_a_kill_at_any_moment(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    for attempt in range(2):
        process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(tmp_path)], env=environment)
        try:
            _wait_for_checkpoint(tmp_path, after_step=attempt * 20)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait(60)
        newest = tf.train.latest_checkpoint(str(tmp_path))
        reader = tf.train.load_checkpoint(newest)
        step = int(reader.get_tensor("global_step"))
        np.testing.assert_array_equal(reader.get_tensor("big"), np.full(2_000_000, step, np.float32))


def _wait_for_checkpoint(model_dir: Path, after_step: int) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        newest = tf.train.latest_checkpoint(str(model_dir))
        if newest is not None and int(newest.rpartition("-")[2]) > after_step:
            return
        time.sleep(0.05)
    raise AssertionError(f"no checkpoint after step {after_step} within 120 s")
