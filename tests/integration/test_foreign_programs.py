"""Programs that know TF_CONFIG and nothing of ours, run as every task after `--`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import tensorflow as tf

from tests.integration.command_line import REPOSITORY, FinishedJob, run_job

pytest.importorskip("sklearn", reason="the programs read scikit-learn's digits")
pytestmark = [pytest.mark.xdist_group("foreign_programs"), pytest.mark.timeout(900)]

CLUSTER = """\
name: loop
strategy: multi_worker_mirrored
tasks: {chief: {replicas: 1}, worker: {replicas: 1}}
"""
FOREIGN = REPOSITORY / "examples" / "foreign"


def accuracy(job: FinishedJob) -> float:
    found = re.search(r"accuracy (\d\.\d+)", job.log("chief-0"))
    assert found, job.output
    return float(found[1])


def test_a_custom_loop_steps_together_and_resumes(tmp_path: Path) -> None:
    def train(steps: int, run: str) -> FinishedJob:
        program = ("python", str(FOREIGN / "multi_worker_loop.py"), "--steps", str(steps))
        cluster = tmp_path / "cluster.yaml"
        cluster.write_text(CLUSTER)
        return run_job(tmp_path, str(cluster), "--", *program, run=run)

    first = train(100, "first")
    assert first.code == 0, first.output
    assert first.exits == {"chief-0": 0, "worker-0": 0}
    assert "2 replicas" in first.log("worker-0")
    assert accuracy(first) > 0.8
    losses = [re.findall(r"step (\d+) loss ([\d.]+)", first.log(task)) for task in ("chief-0", "worker-0")]
    assert losses[0] == losses[1] != []

    second = train(150, "second")
    assert second.code == 0, second.output
    assert "restored step 100" in second.log("worker-0")
    assert tf.train.latest_checkpoint(str(tmp_path / "model")) is not None


def test_a_coordinator_ends_and_its_servers_are_ended(tmp_path: Path) -> None:
    program = ("python", "-u", str(FOREIGN / "parameter_server_coordinator.py"), "--steps", "100")
    job = run_job(tmp_path, "examples/foreign/coordinator.yaml", "--", *program)
    assert job.code == 0, job.output
    assert job.exits["chief-0"] == 0
    assert sorted(job.exits) == ["chief-0", "ps-0", "worker-0", "worker-1"]
    assert job.summary["state"] == "succeeded"
    assert accuracy(job) > 0.8
    assert tf.train.latest_checkpoint(str(tmp_path / "model")) is not None
