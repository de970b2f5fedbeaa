"""A job and the plan of an attempt as plain JSON, and back. Pure.

What is read comes from the same version of this package: only the form is
checked, by the constructors.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
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
    plain = {field.name: getattr(job, field.name) for field in fields(job)}
    return {name: _ENCODERS[name](value) if name in _ENCODERS else value for name, value in plain.items()}


def decode_job(value: Mapping[str, Any]) -> Job:
    """The job of `encode_job`. Raises KeyError, TypeError or ValueError for anything else."""
    return Job(**{name: _DECODERS[name](part) if name in _DECODERS else part for name, part in value.items()})


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


_ENCODERS: Mapping[str, Callable[[Any], Any]] = {
    "tasks": lambda tasks: {str(kind): asdict(request) for kind, request in tasks.items()},
    "command": list,
    "strategy": str,
    "run_dir": str,
    "working_dir": str,
    "env": dict,
    "secret_env": list,
    "start_method": lambda method: None if method is None else str(method),
    "prepare_command": lambda command: None if command is None else list(command),
    "launcher_options": dict,
    "policy": _encode_policy,
    "log_limits": asdict,
}
"""Fields of a job that are not plain JSON as they stand."""
_DECODERS: Mapping[str, Callable[[Any], Any]] = {
    "tasks": lambda tasks: {TaskType(kind): _decode_request(request) for kind, request in tasks.items()},
    "command": tuple,
    "strategy": StrategyKind,
    "run_dir": Path,
    "working_dir": Path,
    "secret_env": tuple,
    "start_method": lambda method: None if method is None else StartMethod(method),
    "prepare_command": lambda command: None if command is None else tuple(command),
    "policy": _decode_policy,
    "log_limits": lambda limits: LogLimits(**limits),
}
