"""Checkpoints written beside training: the Saver's own files, complete or not there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from orchestrator.errors import CheckpointError
from orchestrator.estimator import background_saving, checkpoint_writer, strategies
from orchestrator.estimator.estimator import Estimator
from orchestrator.estimator.run_config import RunConfig
from orchestrator.estimator.specs import EstimatorSpec
from tests.estimator import linear_model
from tests.launch.local_runs import wait_until

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


class SlowWrite:
    """In the place of the write: notes what it is told, may hold it back or fail."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, until: Callable[[], bool] = lambda: True, fail_at: str = "-"
    ) -> None:
        self._write = checkpoint_writer._WritingSession.run
        self._until = until
        self._fail_at = fail_at
        self.active = 0
        self.most_at_once = 0
        slow = self

        def run(session: Any, fetches: Any, feed_dict: Any) -> Any:
            return slow.run(session, fetches, feed_dict)

        monkeypatch.setattr(checkpoint_writer._WritingSession, "run", run)

    def run(self, session: Any, fetches: Any, feed_dict: Any) -> Any:
        self.active += 1
        self.most_at_once = max(self.most_at_once, self.active)
        try:
            wait_until(self._until, "the end of the wait of a write")
            if next(iter(feed_dict.values())).endswith(self._fail_at):
                raise OSError(28, "No space left on device")
            return self._write(session, fetches, feed_dict)
        finally:
            self.active -= 1


def test_a_checkpoint_that_is_due_waits_for_the_one_that_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write = SlowWrite(monkeypatch, until=lambda: "training waits for it" in caplog.text)
    listener = Listener(tmp_path)
    trained(tmp_path, True, [listener])
    assert write.most_at_once == 1
    assert listener.after == [(step, f"model.ckpt-{step}") for step in (0, 10, 20, 30, 40, 45)]
    assert caplog.text.count("training waits for it") == 1


def test_a_listener_that_stops_training_is_heard_after_the_write(tmp_path: Path) -> None:
    class Stopping(v1.train.CheckpointSaverListener):
        def after_save(self, session: Any, global_step_value: int) -> bool:
            return bool(global_step_value >= 10)

    stopped = trained(tmp_path, True, [Stopping()])
    assert 10 < int(stopped.get_variable_value("global_step")) < 45


def test_a_failed_write_ends_training_and_removes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    SlowWrite(monkeypatch, fail_at="-30")
    with pytest.raises(CheckpointError, match="No space left"):
        trained(tmp_path, True)
    assert sorted(p.stem for p in tmp_path.glob("*.index")) == [f"model.ckpt-{n}" for n in (0, 10, 20)]
    assert Path(str(tf.train.latest_checkpoint(str(tmp_path)))).name == "model.ckpt-20"
    assert int(tf.train.load_variable(str(tmp_path), "global_step")) == 20


def test_a_write_that_is_under_way_ends_also_when_training_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = threading.Event()

    class Failing(v1.train.SessionRunHook):
        def after_run(self, run_context: Any, run_values: Any) -> None:
            assert tf.train.latest_checkpoint(str(tmp_path)) is None
            failed.set()
            raise ZeroDivisionError

    SlowWrite(monkeypatch, until=failed.is_set)
    config = RunConfig(save_checkpoints_async=True, save_checkpoints_steps=10)
    with pytest.raises(ZeroDivisionError):
        Estimator(linear_model.model_fn, tmp_path, config, params={}).train(
            linear_model.training_input, steps=45, hooks=[Failing()]
        )
    assert int(tf.train.load_variable(str(tmp_path), "global_step")) == 0


def test_a_saver_of_tensorflow_restores_the_files(tmp_path: Path) -> None:
    ours = trained(tmp_path, True)
    with tf.Graph().as_default(), v1.Session() as session:
        kernel = v1.get_variable("kernel", [4, 1])
        v1.train.Saver().restore(session, tf.train.latest_checkpoint(str(tmp_path)))
        np.testing.assert_array_equal(session.run(kernel), ours.get_variable_value("kernel"))
    trained(tmp_path, False)
    assert int(tf.train.load_variable(str(tmp_path), "global_step")) == 90


def test_partitioned_variables_and_an_average_are_saved_whole(tmp_path: Path) -> None:
    def model_fn(features: Any, labels: Any, mode: str) -> EstimatorSpec:
        partitioner = v1.fixed_size_partitioner(2)
        kernel = v1.get_variable("kernel", [4, 1], partitioner=partitioner)
        loss = v1.losses.mean_squared_error(labels, tf.matmul(features, tf.convert_to_tensor(kernel)))
        step = v1.train.get_global_step()
        train_op = v1.train.AdamOptimizer(0.1).minimize(loss, step)
        average = tf.train.ExponentialMovingAverage(0.9)
        with tf.control_dependencies([train_op]):
            return EstimatorSpec(mode, loss=loss, train_op=average.apply(list(kernel)))

    values = []
    for background in (False, True):
        directory = tmp_path / str(background)
        config = RunConfig(tf_random_seed=1, save_checkpoints_async=background)
        Estimator(model_fn, directory, config).train(linear_model.training_input, steps=5)
        reader = tf.train.load_checkpoint(str(directory))
        values.append({name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()})
    assert values[0].keys() == values[1].keys()
    for name, value in values[0].items():
        np.testing.assert_array_equal(value, values[1][name], name)
    assert values[1]["kernel"].shape == (4, 1)


