"""A task: one process of a job, known by its type and index."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from orchestrator.errors import ConfigError


class TaskType(str, Enum):
    """The task types that TensorFlow knows, in the order in which they are shown.

    `MASTER` is the TensorFlow 1 spelling of chief; it is read in a TF_CONFIG
    that a user brings and never written.
    """

    CHIEF = "chief"
    MASTER = "master"
    WORKER = "worker"
    PS = "ps"
    EVALUATOR = "evaluator"

    def __str__(self) -> str:
        return self.value


_RANK = {task_type: rank for rank, task_type in enumerate(TaskType)}
_PRINTED = re.compile(r"([a-z]+)[-:]([0-9]+)")


@dataclass(frozen=True)
class TaskId:
    """Type and index of a task, printed `worker-1`."""

    type: TaskType
    index: int

    def __str__(self) -> str:
        return f"{self.type.value}-{self.index}"

    def __lt__(self, other: TaskId) -> bool:
        return (_RANK[self.type], self.index) < (_RANK[other.type], other.index)

    @property
    def trains(self) -> bool:
        """Whether the task takes training steps (chief, master, worker)."""
        return self.type in (TaskType.CHIEF, TaskType.MASTER, TaskType.WORKER)

    @staticmethod
    def parse(text: str) -> TaskId:
        """Reads `worker-1` or `worker:1`; raises ConfigError for anything else."""
        match = _PRINTED.fullmatch(text)
        if match and match[1] in TaskType._value2member_map_:
            return TaskId(TaskType(match[1]), int(match[2]))
        known = ", ".join(f"{task_type}-0" for task_type in TaskType)
        raise ConfigError(f"'{text}' is not a task; write TYPE-INDEX, for example one of {known}.")
