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

    def encode(self) -> str:
        """The exact string for the environment: one line of JSON."""
        return json.dumps(self.as_dict())

    def as_dict(self) -> dict[str, Any]:
        """The JSON object that TF_CONFIG holds."""
        value: dict[str, Any] = {}
        if self.cluster is not None:
            value["cluster"] = self.cluster.as_dict()
        if self.task is not None:
            value["task"] = {"type": self.task.type.value, "index": self.task.index}
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


def decode(text: str) -> TFConfig:
    """Reads a TF_CONFIG string.

    Raises TFConfigError, naming the key, for anything that TensorFlow would
    refuse or silently misread.
    """
    try:
        value = json.loads(text)
    except ValueError as error:
        raise TFConfigError(f"TF_CONFIG is not JSON: {error}. Its text is: {text[:200]}") from error
    if not isinstance(value, dict):
        raise TFConfigError(f"TF_CONFIG must be a JSON object, not {type(value).__name__}: {text[:200]}")
    cluster = _decode_cluster(value.get("cluster"))
    task = _decode_task(value.get("task"), cluster)
    return TFConfig(
        cluster=cluster,
        task=task,
        other={key: item for key, item in value.items() if key not in _KEYS},
        **{key: value.get(key) for key in _EXTRA_KEYS},
    )


def _decode_cluster(value: Any) -> ClusterSpec | None:
    if not value:
        return None
    if not isinstance(value, dict):
        raise TFConfigError(f"TF_CONFIG: 'cluster' must be an object of lists, not {value!r}.")
    addresses: dict[TaskType | str, list[str]] = {}
    for name, hosts in value.items():
        if name not in TaskType._value2member_map_:
            known = [task_type.value for task_type in TaskType]
            raise TFConfigError(
                f"TF_CONFIG: unknown task type '{name}' under 'cluster'.{near_miss(name, known)}"
                f" The known ones are {', '.join(known)}."
            )
        addresses[name] = _decode_hosts(name, hosts)
    for single in (TaskType.CHIEF, TaskType.MASTER, TaskType.EVALUATOR):
        if len(addresses.get(single.value, ())) > 1:
            raise TFConfigError(f"TF_CONFIG: more than one '{single}' under 'cluster'; there can be one.")
    if TaskType.CHIEF.value in addresses and TaskType.MASTER.value in addresses:
        raise TFConfigError("TF_CONFIG: both 'chief' and 'master' under 'cluster'; keep one of the two.")
    return ClusterSpec.of(addresses)


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


def _decode_task(value: Any, cluster: ClusterSpec | None) -> TaskId | None:
    if not value:
        return None
    if not isinstance(value, dict):
        raise TFConfigError(f"TF_CONFIG: 'task' must be an object with 'type' and 'index', not {value!r}.")
    name, index = value.get("type"), value.get("index", 0)
    if name not in TaskType._value2member_map_:
        known = [task_type.value for task_type in TaskType]
        raise TFConfigError(f"TF_CONFIG: 'task.type' is {name!r}; it must be one of {', '.join(known)}.")
    try:
        number = int(index)
    except (TypeError, ValueError):
        raise TFConfigError(f"TF_CONFIG: 'task.index' must be a whole number, not {index!r}.") from None
    if number < 0:
        raise TFConfigError(f"TF_CONFIG: 'task.index' is {number}; it must be 0 or more.")
    task = TaskId(TaskType(name), number)
    if cluster is not None and task.type is not TaskType.EVALUATOR:
        size = len(cluster.addresses.get(task.type, ()))
        if number >= size:
            raise TFConfigError(
                f"TF_CONFIG: 'task' is {task}, but 'cluster.{name}' has {size} entries;"
                f" the index must be below {size}."
            )
    return task
