from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.cluster.records import TaskEnvironment
from orchestrator.cluster.task import TaskType
from orchestrator.errors import ConfigError
from orchestrator.launch.job import Job, LaunchPlan, StartMethod, StrategyKind, TaskRequest
from orchestrator.launch.node.job_wire import decode_plan, encode_plan
from orchestrator.launch.ssh.plan import (
    KEEPALIVE,
    Host,
    command_on,
    is_loopback,
    make_ssh_plan,
    placeholder,
    plan_on,
    preparing_on,
)
from tests.launch.jobs import task

CHIEF, WORKER, EVALUATOR = task("chief-0"), task("worker-0"), task("evaluator-0")
CODE = Path("/home/me/project")
H1 = Host(
    "h1", "10.0.0.1", "/venv/bin/python", "/c/runs/r-h1", "/c/code/abc", cores=8, environ={"HOME": "/root"}
)
H2 = replace(H1, name="h2", address="10.0.0.2", run_dir="/c/runs/r-h2", gpus=("0", "1"))


def job(command: tuple[str, ...] = (sys.executable, "train.py"), **changes: object) -> Job:
    tasks = {kind: TaskRequest(1) for kind in (TaskType.CHIEF, TaskType.WORKER, TaskType.EVALUATOR)}
    one = Job("test", tasks, command, StrategyKind.UNKNOWN, Path("/home/me/runs/r"), CODE, "/shared/model")
    return replace(one, **changes)  # type: ignore[arg-type]


def plan_of(one: Job, chief: Host = H1, others: Host = H2) -> LaunchPlan:
    hosts = {CHIEF: chief, WORKER: others, EVALUATOR: others}
    ports = {CHIEF: 4000, WORKER: 4001, EVALUATOR: 4002}
    return make_ssh_plan(one, 1, hosts, ports, code_dir=CODE)


def test_addresses_are_those_of_the_hosts_and_paths_are_theirs() -> None:
    plan = plan_of(job())
    worker = plan.task(WORKER)
    assert (worker.host, worker.address) == ("h2", "10.0.0.2:4001")
    assert json.loads(worker.tf_config or "")["cluster"] == {
        "chief": ["10.0.0.1:4000"],
        "worker": ["10.0.0.2:4001"],
    }
    assert worker.command == ("/venv/bin/python", "train.py")
    told = TaskEnvironment.read(worker.env)
    assert told is not None
    assert (told.run_dir, told.model_dir, told.attempt) == (Path("/c/runs/r-h2"), "/shared/model", 1)
    assert worker.log_path == Path("/home/me/runs/r/logs/worker-0.log"), "the launcher's own"
    assert plan.launcher == "ssh"
    assert [part.task for part in plan.tasks] == [CHIEF, WORKER, EVALUATOR]


def test_a_host_is_told_of_its_own_tasks_in_its_own_paths_and_that_survives_the_way() -> None:
    there = plan_on(plan_of(job()), H2, CODE)
    assert [part.task for part in there.tasks] == [WORKER, EVALUATOR]
    assert there.task(WORKER).log_path == Path("/c/runs/r-h2/logs/worker-0.log")
    assert (there.job.run_dir, there.job.working_dir) == (Path("/c/runs/r-h2"), Path("/c/code/abc"))
    assert there.job.launcher_options == {}
    assert decode_plan(json.loads(json.dumps(encode_plan(there)))) == there


def test_tasks_run_where_the_launcher_runs_in_the_copy_of_the_code() -> None:
    inner = job(working_dir=CODE / "experiments" / "first")
    assert plan_on(plan_of(inner), H1, CODE).job.working_dir == Path("/c/code/abc/experiments/first")
    outside = job(working_dir=Path("/elsewhere"))
    assert plan_on(plan_of(outside), H1, CODE).job.working_dir == Path("/c/code/abc")


def test_the_launchers_interpreter_and_run_directory_become_the_hosts() -> None:
    spec = "/home/me/runs/r/experiment.json"
    assert command_on(job(), (sys.executable, "-m", "program", spec), H1) == (
        "/venv/bin/python",
        "-m",
        "program",
        "/c/runs/r-h1/experiment.json",
    )
    assert command_on(job(), ("bash", "-c", "train /home/me/runs/r/x"), H1) == (
        "bash",
        "-c",
        "train /home/me/runs/r/x",
    )
    own = job(tasks={TaskType.CHIEF: TaskRequest(1, command=(sys.executable, "own.py"))})
    plan = make_ssh_plan(own, 0, {CHIEF: H1}, {}, code_dir=CODE)
    assert plan.task(CHIEF).command == ("/venv/bin/python", "own.py")
    assert plan.task(CHIEF).tf_config is None, "a lone process"


@pytest.mark.parametrize("where", ["job", "task", "host"])
def test_keepalives_are_set_unless_the_user_has(where: str) -> None:
    variable, own = "TF_GRPC_DEFAULT_OPTIONS", "grpc.keepalive_time_ms=1000"
    assert plan_of(job()).task(CHIEF).env[variable] == KEEPALIVE
    if where == "job":
        assert plan_of(job(env={variable: own})).task(CHIEF).env[variable] == own
    elif where == "task":
        mine = {**job().tasks, TaskType.CHIEF: TaskRequest(1, env={variable: own})}
        assert plan_of(job(tasks=mine)).task(CHIEF).env[variable] == own
        assert plan_of(job(tasks=mine)).task(WORKER).env[variable] == KEEPALIVE
    else:
        host = replace(H1, environ={variable: own})
        assert variable not in plan_of(job(), chief=host).task(CHIEF).env, "it is inherited"


