from __future__ import annotations

import json
import socket
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cluster.records import TaskEnvironment
from orchestrator.cluster.task import TaskId, TaskType
from orchestrator.errors import ConfigError, PortError
from orchestrator.launch.job import Job, LaunchPlan, StartMethod
from orchestrator.launch.local import LocalLauncher
from orchestrator.launch.local_plan import (
    all_tasks,
    make_plan,
    parent_environment,
    preparation_environment,
    task_environment,
)
from tests.launch.local_runs import CHIEF, WORKER, local_job, python

EVALUATOR = TaskId(TaskType.EVALUATOR, 0)
ENVIRON = {"HOME": "/home/me", "PATH": "/usr/bin", "TF_CONFIG": "{}", "ORCHESTRATOR_TASK": "worker-7"}


def plan_of(job: Job, environ: dict[str, str] | None = None) -> LaunchPlan:
    tasks = all_tasks(job)
    addresses = {task: f"127.0.0.1:{4000 + n}" for n, task in enumerate(tasks)} if len(tasks) > 1 else {}
    return make_plan(job, 2, addresses, environ=environ or ENVIRON, interpreter=sys.executable)


@pytest.fixture
def cluster_job(tmp_path: Path) -> Job:
    return local_job(tmp_path, python("train.py"), chief=1, worker=1, ps=1, evaluator=1)


def tf_config(plan: LaunchPlan, task: TaskId) -> Any:
    return json.loads(plan.task(task).tf_config or "null")


def test_every_task_gets_its_place_and_the_model_directory(cluster_job: Job) -> None:
    plan = plan_of(cluster_job)
    assert tf_config(plan, WORKER) == {
        "cluster": {"chief": ["127.0.0.1:4000"], "worker": ["127.0.0.1:4001"], "ps": ["127.0.0.1:4002"]},
        "task": {"type": "worker", "index": 0},
        "model_dir": cluster_job.model_dir,
    }
    assert plan.task(WORKER).address == "127.0.0.1:4001"
    assert plan.task(WORKER).host == "127.0.0.1"
    assert plan.task(WORKER).env["TF_GRPC_REUSE_PORT"] == "1"


def test_only_the_evaluator_sees_the_evaluator(cluster_job: Job) -> None:
    plan = plan_of(cluster_job)
    assert tf_config(plan, EVALUATOR)["cluster"]["evaluator"] == ["127.0.0.1:4003"]
    others = [p.task for p in plan.tasks if p.task != EVALUATOR]
    assert len(others) == 3
    assert not any("evaluator" in tf_config(plan, task)["cluster"] for task in others)


def test_an_experiment_has_its_model_directory_elsewhere(cluster_job: Job) -> None:
    plan = plan_of(replace(cluster_job, is_experiment=True))
    assert "model_dir" not in tf_config(plan, WORKER)


def test_a_lone_process_gets_no_tf_config(tmp_path: Path) -> None:
    plan = plan_of(local_job(tmp_path, python("train.py")))
    (task,) = plan.tasks
    assert plan.cluster is None
    assert task.tf_config is None
    assert task.address is None
    assert "TF_GRPC_REUSE_PORT" not in task.env
    assert "TF_CONFIG" not in task_environment(task, ENVIRON)


def test_an_inherited_tf_config_is_set_aside_and_that_is_said(cluster_job: Job) -> None:
    assert "TF_CONFIG" in " ".join(plan_of(cluster_job).notes)
    assert plan_of(cluster_job, {"HOME": "/h"}).notes == ()
    assert "TF_CONFIG" not in parent_environment(cluster_job, ENVIRON)


def test_the_variables_of_a_task_can_be_read_back(cluster_job: Job) -> None:
    job = replace(cluster_job, data_dir="/data")
    env = task_environment(plan_of(job).task(WORKER), ENVIRON)
    assert TaskEnvironment.read(env) == TaskEnvironment(
        job.run_dir, WORKER, attempt=2, model_dir=job.model_dir, data_dir="/data"
    )
    assert env["TFDS_DATA_DIR"] == "/data"
    assert env["HOME"] == "/home/me"


def test_what_the_file_sets_wins_over_what_is_inherited_and_type_over_job(tmp_path: Path) -> None:
    job = local_job(tmp_path, python("a.py"), {TaskType.WORKER: {"LEVEL": "type"}}, chief=1, worker=1)
    plan = plan_of(replace(job, env={"LEVEL": "job", "HOME": "/other"}))
    assert task_environment(plan.task(WORKER), ENVIRON)["LEVEL"] == "type"
    assert task_environment(plan.task(CHIEF), ENVIRON)["LEVEL"] == "job"
    assert task_environment(plan.task(CHIEF), ENVIRON)["HOME"] == "/other"


