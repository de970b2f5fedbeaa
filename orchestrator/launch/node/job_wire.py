"""A job and the plan of an attempt as plain JSON, and back. Pure.

What is read comes from the same version of this package: only the form is
checked, by the constructors.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

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

Plain = dict[str, Any]


def encode_job(job: Job) -> Plain:
    """Everything about a job; `decode_job` gives an equal one."""
    return {
        "name": job.name,
        "tasks": {str(kind): asdict(request) for kind, request in job.tasks.items()},
        "command": list(job.command),
        "strategy": str(job.strategy),
        "run_dir": str(job.run_dir),
        "working_dir": str(job.working_dir),
        "model_dir": job.model_dir,
        "data_dir": job.data_dir,
        "env": dict(job.env),
        "secret_env": list(job.secret_env),
        "start_method": None if job.start_method is None else str(job.start_method),
        "prepare_command": None if job.prepare_command is None else list(job.prepare_command),
        "is_experiment": job.is_experiment,
        "launcher_options": dict(job.launcher_options),
        "policy": _encode_policy(job.policy),
        "log_limits": asdict(job.log_limits),
    }


def decode_job(value: Mapping[str, Any]) -> Job:
    """The job of `encode_job`. Raises KeyError, TypeError or ValueError for anything else."""
    start, prepare = value["start_method"], value["prepare_command"]
    return Job(
        name=value["name"],
        tasks={TaskType(kind): _decode_request(request) for kind, request in value["tasks"].items()},
        command=tuple(value["command"]),
        strategy=StrategyKind(value["strategy"]),
        run_dir=Path(value["run_dir"]),
        working_dir=Path(value["working_dir"]),
        model_dir=value["model_dir"],
        data_dir=value["data_dir"],
        env=value["env"],
        secret_env=tuple(value["secret_env"]),
        start_method=None if start is None else StartMethod(start),
        prepare_command=None if prepare is None else tuple(prepare),
        is_experiment=value["is_experiment"],
        launcher_options=value["launcher_options"],
        policy=_decode_policy(value["policy"]),
        log_limits=LogLimits(**value["log_limits"]),
    )


def encode_plan(plan: LaunchPlan, tasks: Collection[TaskId] | None = None) -> Plain:
    """The plan, with the part of `tasks` only where they are given."""
    return {
        "job": encode_job(plan.job),
        "attempt": plan.attempt,
        "cluster": None if plan.cluster is None else plan.cluster.as_dict(),
        "tasks": [_encode_task(part) for part in plan.tasks if tasks is None or part.task in tasks],
        "launcher": plan.launcher,
        "notes": list(plan.notes),
    }


def decode_plan(value: Mapping[str, Any]) -> LaunchPlan:
    """The plan of `encode_plan`. Raises KeyError, TypeError or ValueError for anything else."""
    cluster = value["cluster"]
    return LaunchPlan(
        job=decode_job(value["job"]),
        attempt=value["attempt"],
        cluster=None if cluster is None else ClusterSpec.of(cluster),
        tasks=tuple(_decode_task(part) for part in value["tasks"]),
        launcher=value["launcher"],
        notes=tuple(value["notes"]),
    )


def _encode_task(part: TaskPlan) -> Plain:
    return {
        "task": str(part.task),
        "host": part.host,
        "address": part.address,
        "env": dict(part.env),
        "command": list(part.command),
        "start_method": str(part.start_method),
        "why": part.why,
        "log_path": str(part.log_path),
    }


def _decode_task(value: Mapping[str, Any]) -> TaskPlan:
    return TaskPlan(
        task=TaskId.parse(value["task"]),
        host=value["host"],
        address=value["address"],
        env=value["env"],
        command=tuple(value["command"]),
        start_method=StartMethod(value["start_method"]),
        why=value["why"],
        log_path=Path(value["log_path"]),
    )


def _decode_request(value: Mapping[str, Any]) -> TaskRequest:
    plain = dict(value)
    command = plain.pop("command")
    hosts = tuple(plain.pop("hosts"))
    return TaskRequest(**plain, hosts=hosts, command=None if command is None else tuple(command))


def _encode_policy(policy: RunPolicy) -> Plain:
    plain = {field.name: getattr(policy, field.name) for field in fields(policy)}
    plain["hang_seconds"] = asdict(policy.hang_seconds)
    plain["restart"] = {str(kind): choice for kind, choice in policy.restart.items()}
    return plain


def _decode_policy(value: Mapping[str, Any]) -> RunPolicy:
    plain = dict(value)
    hang_limits = HangLimits(**plain.pop("hang_seconds"))
    restart = {TaskType(kind): choice for kind, choice in plain.pop("restart").items()}
    return RunPolicy(**plain, hang_seconds=hang_limits, restart=restart)
