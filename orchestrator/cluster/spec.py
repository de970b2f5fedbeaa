"""ClusterSpec: the resolved addresses of each task type."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.cluster.task import TaskId, TaskType


@dataclass(frozen=True)
class ClusterSpec:
    """Addresses (`host:port`) by task type; the index is the position.

    The evaluator is part of a ClusterSpec only where the evaluator itself
    looks at it: `for_task` leaves it out for every other task, since a
    coordinator that finds an evaluator in its cluster waits for it for ever.
    """

    addresses: Mapping[TaskType, tuple[str, ...]]

    @staticmethod
    def of(addresses: Mapping[TaskType | str, Sequence[str]]) -> ClusterSpec:
        """Builds one from plain names and lists, in the order of TaskType."""
        plain = {TaskType(key): tuple(value) for key, value in addresses.items()}
        return ClusterSpec({key: plain[key] for key in TaskType if key in plain})

    def tasks(self) -> Iterator[TaskId]:
        """Every task, in the order in which tasks are shown."""
        for task_type, hosts in self.addresses.items():
            for index in range(len(hosts)):
                yield TaskId(task_type, index)

    def address(self, task: TaskId) -> str:
        """The `host:port` of a task; KeyError when it is not in the cluster."""
        hosts = self.addresses.get(task.type, ())
        if task.index >= len(hosts):
            raise KeyError(str(task))
        return hosts[task.index]

    def for_task(self, task: TaskId) -> ClusterSpec:
        """The cluster as that task is told of it."""
        if task.type is TaskType.EVALUATOR:
            return self
        return ClusterSpec({k: v for k, v in self.addresses.items() if k is not TaskType.EVALUATOR})

    def as_dict(self) -> dict[str, list[str]]:
        """Plain names and lists, as TF_CONFIG holds them."""
        return {task_type.value: list(hosts) for task_type, hosts in self.addresses.items()}
