"""Tests for orchestrator.launch.node.job_wire."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

from orchestrator.cluster.spec import ClusterSpec
from orchestrator.cluster.task import TaskId, TaskType
from orchestrator.launch.job import (
    HangLimits,
    Job,
    LaunchPlan,
    LogLimits,
    RunPolicy,
    StartMethod,
    StrategyKind,
    TaskPlan,
    TaskRequest,
)
from orchestrator.launch.node.frames import FrameReader, encode
from orchestrator.launch.node.job_wire import decode_job, decode_plan, encode_job, encode_plan

CHIEF, WORKER = TaskId(TaskType.CHIEF, 0), TaskId(TaskType.WORKER, 0)
HOSTILE = "a b,'c' \"$HOME\" `id`\n\t\\ é \udcff"


def everything_set() -> Job:
    """A job without a field that has its default."""
    switches = {field.name: True for field in fields(Job) if field.default is False}
    return Job(
        **switches,
        name="digits",
        tasks={
            TaskType.CHIEF: TaskRequest(1, ("h1:2222",), {"A": HOSTILE}, 1.5, 1 << 30, 2, ("run", HOSTILE)),
            TaskType.WORKER: TaskRequest(3),
        },
        command=("python3", "train.py", HOSTILE),
        strategy=StrategyKind.ASYNCHRONOUS,
        run_dir=Path("/runs/1"),
        working_dir=Path("/code"),
        model_dir="gs://bucket/model",
        data_dir="/data",
        env={"B": HOSTILE},
        secret_env=("B",),
        start_method=StartMethod.EXEC,
        prepare_command=("prepare", HOSTILE),
        launcher_options={"hosts": ["h1", {"name": "h2", "cpus": 8}]},
        policy=RunPolicy(
            7,
            2.5,
            3.5,
            4.5,
            HangLimits(1.0, None, 3.0, 4.0, 5.0, 6.0),
            9.0,
            10.0,
            True,
            False,
            {TaskType.PS: "never"},
        ),
        log_limits=LogLimits(None, 9),
    )


def over_the_wire(value: dict[str, object]) -> dict[str, object]:
    ((received, _),) = FrameReader().feed(encode({"plan": value}))
    plain = received["plan"]
    assert isinstance(plain, dict)
    return plain


def test_a_job_arrives_as_it_was() -> None:
    job = everything_set()
    default = Job("", {}, (), StrategyKind.SINGLE, Path("/r"), Path("/w"), "m")
    for field in fields(Job):
        assert getattr(job, field.name) != getattr(default, field.name), f"{field.name} has its default"
    assert decode_job(over_the_wire(encode_job(job))) == job
    assert decode_job(over_the_wire(encode_job(default))) == default


def a_plan() -> LaunchPlan:
    def part(task: TaskId, method: StartMethod) -> TaskPlan:
        address = f"h1:{2222 + task.index}"
        env = {"TF_CONFIG": json.dumps({"task": str(task)}), "C": HOSTILE}
        return TaskPlan(
            task, "h1", address, env, ("python3", HOSTILE), method, "why", Path(f"/runs/1/logs/{task}.log")
        )

    cluster = ClusterSpec.of({"chief": ["h1:2222"], "worker": ["h1:2223", "h2:1", "h2:2"]})
    parts = (part(CHIEF, StartMethod.FORK), part(WORKER, StartMethod.EXEC))
    return LaunchPlan(everything_set(), 2, cluster, parts, "ssh", ("a note",))


def test_a_plan_arrives_as_it_was() -> None:
    plan = a_plan()
    assert decode_plan(over_the_wire(encode_plan(plan))) == plan


def test_a_part_of_a_plan_holds_these_tasks_only() -> None:
    arrived = decode_plan(over_the_wire(encode_plan(a_plan(), [WORKER])))
    assert arrived.tasks == (a_plan().task(WORKER),)
    assert arrived.cluster == a_plan().cluster


def test_a_plan_without_cluster_arrives_too() -> None:
    plan = LaunchPlan(everything_set(), 0, None, (), "ssh")
    assert decode_plan(over_the_wire(encode_plan(plan))) == plan
