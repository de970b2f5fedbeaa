"""Checkpoints that are damaged, gone or of another model."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from orchestrator.errors import CheckpointError, NotTrained
from orchestrator.estimator import checkpoints
from orchestrator.estimator.estimator import Estimator
from orchestrator.estimator.run_config import RunConfig
from orchestrator.estimator.specs import EstimatorSpec
from tests.estimator import linear_model

v1 = tf.compat.v1
pytestmark = pytest.mark.xdist_group("estimator")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory with checkpoints of the steps 0, 10, 20 and 30."""
    model_dir = tmp_path_factory.mktemp("saved")
    estimator(model_dir).train(linear_model.training_input, steps=30)
    return model_dir


@pytest.fixture
def model_dir(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "model"))


def estimator(model_dir: Path, model_fn: Any = linear_model.model_fn) -> Estimator:
    return Estimator(model_fn, model_dir, RunConfig(save_checkpoints_steps=10), params={})


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def damage(model_dir: Path, step: int, ending: str) -> None:
    (path,) = model_dir.glob(f"model.ckpt-{step}.{ending}*")
    truncate(path)


@pytest.mark.parametrize("ending", ["index", "data"])
def test_training_goes_on_from_the_newest_complete_checkpoint(model_dir: Path, ending: str) -> None:
    damage(model_dir, 30, ending)
    assert Path(checkpoints.newest(str(model_dir))).name == "model.ckpt-20"
    seen: list[int] = []

    class First(v1.train.SessionRunHook):
        def after_create_session(self, session: Any, coord: Any) -> None:
            seen.append(int(session.run(v1.train.get_global_step())))

    trained = estimator(model_dir).train(linear_model.training_input, max_steps=35, hooks=[First()])
    assert seen == [20]
    assert trained.get_variable_value("global_step") == 35


def test_a_checkpoint_with_missing_files_is_passed_over(model_dir: Path) -> None:
    for path in model_dir.glob("model.ckpt-30.*"):
        path.unlink()
    assert Path(checkpoints.newest(str(model_dir))).name == "model.ckpt-20"


def test_a_damaged_state_file_is_made_up_for_by_the_names(model_dir: Path) -> None:
    (model_dir / "checkpoint").write_text("model_checkpoint_path: ")
    assert Path(checkpoints.newest(str(model_dir))).name == "model.ckpt-30"


def test_nothing_is_overwritten_where_all_are_damaged(model_dir: Path) -> None:
    for step in (0, 10, 20, 30):
        damage(model_dir, step, "index")
    before = {path: path.read_bytes() for path in model_dir.glob("model.ckpt*")}
    with pytest.raises(CheckpointError, match=r"no checkpoint in .* can be read"):
        estimator(model_dir).train(linear_model.training_input, steps=5)
    assert {path: path.read_bytes() for path in model_dir.glob("model.ckpt*")} == before


def test_a_directory_whose_checkpoints_were_deleted_counts_as_new(model_dir: Path) -> None:
    for path in model_dir.glob("model.ckpt*"):
        path.unlink()
    assert checkpoints.newest(str(model_dir)) is None
    with pytest.raises(NotTrained, match="Could not find trained model"):
        checkpoints.required(str(model_dir))


def renamed(features: Any, labels: Any, mode: str) -> EstimatorSpec:
    kernel = v1.get_variable("kernels", [4, 1])
    loss = v1.losses.mean_squared_error(labels, tf.matmul(features, kernel))
    train_op = v1.train.GradientDescentOptimizer(0.1).minimize(loss, v1.train.get_global_step())
    return EstimatorSpec(mode, loss=loss, train_op=train_op)


def reshaped(features: Any, labels: Any, mode: str) -> EstimatorSpec:
    kernel = v1.get_variable("kernel", [4, 2])
    loss = tf.reduce_mean(tf.square(tf.matmul(features, kernel) - labels))
    train_op = v1.train.GradientDescentOptimizer(0.1).minimize(loss, v1.train.get_global_step())
    return EstimatorSpec(mode, loss=loss, train_op=train_op)


@pytest.mark.parametrize(
    ("model_fn", "reason"),
    [
        (renamed, "not in the checkpoint: kernels Did you mean 'kernel'"),
        (reshaped, r"kernel has shape \[4, 2\] in the model and \[4, 1\] in the checkpoint"),
    ],
)
def test_a_checkpoint_of_another_model_is_explained(model_dir: Path, model_fn: Any, reason: str) -> None:
    other = Estimator(model_fn, model_dir)
    for use in (
        lambda: other.train(linear_model.training_input, steps=1),
        lambda: other.evaluate(linear_model.evaluation_input),
    ):
        with pytest.raises(CheckpointError, match=reason):
            use()
    assert checkpoints.global_step_of(checkpoints.newest(str(model_dir))) == 30


def test_the_step_of_a_checkpoint(model_dir: Path) -> None:
    assert checkpoints.global_step_of(checkpoints.newest(str(model_dir))) == 30
    assert checkpoints.global_step_of(None) == 0