def old_format_scaffold(features: Any, labels: Any, mode: str, params: Any) -> EstimatorSpec:
    spec = linear_model.model_fn(features, labels, mode, {})
    saver = v1.train.Saver(write_version=v1.train.SaverDef.V1, defer_build=False)
    return spec._replace(scaffold=v1.train.Scaffold(saver=saver))


def test_a_saver_of_another_format_blocks_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = RunConfig(save_checkpoints_steps=2, save_checkpoints_async=True)
    estimator = Estimator(old_format_scaffold, tmp_path, config, params={})
    estimator.train(linear_model.training_input, steps=3)
    assert caplog.text.count("training waits for each checkpoint, since the Saver has no") == 1
    assert (tmp_path / "model.ckpt-3.meta").exists()


def test_parameter_servers_write_themselves() -> None:
    with tf.Graph().as_default(), tf.device("/job:ps/task:0"):
        saved = checkpoint_writer.SavedTensors([b"v"], [b""], [tf.constant(1.0)])
    assert "parameter servers" in str(background_saving.reason_against(saved))


@pytest.mark.parametrize("beside_training", [True, False])
def test_what_a_killed_process_has_begun_is_removed(tmp_path: Path, beside_training: bool) -> None:
    parts = tmp_path / "model.ckpt-7_temp"
    parts.mkdir()
    left_over = [
        parts / "part-00000-of-00001.data-00000-of-00001.tempstate12",
        tmp_path / "model.ckpt-7.data-00000-of-00001.tempstate12",
        tmp_path / "model.ckpt-7.meta.unfinished",
    ]
    for path in left_over:
        path.touch()
    trained(tmp_path, beside_training)
    assert not any(path.exists() for path in [parts, *left_over])


PROGRAM = """
import sys
from orchestrator.estimator.estimator import Estimator
from orchestrator.estimator.run_config import RunConfig
from orchestrator.estimator.specs import EstimatorSpec
from tests.estimator import linear_model
import tensorflow as tf
v1 = tf.compat.v1
ROWS = 20_000

def model_fn(features, labels, mode):
    big = v1.get_variable("big", [ROWS, 1000], initializer=v1.zeros_initializer())
    spec = linear_model.model_fn(features, labels, mode, {})
    with tf.control_dependencies([spec.train_op]):
        return spec._replace(train_op=tf.group(big.assign_add(tf.ones([ROWS, 1000]))))

config = RunConfig(save_checkpoints_steps=3, save_checkpoints_async=True, keep_checkpoint_max=1)
Estimator(model_fn, sys.argv[1], config).train(linear_model.training_input, max_steps=1_000_000)
"""


def test_the_newest_complete_checkpoint_survives_a_kill_in_mid_write(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    resumed_from = 0
    for _ in range(2):
        with subprocess.Popen([sys.executable, "-c", PROGRAM, str(tmp_path)], env=environment) as process:
            try:
                _stop_in_mid_write(tmp_path, resumed_from, process)
            finally:
                process.send_signal(signal.SIGKILL)
        reader = tf.train.load_checkpoint(str(tf.train.latest_checkpoint(str(tmp_path))))
        step = int(reader.get_tensor("global_step"))
        assert step >= resumed_from
        np.testing.assert_array_equal(reader.get_tensor("big"), np.full([20_000, 1000], step, np.float32))
        resumed_from = step


def _stop_in_mid_write(model_dir: Path, after_step: int, process: subprocess.Popen[bytes]) -> None:
    """Stops it while it writes a checkpoint, and one newer than `after_step` is complete."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and process.poll() is None:
        if _in_mid_write(model_dir, after_step):
            process.send_signal(signal.SIGSTOP)
            _wait_until_stopped(process.pid)
            if _in_mid_write(model_dir, after_step):
                return
            process.send_signal(signal.SIGCONT)
        time.sleep(0.005)
    raise AssertionError(f"not in the middle of a second checkpoint within 240 s, or ended: {process.poll()}")


def _wait_until_stopped(pid: int) -> None:
    threads = [path / "stat" for path in Path(f"/proc/{pid}/task").iterdir()]
    wait_until(lambda: all(_state(path) in (None, "T") for path in threads), "stop of every thread")


def _state(thread: Path) -> str | None:
    """None of a thread that has ended."""
    try:
        return thread.read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return None


def _in_mid_write(model_dir: Path, after_step: int) -> bool:
    newest = tf.train.latest_checkpoint(str(model_dir))
    complete = newest is not None and int(newest.rpartition("-")[2]) > after_step
    return complete and any(_size(path) for path in model_dir.glob("*.tempstate*"))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
