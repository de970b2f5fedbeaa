"""Fine-tuning as users start it: two commands, every strategy, and a chief that is killed."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.integration import braked_cifar
from tests.integration.launched import Launched
from tests.warm_start import real_checkpoints as real

pytest.importorskip("sklearn", reason="the digits come from scikit-learn")

pytestmark = pytest.mark.timeout(900)
ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "cluster_configs"
ENV = {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)}
PICTURES = real.DATA / "cifar10_jpeg_subset" / "cifar10_jpg_train3000_test1000.tar.gz"
LOADED = "variables loaded"
NOT_AGAIN = "is not done again"


def run(place: Path, *words: str) -> Launched:
    place.mkdir(exist_ok=True)
    return Launched(place, *words, env=ENV)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared digits."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def donor(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """A model that reads the digits 0 to 4, made by the first of the two commands."""
    place = tmp_path_factory.mktemp("donor")
    words = ["--experiment", "examples.fine_tune_digits:pretrain", "--data-dir", str(data)]
    with run(place, str(CONFIGS / "local.yaml"), *words, "--model-dir", str(place / "model")) as launched:
        assert launched.wait() == 0, launched.output
        assert launched.summary["metrics"]["accuracy"] > 0.97
    return place / "model"


def test_the_second_command_learns_the_other_digits_from_a_hundred_pictures(
    tmp_path: Path, donor: Path, data: Path
) -> None:
    words = ["--data-dir", str(data), "--set", f"warm_start.checkpoint={donor}"]
    file = str(CONFIGS / "local_fine_tune.yaml")
    with run(tmp_path, file, *words, "--model-dir", str(tmp_path / "model")) as launched:
        assert launched.wait() == 0, launched.output
        assert LOADED in launched.output
        assert launched.summary["metrics"]["accuracy"] > 0.9


STRATEGIES = {
    "mirrored": "strategy: {name: mirrored, logical_devices: 2}\ntasks: {chief: {}}\n",
    "multi_worker_mirrored": "strategy: multi_worker_mirrored\ntasks: {chief: {}, worker: {}}\n",
    "parameter_server": "strategy: parameter_server\ntasks: {chief: {}, worker: {}, ps: {}}\n",
}
COPIES = {"mirrored": (1, 2), "multi_worker_mirrored": (2, 1), "parameter_server": (2, 1)}
"""Tasks that train, and replicas in each of them."""


@pytest.mark.parametrize("name", list(STRATEGIES))
def test_every_replica_starts_from_the_donors_weights(
    tmp_path: Path, donor: Path, data: Path, name: str
) -> None:
    (tmp_path / "cluster.yaml").write_text(f"name: a\n{STRATEGIES[name]}")
    options = ["--warm-start", str(donor), "--exclude", "head", "--data-dir", str(data)]
    options += ["--experiment", "tests.integration.warm_started_digits:experiment"]
    tasks, replicas = COPIES[name]
    options += ["--set", f"params.place={tmp_path}", "--set", f"params.tasks={tasks}"]
    options += ["--model-dir", str(tmp_path / "model")]
    with run(tmp_path, "cluster.yaml", *options) as launched:
        assert launched.wait() == 0, launched.output
        logs = [log.read_text() for log in launched.run_dir.logs.glob("*.log")]
    recorded = sorted(tmp_path.glob("*.npz"))
    assert len(recorded) == tasks
    for path in recorded:
        values = dict(np.load(path))
        body = [key for key in values if key.startswith("body/")]
        assert len(body) == 6 * replicas
        for key in body:
            expected = tf.train.load_variable(str(donor), key.partition(" ")[0])
            np.testing.assert_array_equal(values[key], expected)
        for key, value in values.items():
            assert np.array_equal(value, values[key.partition(" ")[0] + " on replica 0"])
    heads = [dict(np.load(path))["head/kernel on replica 0"] for path in recorded]
    assert all(np.array_equal(head, heads[0]) for head in heads)
    said = sum(LOADED in log for log in logs)
    assert said == (1 if name != "multi_worker_mirrored" else 2)


def accuracy_after_a_kill(tmp_path: Path, *options: str) -> float:
    """Fine-tunes MobileNet on CIFAR's pictures; the chief is killed at step 10 and goes on to the end."""
    words = ["--experiment", "tests.integration.braked_cifar:experiment"]
    words += ["--model-dir", str(tmp_path / "model")]
    words += ["--warm-start", str(real.MOBILENET_TF1), "--exclude", "Logits"]
    words += ["--set", f"params.pictures={PICTURES}", "--set", f"params.release={tmp_path / 'release'}"]
    words += ["--set", "run_config.save_checkpoints_steps=10"]
    words += ["--set", "run_policy.restart_delay_seconds=0.2"]
    with run(tmp_path, str(CONFIGS / "local.yaml"), *words, *options) as launched:
        launched.wait_for_checkpoint(10)
        launched.kill_task("chief-0")
        launched.wait_for("the second attempt", lambda state, _: state.attempt == 1)
        (tmp_path / "release").touch()
        assert launched.wait() == 0, launched.output
        assert launched.restarts() == ["attempt"]
        assert launched.output.count(LOADED) == 1
        assert launched.output.count(NOT_AGAIN) == 1
        assert launched.summary["global_step"] == braked_cifar.MAX_STEPS
        return float(launched.summary["metrics"]["accuracy"])


@real.needs_data
def test_a_killed_chief_goes_on_from_its_own_checkpoint(tmp_path: Path) -> None:
    assert accuracy_after_a_kill(tmp_path, "--set", "warm_start.trainable=Head") > 0.35
