from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from orchestrator.errors import ConfigError, EnvironmentProblem
from orchestrator.estimator import Estimator, RunConfig
from orchestrator.experiments import digits

pytest.importorskip("sklearn", reason="the digits come from scikit-learn")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("data")
    digits.prepare_data(str(directory))
    return directory


@pytest.fixture
def task(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, data_dir: Path) -> None:
    """As under the launcher, which says where the data is."""
    monkeypatch.setenv("ORCHESTRATOR_RUN_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("ORCHESTRATOR_TASK", "chief-0")
    monkeypatch.setenv("ORCHESTRATOR_DATA_DIR", str(data_dir))


def config_of(tmp_path: Path, **arguments: Any) -> RunConfig:
    return RunConfig(model_dir=str(tmp_path / "model"), **arguments)


def images_seen(dataset: tf.data.Dataset, batches: int) -> set[bytes]:
    return {image.tobytes() for images, _ in dataset.take(batches).as_numpy_iterator() for image in images}


@pytest.mark.parametrize("name", ["max_steps", "batch_size", "learning_rate"])
def test_a_number_out_of_range_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=f"params.{name} is 0; it must be above 0"):
        digits.experiment(config_of(tmp_path), **{name: 0})


def test_it_is_saved_and_told_of_often_unless_the_cluster_file_says(task: None, tmp_path: Path) -> None:
    config = digits.experiment(config_of(tmp_path), max_steps=500).estimator.config
    assert (config.save_checkpoints_steps, config.log_step_count_steps) == (100, 100)
    config = digits.experiment(config_of(tmp_path), max_steps=3).estimator.config
    assert config.save_checkpoints_steps == 1
    said = config_of(tmp_path, save_checkpoints_secs=7, log_step_count_steps=9)
    config = digits.experiment(said, max_steps=500).estimator.config
    assert (config.save_checkpoints_secs, config.log_step_count_steps) == (7, 9)


def test_parameter_server_tasks_share_the_images_between_them(
    task: None, tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = {"chief": ["h:1"], "worker": ["h:2", "h:3"], "ps": ["h:4"]}
    seen = []
    for kind, index in (("chief", 0), ("worker", 0), ("worker", 1)):
        monkeypatch.setenv(
            "TF_CONFIG", json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}})
        )
        train_spec = digits.experiment(config_of(tmp_path), batch_size=50).train_spec
        seen.append(images_seen(train_spec.input_fn(), batches=30))
    assert not seen[0] & seen[1]
    assert not seen[1] & seen[2]
    every = digits.digits(str(data_dir)).read("train").batch(2000)
    assert set.union(*seen) == images_seen(every.map(digits._scaled), batches=1)


def test_replicas_that_step_together_share_the_batch(task: None, tmp_path: Path) -> None:
    train_spec = digits.experiment(config_of(tmp_path), batch_size=64).train_spec
    context = tf.distribute.InputContext(2, 1, 4)
    images, labels = next(iter(train_spec.input_fn(input_context=context)))
    assert (images.shape, images.dtype) == ((16, 8, 8, 1), tf.float32)
    assert labels.shape == (16,)
    assert 0 <= float(tf.reduce_min(images)) < float(tf.reduce_max(images)) == 1.0


def test_the_seed_fixes_the_model_bit_for_bit(task: None, tmp_path: Path) -> None:
    def trained(name: str, seed: int) -> Estimator:
        config = RunConfig(model_dir=str(tmp_path / name))
        experiment = digits.experiment(config, max_steps=5, seed=seed)
        return experiment.estimator.train(experiment.train_spec.input_fn, max_steps=5)

    first, second, other = trained("first", 3), trained("second", 3), trained("other", 4)
    for variable in first.get_variable_names():
        assert np.array_equal(first.get_variable_value(variable), second.get_variable_value(variable)), (
            variable
        )
    kernels = [estimator.get_variable_value("hidden/kernel") for estimator in (first, other)]
    assert not np.array_equal(*kernels)


def test_data_that_was_not_prepared_is_told(
    task: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORCHESTRATOR_DATA_DIR", str(tmp_path / "empty"))
    experiment = digits.experiment(config_of(tmp_path))
    with pytest.raises(EnvironmentProblem, match=r"handwritten_digits is not prepared in .*empty"):
        experiment.estimator.train(experiment.train_spec.input_fn, max_steps=1)
