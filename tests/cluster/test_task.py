from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.cluster.task import TaskId, TaskType
from orchestrator.errors import ConfigError

task_ids = st.builds(TaskId, st.sampled_from(TaskType), st.integers(0, 10_000))


@given(task_ids, st.sampled_from("-:"))
def test_a_printed_task_reads_back(task: TaskId, separator: str) -> None:
    assert TaskId.parse(str(task)) == task
    assert TaskId.parse(f"{task.type}{separator}{task.index}") == task


@pytest.mark.parametrize(
    "text",
    [
        "",
        "worker",
        "worker-",
        "worker--1",
        "boss-0",
        "worker-1\n",
        "Worker-1",
        "worker-1x",
        "worker-\N{ARABIC-INDIC DIGIT ONE}",
    ],
)
def test_anything_else_is_refused_with_the_known_types(text: str) -> None:
    with pytest.raises(ConfigError) as error:
        TaskId.parse(text)
    assert "worker-0" in str(error.value)
    assert error.value.exit_code == 2


@given(st.lists(task_ids))
def test_tasks_sort_by_type_then_index(tasks: list[TaskId]) -> None:
    order = list(TaskType)
    assert sorted(tasks) == sorted(tasks, key=lambda task: (order.index(task.type), task.index))


def test_chief_master_and_workers_train() -> None:
    training = {kind for kind in TaskType if TaskId(kind, 0).trains}
    assert training == {TaskType.CHIEF, TaskType.MASTER, TaskType.WORKER}