def test_logs_are_quiet_unless_the_user_says_otherwise(cluster_job: Job) -> None:
    assert task_environment(plan_of(cluster_job).task(CHIEF), {})["TF_CPP_MIN_LOG_LEVEL"] == "2"
    loud = {"TF_CPP_MIN_LOG_LEVEL": "0"}
    assert task_environment(plan_of(cluster_job, loud).task(CHIEF), loud)["TF_CPP_MIN_LOG_LEVEL"] == "0"
    assert parent_environment(cluster_job, loud)["TF_CPP_MIN_LOG_LEVEL"] == "0"


def test_a_type_with_import_time_variables_is_executed_and_the_others_forked(tmp_path: Path) -> None:
    env = {TaskType.WORKER: {"OMP_NUM_THREADS": "1"}}
    plan = plan_of(local_job(tmp_path, python("a.py"), env, chief=1, worker=1))
    assert plan.task(WORKER).start_method is StartMethod.EXEC
    assert "OMP_NUM_THREADS" in plan.task(WORKER).why
    assert plan.task(CHIEF).start_method is StartMethod.FORK


def test_a_type_may_have_a_command_of_its_own(cluster_job: Job) -> None:
    tasks = {
        **cluster_job.tasks,
        TaskType.PS: replace(cluster_job.tasks[TaskType.PS], command=("serve", "x")),
    }
    plan = plan_of(replace(cluster_job, tasks=tasks))
    ps = plan.task(TaskId(TaskType.PS, 0))
    assert (ps.command, ps.start_method) == (("serve", "x"), StartMethod.EXEC)
    assert plan.task(WORKER).command == python("train.py")


def test_the_preparation_is_no_task(cluster_job: Job) -> None:
    env = preparation_environment(replace(cluster_job, data_dir="/data"), ENVIRON)
    assert TaskEnvironment.read(env) is None
    assert (env["TFDS_DATA_DIR"], env["ORCHESTRATOR_DATA_DIR"]) == ("/data", "/data")


def test_a_later_attempt_has_the_same_addresses(cluster_job: Job) -> None:
    launcher = LocalLauncher(cluster_job.run_dir)
    first, second = launcher.plan(cluster_job, 0), launcher.plan(cluster_job, 1)
    assert [p.address for p in first.tasks] == [p.address for p in second.tasks]
    assert len({p.address for p in first.tasks}) == 4
    assert (first.attempt, second.attempt) == (0, 1)
    launcher.close()


def with_hosts(job: Job, *hosts: str) -> Job:
    return replace(
        job, tasks={**job.tasks, TaskType.WORKER: replace(job.tasks[TaskType.WORKER], hosts=hosts)}
    )


def test_a_declared_address_is_used(cluster_job: Job) -> None:
    launcher = LocalLauncher(cluster_job.run_dir)
    port = launcher.plan(cluster_job, 0).task(WORKER).address.rsplit(":")[1]  # type: ignore[union-attr]
    launcher.close()
    launcher = LocalLauncher(cluster_job.run_dir)
    plan = launcher.plan(with_hosts(cluster_job, f"localhost:{port}"), 0)
    assert plan.task(WORKER).address == f"localhost:{port}"
    assert plan.task(WORKER).host == "localhost"
    launcher.close()


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("node7", "worker-0 is declared on host 'node7'"),
        ("localhost:x", "'x' is not a port"),
        ("::2", "host '::2'"),
    ],
)
def test_hosts_of_other_machines_and_odd_ports_are_refused(cluster_job: Job, host: str, said: str) -> None:
    launcher = LocalLauncher(cluster_job.run_dir)
    with pytest.raises(ConfigError, match=said):
        launcher.plan(with_hosts(cluster_job, host), 0)
    launcher.close()


def test_a_declared_port_that_is_taken_stops_the_plan(cluster_job: Job) -> None:
    launcher = LocalLauncher(cluster_job.run_dir)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        with pytest.raises(PortError, match="declared for worker-0, is taken"):
            launcher.plan(with_hosts(cluster_job, f"localhost:{server.getsockname()[1]}"), 0)
    launcher.close()
