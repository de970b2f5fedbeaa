from __future__ import annotations

import pytest
from hypothesis import given

from orchestrator.cluster.spec import ClusterSpec
from orchestrator.cluster.task import TaskId, TaskType
from tests.cluster.strategies import cluster_specs, clusters_and_tasks


@given(cluster_specs())
def test_plain_form_reads_back(cluster: ClusterSpec) -> None:
    assert ClusterSpec.of(cluster.as_dict()) == cluster


@given(clusters_and_tasks())
def test_only_the_evaluator_is_told_of_the_evaluator(pair: tuple[ClusterSpec, TaskId]) -> None:
    cluster, task = pair
    seen = cluster.for_task(task)
    if task.type is TaskType.EVALUATOR:
        assert seen == cluster
    else:
        assert TaskType.EVALUATOR not in seen.addresses
        assert all(
            seen.address(t) == cluster.address(t) for t in cluster.tasks() if t.type is not TaskType.EVALUATOR
        )


@given(cluster_specs())
def test_indices_are_dense_and_every_task_has_its_address(cluster: ClusterSpec) -> None:
    tasks = list(cluster.tasks())
    assert len(set(tasks)) == len(tasks) == sum(len(hosts) for hosts in cluster.as_dict().values())
    assert [cluster.address(task) for task in tasks] == [
        a for hosts in cluster.as_dict().values() for a in hosts
    ]


def test_types_stand_in_the_order_of_task_type() -> None:
    cluster = ClusterSpec.of({"ps": ["a:1"], "worker": ["b:1"], "chief": ["c:1"]})
    assert list(cluster.as_dict()) == ["chief", "worker", "ps"]


@pytest.mark.parametrize("task", [TaskId(TaskType.WORKER, 1), TaskId(TaskType.PS, 0)])
def test_a_task_outside_of_the_cluster_has_no_address(task: TaskId) -> None:
    with pytest.raises(KeyError, match=str(task)):
        ClusterSpec.of({"worker": ["a:1"]}).address(task)


def test_unknown_types_are_refused() -> None:
    with pytest.raises(ValueError, match="boss"):
        ClusterSpec.of({"boss": ["a:1"]})
