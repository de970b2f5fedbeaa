"""The input's position: saved beside each checkpoint, found again by the next run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from orchestrator.errors import CheckpointError, InvalidArgument
from orchestrator.estimator import input_position, strategies
from orchestrator.estimator.estimator import Estimator
from orchestrator.estimator.inputs import numpy_input_fn
from orchestrator.estimator.run_config import RunConfig
from orchestrator.estimator.specs import EstimatorSpec
from tests.estimator import linear_model

v1 = tf.compat.v1
pytestmark = pytest.mark.xdist_group("estimator")
ROWS, BATCH = 24, 4
BATCHES = ROWS // BATCH


def shuffled(rows: int = ROWS, batch: int = BATCH, epochs: int | None = 1) -> tf.data.Dataset:
    """Row numbers and the rows of the linear model, shuffled anew in every epoch, read ahead."""
    features, labels = linear_model.examples(rows)
    numbers = np.arange(rows, dtype=np.int64)
    dataset = tf.data.Dataset.from_tensor_slices(({"row": numbers, "x": features}, labels))
    dataset = dataset.shuffle(rows).repeat(epochs)
    doubled = dataset.map(lambda x, y: ({"row": x["row"], "x": x["x"] * 2.0}, y * 2.0), num_parallel_calls=2)
    return doubled.batch(batch, drop_remainder=True).prefetch(2)


class RowsSeen(v1.train.SessionRunHook):
    """Collects the row numbers of every step from the tensors that the model put into a collection."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def begin(self) -> None:
        self._tensors = v1.get_collection("rows")

    def before_run(self, run_context: Any) -> Any:
        return v1.train.SessionRunArgs(self._tensors)

    def after_run(self, run_context: Any, run_values: Any) -> None:
        for rows in run_values.results:
            self.rows += rows.tolist()


def model_fn(features: Any, labels: Any, mode: str) -> EstimatorSpec:
    v1.add_to_collection("rows", features["row"])
    return linear_model.model_fn(features["x"], labels, mode, {"learning_rate": 0.01})


def estimator(model_dir: Path, **config: Any) -> Estimator:
    settings = {"save_checkpoints_steps": 3, "tf_random_seed": 5, "save_input_state": True, **config}
    return Estimator(model_fn, model_dir, RunConfig(**settings))


def position_files(model_dir: Path) -> list[str]:
    return sorted(path.name for path in model_dir.glob("*.input-*"))


def test_a_resumed_run_sees_every_example_of_the_epoch_once(tmp_path: Path) -> None:
    hook = RowsSeen()
    for steps in (2, 3, None):
        estimator(tmp_path).train(shuffled, hooks=[hook], steps=steps)
    assert sorted(hook.rows) == list(range(ROWS))
    assert hook.rows != sorted(hook.rows)


def test_without_the_setting_the_input_starts_again(tmp_path: Path) -> None:
    hook = RowsSeen()
    for _ in range(2):
        estimator(tmp_path, save_input_state=False).train(shuffled, hooks=[hook], steps=BATCHES - 1)
    assert len(set(hook.rows)) < len(hook.rows)
    assert position_files(tmp_path) == []


def test_an_input_that_has_ended_starts_again(tmp_path: Path) -> None:
    by_end, by_steps = RowsSeen(), RowsSeen()
    for _ in range(2):
        estimator(tmp_path / "end").train(shuffled, hooks=[by_end])
        estimator(tmp_path / "steps").train(shuffled, hooks=[by_steps], steps=BATCHES)
    assert Counter(by_end.rows) == Counter(by_steps.rows) == dict.fromkeys(range(ROWS), 2)


@pytest.mark.parametrize("config", [{}, {"save_checkpoints_async": True}, {"steps_per_loop": 4}])
def test_training_in_parts_gives_the_weights_of_training_at_once(
    tmp_path: Path, config: dict[str, Any]
) -> None:
    def endless() -> tf.data.Dataset:
        return shuffled(epochs=None)

    once = estimator(tmp_path / "once", **config).train(endless, steps=17)
    for steps in (4, 6, 7):
        parts = estimator(tmp_path / "parts", **config).train(endless, steps=steps)
    np.testing.assert_array_equal(once.get_variable_value("kernel"), parts.get_variable_value("kernel"))


@pytest.mark.parametrize("background", [False, True])
def test_positions_are_removed_with_their_checkpoints(tmp_path: Path, background: bool) -> None:
    left_over = tmp_path / "model.ckpt-1.input-00000-of-00001.unfinished"
    left_over.touch()
    trained = estimator(tmp_path, keep_checkpoint_max=2, save_checkpoints_async=background)
    trained.train(lambda: shuffled(epochs=None), steps=10)
    assert position_files(tmp_path) == [f"model.ckpt-{n}.input-00000-of-00001" for n in (10, 9)]
    assert sorted(p.stem for p in tmp_path.glob("*.index")) == ["model.ckpt-10", "model.ckpt-9"]


@pytest.mark.parametrize("name", ["one_device", "mirrored", "central_storage"])
def test_replicas_resume_where_they_were(tmp_path: Path, name: str) -> None:
    def half_batches(input_context: Any) -> tf.data.Dataset:
        assert input_context.num_replicas_in_sync == (1 if name == "one_device" else 2)
        return shuffled(batch=2, epochs=2)

    def trained(model_dir: Path, steps: int | None, save: bool = True) -> Estimator:
        strategy = strategies.make_strategy(name, None if name == "one_device" else 2)
        config = {"train_distribute": strategy, "save_input_state": save}
        return estimator(model_dir, **config).train(half_batches, hooks=[hook], steps=steps)

    hook = RowsSeen()
    once = trained(tmp_path / "once", None)
    assert Counter(hook.rows) == dict.fromkeys(range(ROWS), 2)
    hook = RowsSeen()
    trained(tmp_path / "parts", 2)
    parts = trained(tmp_path / "parts", None)
    assert Counter(hook.rows) == dict.fromkeys(range(ROWS), 2)
    plain = trained(tmp_path / "plain", None, save=False)
    kernels = [run.get_variable_value("kernel") for run in (once, parts, plain)]
    np.testing.assert_array_equal(kernels[0], kernels[1])
    np.testing.assert_array_equal(kernels[0], kernels[2])
    assert int(parts.get_variable_value("global_step")) == int(plain.get_variable_value("global_step"))


