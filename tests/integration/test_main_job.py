"""The embedded default on each shipped cluster file, through the real command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.integration.command_line import FinishedJob, run_job

pytest.importorskip("sklearn", reason="the digits come from scikit-learn")
pytestmark = [pytest.mark.xdist_group("main_job"), pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Prepared by the first job, read by the others."""
    return str(tmp_path_factory.mktemp("data"))


def digits(place: Path, config: str, data_dir: str, max_steps: int, run: str = "run") -> FinishedJob:
    steps = f"params.max_steps={max_steps}"
    # Larger than the file's own period, so that short trainings too are saved several times.
    period = f"run_config.save_checkpoints_steps={max_steps // 4}"
    return run_job(
        place,
        f"cluster_configs/{config}.yaml",
        "--data-dir",
        data_dir,
        "--set",
        steps,
        "--set",
        period,
        run=run,
    )


def evaluated_steps(model_dir: Path) -> list[int]:
    """Global steps at which an accuracy was written."""
    files = sorted((model_dir / "eval").glob("events.out.tfevents.*"))
    events = (event for file in files for event in tf.compat.v1.train.summary_iterator(str(file)))
    return [event.step for event in events if any(value.tag == "accuracy" for value in event.summary.value)]


def newest_step(model_dir: Path) -> int:
    newest = tf.train.latest_checkpoint(str(model_dir))
    assert newest is not None
    return int(newest.rpartition("-")[2])


def test_parameter_servers_from_nothing_to_a_model_and_on(tmp_path: Path, data_dir: str) -> None:
    first = digits(tmp_path, "local_parameter_server", data_dir, max_steps=1000)
    assert first.code == 0, first.output
    summary, model = first.summary, tmp_path / "model"
    reached = newest_step(model)
    assert reached >= 1000
    assert (summary["state"], summary["exit_code"], summary["restarts"]) == ("succeeded", 0, 0)
    assert summary["metrics"]["accuracy"] >= 0.95
    assert summary["evaluation"]["global_step"] == summary["checkpoint_step"] == reached
    assert summary["evaluation"]["final"]
    assert summary["global_step"] >= 1000
    assert summary["wall_seconds"] > 0
    # On a busy machine it is killed before it has heard that it is not needed any more.
    assert first.exits.pop("ps-0") in (143, 137)
    assert {name: code for name, code in first.exits.items() if name != "ps-0"} == {
        "chief-0": 0,
        "worker-0": 0,
        "evaluator-0": 0,
    }
    peaks = [task["peak_memory_bytes"] for task in summary["tasks"].values()]
    # A task that is over between two samples has none.
    assert [peak for peak in peaks if peak is not None]
    assert all(peak is None or peak > 1e7 for peak in peaks)
    # How many there are before it depends on how busy the machine is.
    assert evaluated_steps(model)[-1] == reached
    assert f"accuracy {summary['metrics']['accuracy']:.4f}" in first.output
    assert "tensorboard --logdir" in first.output
    assert_serves_digits(model)

    again = digits(tmp_path, "local_parameter_server", data_dir, max_steps=1000, run="again")
    assert again.code == 0, again.output
    assert again.summary["metrics"]["accuracy"] == pytest.approx(summary["metrics"]["accuracy"])
    assert newest_step(model) == reached
    assert "already" in again.output
    assert evaluated_steps(model)[-2:] == [reached, reached]

    further = digits(tmp_path, "local_parameter_server", data_dir, max_steps=1200, run="further")
    assert further.code == 0, further.output
    assert f"model.ckpt-{reached}" in further.log("chief-0"), "went on from the last checkpoint"
    assert newest_step(model) >= 1200
    assert further.summary["evaluation"]["global_step"] == newest_step(model)


def assert_serves_digits(model_dir: Path) -> None:
    """The exported model takes bytes of images and answers with classes and probabilities."""
    (exported,) = (model_dir / "export" / "serving").iterdir()
    serve = tf.saved_model.load(str(exported)).signatures["serving_default"]
    answer = serve(images=tf.zeros((3, 8, 8, 1), tf.uint8))
    assert answer["class"].shape == (3,)
    assert np.allclose(answer["probabilities"].numpy().sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize(
    ("config", "exits"),
    [
        ("local", {"chief-0": 0}),
        ("local_mirrored", {"chief-0": 0}),
        ("local_multi_worker", {"chief-0": 0, "worker-0": 0}),
    ],
)
def test_the_other_cluster_files_train_the_same_model(
    tmp_path: Path, data_dir: str, config: str, exits: dict[str, int]
) -> None:
    job = digits(tmp_path, config, data_dir, max_steps=300)
    assert job.code == 0, job.output
    assert job.exits == exits
    assert job.summary["global_step"] == job.summary["evaluation"]["global_step"] == 300
    assert job.summary["metrics"]["accuracy"] >= 0.95
    assert newest_step(tmp_path / "model") == 300
    assert (tmp_path / "model" / "export" / "serving").is_dir()
    assert "Traceback" not in job.output
