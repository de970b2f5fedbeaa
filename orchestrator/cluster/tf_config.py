"""TF_CONFIG: the only place that encodes or decodes it.

The rules are TensorFlow's own: task types are chief (or master), worker, ps
and evaluator; there is at most one chief; `task.index` lies inside the list of
its type, except that the evaluator may stand outside of `cluster`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.cluster.spec import ClusterSpec
from orchestrator.cluster.task import TaskId, TaskType
from orchestrator.errors import TFConfigError, near_miss

VARIABLE = "TF_CONFIG"
"""Name of the environment variable."""


@dataclass(frozen=True)
class TFConfig:
    """One task's view of its cluster, and the extra keys that Estimator honours."""

    cluster: ClusterSpec | None = None
    task: TaskId | None = None
    model_dir: str | None = None
    session_master: str | None = None
    eval_session_master: str | None = None
    rpc_layer: str | None = None
    environment: str | None = None
    service: Mapping[str, Any] | None = None
    other: Mapping[str, Any] = field(default_factory=dict)
    """Keys that we do not know; kept so that nothing is lost on the way."""
    foreign_tasks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Addresses of task types that TensorFlow does not know (see `decode`)."""
    foreign_task: tuple[str, int] | None = None
    """Type and index of this task where its type is one of `foreign_tasks`; `task` is None then."""

    def encode(self) -> str:
        """The exact string for the environment: one line of JSON."""
        return json.dumps(self.as_dict())

    def as_dict(self) -> dict[str, Any]:
        """The JSON object that TF_CONFIG holds."""
        value: dict[str, Any] = {}
        if self.cluster is not None:
            foreign = {name: list(hosts) for name, hosts in self.foreign_tasks.items()}
            value["cluster"] = {**self.cluster.as_dict(), **foreign}
        if self.task is not None:
            value["task"] = {"type": self.task.type.value, "index": self.task.index}
        elif self.foreign_task is not None:
            value["task"] = {"type": self.foreign_task[0], "index": self.foreign_task[1]}
        for key in _EXTRA_KEYS:
            extra = getattr(self, key)
            if extra is not None:
                value[key] = extra
        return {**value, **self.other}


_EXTRA_KEYS = ("model_dir", "session_master", "eval_session_master", "rpc_layer", "environment", "service")
_KEYS = ("cluster", "task", *_EXTRA_KEYS)


def for_task(cluster: ClusterSpec, task: TaskId, model_dir: str | None = None) -> TFConfig:
    """The TF_CONFIG of one task of a launched cluster."""
    return TFConfig(cluster=cluster.for_task(task), task=task, model_dir=model_dir)


def decode(text: str, foreign_types: bool = False) -> TFConfig:
    """Reads a TF_CONFIG string.

    Raises TFConfigError, naming the key, for anything that TensorFlow would
    refuse or silently misread. A graph-mode cluster may hold task types of its
    own beside TensorFlow's; with `foreign_types` they are kept apart instead of
    refused, unless the name is a near miss of a known one.
    """
    try:
        value = json.loads(text)
    except ValueError as error:
        raise TFConfigError(f"TF_CONFIG is not JSON: {error}. Its text is: {text[:200]}") from error
    if not isinstance(value, dict):
        raise TFConfigError(f"TF_CONFIG must be a JSON object, not {type(value).__name__}: {text[:200]}")
    addresses = _decode_addresses(value.get("cluster"), foreign_types)
    task = _decode_task(value.get("task"), addresses)
    known = task is not None and task[0] in _KNOWN_TYPES
    cluster = ClusterSpec.of({k: v for k, v in addresses.items() if k in _KNOWN_TYPES})
    return TFConfig(
        cluster=cluster if addresses else None,
        task=TaskId(TaskType(task[0]), task[1]) if task and known else None,
        other={key: item for key, item in value.items() if key not in _KEYS},
        foreign_tasks={k: tuple(v) for k, v in addresses.items() if k not in _KNOWN_TYPES},
        foreign_task=None if known else task,
        **{key: value.get(key) for key in _EXTRA_KEYS},
    )


_KNOWN_TYPES = tuple(task_type.value for task_type in TaskType)
_SINGLE_TYPES = (TaskType.CHIEF.value, TaskType.MASTER.value, TaskType.EVALUATOR.value)


def _decode_addresses(value: Any, foreign_types: bool) -> dict[str, list[str]]:
    """The addresses by task type; empty where there is no cluster."""
    if not value:
        return {}
    if not isinstance(value, dict):
        raise TFConfigError(f"TF_CONFIG: 'cluster' must be an object of lists, not {value!r}.")
    for name in value:
        hint = near_miss(name, _KNOWN_TYPES)
        if name not in _KNOWN_TYPES and (hint or not foreign_types):
            raise TFConfigError(
                f"TF_CONFIG: unknown task type '{name}' under 'cluster'.{hint}"
                f" The known ones are {', '.join(_KNOWN_TYPES)}."
            )
    addresses = {name: _decode_hosts(name, hosts) for name, hosts in value.items()}
    if TaskType.CHIEF.value in addresses and TaskType.MASTER.value in addresses:
        raise TFConfigError(
            "TF_CONFIG: both 'chief' and 'master' under 'cluster'; keep one of the two."
            " If `master` node exists in `cluster`, job `chief` is not supported."
        )
    for single in _SINGLE_TYPES:
        if len(addresses.get(single, ())) > 1:
            raise TFConfigError(
                f"TF_CONFIG: more than one '{single}' under 'cluster'; there can be one."
                f' The "cluster" in TF_CONFIG must have only one "{single}" node.'
            )
    return addresses


def _decode_hosts(name: str, hosts: Any) -> list[str]:
    if isinstance(hosts, dict):  # TensorFlow's sparse form, {"3": "host:port"}
        if sorted(hosts) != sorted(str(i) for i in range(len(hosts))):
            raise TFConfigError(f"TF_CONFIG: the indices of 'cluster.{name}' have gaps: {sorted(hosts)}.")
        hosts = [hosts[str(i)] for i in range(len(hosts))]
    if not isinstance(hosts, list) or not all(isinstance(host, str) and host for host in hosts):
        raise TFConfigError(
            f"TF_CONFIG: 'cluster.{name}' must be a list of 'host:port' strings, not {hosts!r}."
        )
    return hosts


def _decode_task(value: Any, addresses: Mapping[str, list[str]]) -> tuple[str, int] | None:
    """Type and index; None where there is no task."""
    if not value:
        return None
    if not isinstance(value, dict):
        raise TFConfigError(f"TF_CONFIG: 'task' must be an object with 'type' and 'index', not {value!r}.")
    for key in ("type", "index") if addresses else ():
        if value.get(key) is None:
            raise TFConfigError(
                f"TF_CONFIG: 'task.{key}' is missing."
                f' If "cluster" is set in TF_CONFIG, task {key} must be set.'
            )
    name, index = value.get("type", TaskType.WORKER.value), value.get("index", 0)
    if not isinstance(name, str) or (name not in _KNOWN_TYPES and name not in addresses):
        raise TFConfigError(
            f"TF_CONFIG: 'task.type' is {name!r}; it must be one of {', '.join(_KNOWN_TYPES)}."
            f" {name} is not a valid task_type."
        )
    number = _whole_number(index)
    if number is None:
        raise TFConfigError(f"TF_CONFIG: 'task.index' must be a whole number, not {index!r}.")
    if number < 0:
        raise TFConfigError(f"TF_CONFIG: 'task.index' is {number}. Task index must be non-negative number.")
    if addresses and name != TaskType.EVALUATOR.value:
        _check_member(name, number, addresses)
    return name, number


def _whole_number(value: Any) -> int | None:
    """Also of "1", which TensorFlow accepts; None for 1.5 and true, which int() would round."""
    if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
        return None
    try:
        return int(value)
    except (TypeError, ValueError):
        return None


def _check_member(name: str, index: int, addresses: Mapping[str, list[str]]) -> None:
    if name not in addresses:
        raise TFConfigError(
            f"TF_CONFIG: 'task.type' is '{name}', but 'cluster' has only {', '.join(addresses)}:"
            f" {name} is not a valid task_type in the cluster_spec."
        )
    size = len(addresses[name])
    if index >= size:
        raise TFConfigError(
            f"TF_CONFIG: 'task' is {name}-{index}, but 'cluster.{name}' has {size} entries, so the index must"
            f" be below {size}: {index} is not a valid task_id for task_type {name}."
        )