def with_python() -> tf.data.Dataset:
    return shuffled().map(lambda x, y: (x, tf.numpy_function(np.copy, [y], tf.float32, stateful=True)))


def with_random_numbers() -> tf.data.Dataset:
    return shuffled().map(lambda x, y: (x, y + tf.random.uniform([], name="jitter")))


@pytest.mark.parametrize(
    ("input_fn", "name"), [(with_python, "PyFunc"), (with_random_numbers, "jitter/RandomUniform")]
)
@pytest.mark.filterwarnings("ignore:Seed")
def test_what_cannot_be_saved_is_refused_before_the_first_step(
    tmp_path: Path, input_fn: Any, name: str
) -> None:
    with pytest.raises(InvalidArgument, match=rf"{input_fn.__name__}.*{name}"):
        estimator(tmp_path).train(input_fn, steps=1)
    assert not list(tmp_path.glob("model.ckpt*"))


def test_tensors_are_refused_by_the_name_of_their_operation(tmp_path: Path) -> None:
    def tensors() -> Any:
        return {"row": tf.range(4, name="rows"), "x": tf.ones([4, 4])}, tf.ones([4, 1])

    with pytest.raises(InvalidArgument, match="'rows'"):
        estimator(tmp_path).train(tensors, steps=1)


def test_asynchronous_parameter_servers_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = {"chief": ["a:1"], "worker": ["b:1"], "ps": ["c:1"]}
    task = {"type": "chief", "index": 0}
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": task}))
    with pytest.raises(InvalidArgument, match="parameter servers"):
        estimator(tmp_path).train(shuffled, steps=1)


def test_arrays_are_read_through_their_dataset(tmp_path: Path) -> None:
    features, labels = linear_model.examples(ROWS)
    columns = {"row": np.arange(ROWS), "x": features}
    input_fn = numpy_input_fn(columns, labels, batch_size=BATCH, shuffle=False, num_epochs=1)
    hook = RowsSeen()
    estimator(tmp_path).train(input_fn, hooks=[hook], steps=2)
    estimator(tmp_path).train(input_fn, hooks=[hook])
    assert hook.rows == list(range(ROWS))


def test_the_position_of_another_input_is_refused(tmp_path: Path) -> None:
    estimator(tmp_path).train(shuffled, steps=2)
    with pytest.raises(CheckpointError, match=r"model\.ckpt-2\.input-00000-of-00001"):
        estimator(tmp_path).train(lambda: shuffled().skip(1).take(2).cache(), steps=2)


def test_a_checkpoint_without_position_is_trained_on_from_the_first_row(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    estimator(tmp_path, save_input_state=False).train(shuffled, steps=2)
    hook = RowsSeen()
    estimator(tmp_path).train(shuffled, hooks=[hook])
    assert sorted(hook.rows) == list(range(ROWS))
    assert "model.ckpt-2.input-00000-of-00001" in caplog.text


def test_only_files_of_checkpoints_that_are_gone_are_orphans(tmp_path: Path) -> None:
    files = input_position.PositionFiles(str(tmp_path / "model.ckpt"), 0, 2)
    other = input_position.PositionFiles(str(tmp_path / "model.ckpt"), 1, 2)
    for step in (1, 2, 3, 4):
        files.write(step, b"state")
        other.write(step, b"state")
    (tmp_path / "model.ckpt-2.index").touch()
    files.remove_orphans(3)
    assert [files.read(step) for step in (1, 2, 3, 4)] == [None, b"state", b"state", b"state"]
    assert other.read(1) is None
    assert other.read(2) == b"state"


PROGRAM = """
import sys
from pathlib import Path
from tests.estimator import test_input_position as test
config = {"save_checkpoints_steps": 50, "save_checkpoints_async": sys.argv[2] == "beside"}
test.estimator(Path(sys.argv[1]), **config).train(lambda: test.shuffled(epochs=None), max_steps=10**9)
"""


@pytest.mark.parametrize("saver", ["blocking", "beside"])
def test_a_killed_run_ends_with_the_weights_of_an_undisturbed_one(tmp_path: Path, saver: str) -> None:
    killed = tmp_path / "killed"
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(killed), saver],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    ) as process:
        _wait_for_step(killed, 100, process)
        process.send_signal(signal.SIGKILL)
    step = int(tf.train.load_variable(str(killed), "global_step"))
    assert step >= 100
    last_step = step + 30
    estimator(killed).train(lambda: shuffled(epochs=None), max_steps=last_step)
    undisturbed = estimator(tmp_path / "undisturbed").train(
        lambda: shuffled(epochs=None), max_steps=last_step
    )
    for name in ("kernel", "global_step"):
        expected = undisturbed.get_variable_value(name)
        np.testing.assert_array_equal(tf.train.load_variable(str(killed), name), expected)


def _wait_for_step(model_dir: Path, step: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline and process.poll() is None:
        newest = tf.train.latest_checkpoint(str(model_dir))
        if newest is not None and int(newest.rpartition("-")[2]) >= step:
            return
        time.sleep(0.05)
    raise AssertionError(f"no checkpoint of step {step} within 180 s, or ended: {process.poll()}")
