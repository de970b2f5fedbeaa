"""A model_dir goes from the tf.estimator of TensorFlow 2.15 to ours and back, and nothing is lost.

Set GENUINE_PYTHON to an interpreter with TensorFlow 2.15 for both directions
with the genuine one; without it a model_dir that it has written is resumed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from orchestrator.estimator.estimator import Estimator
from orchestrator.estimator.specs import EstimatorSpec

HERE = Path(__file__).parent
WRITTEN_BY_2_15 = HERE / "model_dir_of_2_15"
PROGRAM = str(HERE / "resumable_program.py")
GENUINE = [os.environ.get("GENUINE_PYTHON", ""), PROGRAM]
OURS = [sys.executable, "-m", "orchestrator.estimator", PROGRAM]
ACCURACY = {"rtol": 1e-4, "atol": 1e-5}
"""Machines round differently; a slot or a step that is lost shows in the first digit."""
v1 = tf.compat.v1


def train(program: list[str], model_dir: Path, max_steps: int) -> list[float]:
    """Trains on; returns what the model then says about fixed rows."""
    command = [*program, "--model_dir", str(model_dir), "--max_steps", str(max_steps)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1000, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    line = next(line for line in done.stdout.splitlines() if line.startswith("PREDICTED "))
    return list(json.loads(line.removeprefix("PREDICTED ")))


def assert_same_variables(one: Path, other: Path) -> None:
    """Same names, shapes and values: weights, statistics of batch norm, slots of Adam, global step."""
    names = dict(tf.train.list_variables(str(one)))
    assert names == dict(tf.train.list_variables(str(other)))
    assert {"global_step", "beta1_power", "first/kernel/Adam_1", "block/keras_dense/bias/Adam"} <= set(names)
    for name in names:
        values = [tf.train.load_variable(str(prefix), name) for prefix in (one, other)]
        np.testing.assert_allclose(*values, **ACCURACY, err_msg=name)


def losses(model_dir: Path) -> dict[int, float]:
    """The loss summaries by step, in the order of the event files."""
    found = {}
    for path in sorted(model_dir.glob("events.out.tfevents.*")):
        for event in v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                if value.tag == "loss":
                    found[event.step] = value.simple_value
    return found


def state_of(model_dir: Path) -> tuple[str, list[str]]:
    """What the `checkpoint` file says, without directories."""
    state = tf.train.get_checkpoint_state(str(model_dir))
    return Path(state.model_checkpoint_path).name, [Path(p).name for p in state.all_model_checkpoint_paths]


def names_of(*steps: int) -> list[str]:
    return [f"model.ckpt-{step}" for step in steps]


def test_a_model_dir_of_2_15_is_resumed(tmp_path: Path) -> None:
    pytest.importorskip("tf_keras", reason="tf.compat.v1.layers needs tf-keras")
    model_dir = tmp_path / "model"
    shutil.copytree(WRITTEN_BY_2_15, model_dir, ignore=shutil.ignore_patterns("continued"))
    assert state_of(model_dir) == ("model.ckpt-10", names_of(0, 5, 10))

    train(OURS, model_dir, 20)

    assert_same_variables(model_dir / "model.ckpt-20", WRITTEN_BY_2_15 / "continued" / "model.ckpt-20")
    assert state_of(model_dir) == ("model.ckpt-20", names_of(10, 15, 20))
    assert {path.stem for path in model_dir.glob("*.index")} == set(names_of(10, 15, 20)), "old ones stay"
    assert list(losses(model_dir)) == [1, 6, 11, 16]


@pytest.mark.timeout(6000)
@pytest.mark.skipif(not GENUINE[0], reason="GENUINE_PYTHON names no interpreter with TensorFlow 2.15")
def test_training_goes_there_and_back(tmp_path: Path) -> None:
    ours, genuine = tmp_path / "ours", tmp_path / "genuine"
    train(OURS, ours, 10)
    shutil.copytree(ours, genuine)

    assert train(GENUINE, genuine, 20) == pytest.approx(train(OURS, ours, 20), rel=1e-4)
    assert_same_variables(genuine / "model.ckpt-20", ours / "model.ckpt-20")
    assert state_of(genuine) == state_of(ours) == ("model.ckpt-20", names_of(10, 15, 20))
    assert {path.stem for path in genuine.glob("*.index")} == set(names_of(10, 15, 20))

    assert train(OURS, genuine, 30) == pytest.approx(train(GENUINE, ours, 30), rel=1e-4)
    assert_same_variables(genuine / "model.ckpt-30", ours / "model.ckpt-30")
    assert state_of(genuine) == state_of(ours) == ("model.ckpt-30", names_of(20, 25, 30))
    assert list(losses(genuine)) == list(losses(ours)) == [1, 6, 11, 16, 21, 26]


def test_unnamed_layers_of_keras_3_have_the_same_names_in_every_graph(tmp_path: Path) -> None:
    keras = pytest.importorskip("keras", minversion="3")

    def model_fn(features: tf.Tensor, mode: str) -> EstimatorSpec:
        output = keras.layers.Dense(1)(keras.layers.Dense(3)(features))
        if mode == "infer":
            return EstimatorSpec(mode, predictions=output)
        loss = tf.reduce_mean(tf.square(output - 1.0))
        train_op = v1.train.AdamOptimizer(0.1).minimize(loss, v1.train.get_global_step())
        return EstimatorSpec(mode, loss=loss, train_op=train_op)

    def rows() -> tf.data.Dataset:
        return tf.data.Dataset.from_tensors(np.ones([4, 2], np.float32)).repeat(2)

    keras.layers.Dense(1)  # counts outside of any model_fn as well
    for trained in (2, 4):
        estimator = Estimator(model_fn, str(tmp_path))
        estimator.train(rows)
        assert estimator.evaluate(rows)["global_step"] == trained
        assert len(list(estimator.predict(rows))) == 8
    assert {"dense/kernel", "dense_1/bias/Adam"} <= set(estimator.get_variable_names())
    assert keras.layers.Dense(1).name != "dense"