def test_keepalives_of_the_launchers_own_environment_hold_for_the_hosts() -> None:
    variable, own, hosts = "TF_GRPC_DEFAULT_OPTIONS", "grpc.keepalive_time_ms=1000", "grpc.lb_policy_name=x"

    def chief(one: Job, keepalive: str) -> str | None:
        host = replace(H1, environ={variable: hosts})
        ports = {CHIEF: 4000}
        plan = make_ssh_plan(one, 0, {CHIEF: host}, ports, code_dir=CODE, keepalive=keepalive)
        return plan.task(CHIEF).env.get(variable)

    assert chief(job(), own) == own
    assert chief(job(), "") == "", "switched off"
    assert chief(job(env={variable: "of the file"}), own) == "of the file"


def test_a_part_of_a_cluster_is_planned_with_the_addresses_that_the_others_have() -> None:
    known = {CHIEF: "10.0.0.1:4000", WORKER: "10.0.0.2:4001"}
    whole, one = plan_of(job()), job()
    part = make_ssh_plan(one, 1, {EVALUATOR: H1}, {EVALUATOR: 4007}, code_dir=CODE, known=known)
    assert [plan.task for plan in part.tasks] == [EVALUATOR]
    moved = replace(whole, away=frozenset([EVALUATOR])).moved(part, [EVALUATOR])
    assert (moved.task(EVALUATOR).host, moved.task(EVALUATOR).address) == ("h1", "10.0.0.1:4007")
    assert moved.task(WORKER) == whole.task(WORKER)
    assert moved.away == frozenset()
    assert moved.cluster is not None
    assert moved.cluster.address(EVALUATOR) == "10.0.0.1:4007"
    assert json.loads(moved.task(EVALUATOR).tf_config or "")["cluster"] == {
        "chief": ["10.0.0.1:4000"],
        "worker": ["10.0.0.2:4001"],
        "evaluator": ["10.0.0.1:4007"],
    }


def test_cores_and_gpus_are_shared_out_host_by_host() -> None:
    plan = plan_of(job())
    assert "TF_NUM_INTRAOP_THREADS" not in plan.task(CHIEF).env, "alone on its host"
    assert plan.task(WORKER).env["TF_NUM_INTRAOP_THREADS"] == "8"
    assert plan.task(WORKER).env["CUDA_VISIBLE_DEVICES"] == "0,1"
    assert plan.task(EVALUATOR).env["CUDA_VISIBLE_DEVICES"] == "-1"


def test_tasks_are_forked_where_their_host_has_no_gpu() -> None:
    plan = plan_of(job())
    assert plan.task(CHIEF).start_method is StartMethod.FORK
    assert (plan.task(WORKER).start_method, plan.task(WORKER).why[:16]) == (
        StartMethod.EXEC,
        "a GPU is visible",
    )
    hidden = plan_of(job(env={"CUDA_VISIBLE_DEVICES": "-1"}), others=replace(H2, gpus=()))
    assert hidden.task(WORKER).start_method is StartMethod.FORK
    assert plan_of(job(("bash", "x"))).task(CHIEF).start_method is StartMethod.EXEC


def test_of_a_host_that_nobody_asked_nothing_is_said() -> None:
    unknown = placeholder("h1", "10.0.0.1", "python3")
    assert plan_of(job(), chief=unknown).task(CHIEF).why.startswith("unless the host has a GPU")
    assert "GPU" not in plan_of(job(("bash", "x")), chief=unknown).task(CHIEF).why


def test_nothing_of_the_launchers_environment_goes_along(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "secret")
    assert "MY_TOKEN" not in plan_of(job()).task(CHIEF).env


def test_an_address_that_is_everybodys_own_is_refused_where_there_are_others() -> None:
    here = replace(H1, address="127.0.0.1")
    with pytest.raises(ConfigError, match=r"ssh reaches h1 as 127\.0\.0\.1.*addresses: \{h1: "):
        plan_of(job(), chief=here)
    alone = dict.fromkeys((CHIEF, WORKER, EVALUATOR), here)
    assert make_ssh_plan(job(), 0, alone, {CHIEF: 1, WORKER: 2, EVALUATOR: 3}, code_dir=CODE)


def test_loopback_is_known_by_any_name() -> None:
    assert all(map(is_loopback, ("localhost", "127.0.0.1", "127.0.1.1", "::1", "[::1]")))
    assert not any(map(is_loopback, ("h1", "10.0.0.1", "[fd00::1]")))


def test_addresses_of_version_6_get_brackets() -> None:
    plan = plan_of(job(), chief=replace(H1, address="fd00::1"))
    assert plan.task(CHIEF).address == "[fd00::1]:4000"


def test_the_preparation_is_shown_as_a_host_runs_it() -> None:
    one = job(prepare_command=(sys.executable, "-m", "prepare", "/home/me/runs/r/experiment.json"))
    shown = preparing_on(plan_of(one), placeholder("h1", "10.0.0.1", "python3"))
    assert shown.job.prepare_command == (
        "python3",
        "-m",
        "prepare",
        "<run directory on h1>/experiment.json",
    )
    assert preparing_on(plan_of(job()), H1).job.prepare_command is None
