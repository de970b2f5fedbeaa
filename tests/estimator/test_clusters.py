"""Real clusters of processes, without a launcher: what TF_CONFIG alone brings about."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from orchestrator.cluster.task import TaskId
from orchestrator.estimator.estimator import Estimator
from orchestrator.estimator.run_config import RunConfig
from orchestrator.launch.ports import PortHolder
from tests.estimator import linear_model

pytestmark = [pytest.mark.xdist_group("clusters"), pytest.mark.timeout(1000)]
ROOT = Path(__file__).parents[2]
SECONDS = 800
"""Generous: each of up to five processes imports TensorFlow, maybe on a slow machine."""
STEPS = 24


class Cluster:
    """Processes that run `cluster_program` as the tasks of one cluster."""

    def __init__(self, directory: Path, maker: str, tasks: list[str], **settings: Any) -> None:
        self._settings = json.dumps(settings)
        self.model_dir = directory / "model"
        self._directory = directory
        self._ports = PortHolder()  # for as long as the cluster lives: nobody else gets them
        addresses: dict[str, list[str]] = {}
        for task in map(TaskId.parse, tasks):
            if task.type != "evaluator":
                addresses.setdefault(task.type.value, []).append(f"127.0.0.1:{self._ports.hold(task)}")
        self.processes = {task: self._start(task, maker, addresses) for task in tasks}

    def _start(self, task: str, maker: str, addresses: dict[str, list[str]]) -> subprocess.Popen[bytes]:
        task_type, _, index = task.partition("-")
        place = {"cluster": addresses, "task": {"type": task_type, "index": int(index)}}
        environment = {**os.environ, "TF_CONFIG": json.dumps(place), "PYTHONPATH": str(ROOT)}
        environment["TF_GRPC_REUSE_PORT"] = "1"
        program = [sys.executable, "-m", "tests.estimator.cluster_program"]
        command = [*program, str(self.model_dir), maker, self._settings]
        with (self._directory / f"{task}.log").open("wb") as log:
            return subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=ROOT)

    def log(self, task: str) -> str:
        return (self._directory / f"{task}.log").read_text(errors="replace")

    def wait(self, *tasks: str) -> None:
        """Until these tasks have ended; fails with their logs where one failed or did not end."""
        deadline = time.monotonic() + SECONDS
        for task in tasks:
            try:
                code = self.processes[task].wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                pytest.fail(f"{task} still runs after {SECONDS} s:\n{self.log(task)[-3000:]}")
            assert code == 0, f"{task} ended with {code}:\n{self.log(task)[-3000:]}"

    def kill(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()
        self._ports.close()


@pytest.fixture
def clusters() -> Iterator[list[Cluster]]:
    started: list[Cluster] = []
    yield started
    for cluster in started:
        cluster.kill()


def trained_alone(directory: Path) -> Estimator:
    config = RunConfig(tf_random_seed=1)
    estimator = Estimator(linear_model.model_fn, directory, config, params={})
    return estimator.train(linear_model.training_input, max_steps=STEPS)


def steps_saved(model_dir: Path) -> list[int]:
    return sorted(int(path.stem.rpartition("-")[2]) for path in model_dir.glob("model.ckpt-*.index"))


@pytest.mark.parametrize("maker", ["ours:multi_worker_mirrored", "theirs:multi_worker_mirrored"])
def test_two_workers_with_half_a_batch_equal_one_with_the_whole(
    tmp_path: Path, clusters: list[Cluster], maker: str
) -> None:
    cluster = Cluster(tmp_path, maker, ["chief-0", "worker-0"])
    clusters.append(cluster)
    cluster.wait("chief-0", "worker-0")
    alone = trained_alone(tmp_path / "alone").get_variable_value("kernel")
    together = tf.train.load_variable(str(cluster.model_dir), "kernel")
    assert np.abs(alone).max() > 0.1
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert steps_saved(cluster.model_dir) == [0, 10, 20, STEPS]
    assert list(cluster.model_dir.glob("events.out.tfevents.*"))
    assert not list(cluster.model_dir.glob("tmp*"))


@pytest.mark.parametrize("maker", ["ours:parameter_server", "theirs:parameter_server"])
def test_beside_parameter_servers_every_task_ends_by_itself(
    tmp_path: Path, clusters: list[Cluster], maker: str
) -> None:
    tasks = ["chief-0", "worker-0", "evaluator-0", "ps-0", "ps-1"]
    cluster = Cluster(tmp_path, maker, tasks)
    clusters.append(cluster)
    cluster.wait(*tasks)
    last = steps_saved(cluster.model_dir)[-1]
    assert STEPS <= last <= STEPS + 5  # steps that were under way when the last one was taken
    assert f"reached max_steps {STEPS}" in cluster.log("evaluator-0")
    assert list((cluster.model_dir / "eval").glob("events.out.tfevents.*"))
    kernel = tf.train.load_variable(str(cluster.model_dir), "kernel")
    assert np.abs(kernel - linear_model.WEIGHTS).max() < np.abs(linear_model.WEIGHTS).max()


def test_workers_that_loop_together_save_beside_training_with_the_positions_of_all(
    tmp_path: Path, clusters: list[Cluster]
) -> None:
    settings: dict[str, Any] = {"save_checkpoints_async": True, "save_input_state": True}
    settings |= {"keep_checkpoint_max": 2, "steps_per_loop": 4}
    cluster = Cluster(tmp_path, "ours:multi_worker_mirrored", ["chief-0", "worker-0"], **settings)
    clusters.append(cluster)
    cluster.wait("chief-0", "worker-0")
    alone = trained_alone(tmp_path / "alone").get_variable_value("kernel")
    np.testing.assert_allclose(tf.train.load_variable(str(cluster.model_dir), "kernel"), alone, atol=1e-5)
    assert steps_saved(cluster.model_dir) == [20, STEPS]
    positions = {path.name for path in cluster.model_dir.glob("*.input-*")}
    assert positions == {f"model.ckpt-{n}.input-0000{k}-of-00002" for n in (20, STEPS) for k in (0, 1)}
    assert "beside training" in cluster.log("chief-0")
    for task in ("chief-0", "worker-0"):
        assert "All 2 tasks take their steps in loops of the same length" in cluster.log(task)


def test_parameter_servers_save_while_training_waits_and_say_so(
    tmp_path: Path, clusters: list[Cluster]
) -> None:
    cluster = Cluster(tmp_path, "ours:parameter_server", ["chief-0", "ps-0"], save_checkpoints_async=True)
    clusters.append(cluster)
    cluster.wait("chief-0")
    assert "training waits for each checkpoint, since the variables are on parameter" in cluster.log(
        "chief-0"
    )
    assert steps_saved(cluster.model_dir)[-1] == STEPS
