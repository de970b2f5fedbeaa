from __future__ import annotations

import json
from typing import Any

import pytest

from orchestrator.cluster.tf_config import decode
from orchestrator.errors import TFConfigError
from orchestrator.estimator.cluster_view import ClusterView, view_of

CLUSTER = {"chief": ["c:1"], "worker": ["w:1", "w:2"], "ps": ["p:1", "p:2"]}


def view(cluster: dict[str, Any] | None, task: tuple[str, int] | None, **extra: Any) -> ClusterView:
    worker_may_lead = extra.pop("worker_may_lead", False)
    value = dict(extra)
    if cluster is not None:
        value["cluster"] = cluster
    if task is not None:
        value["task"] = {"type": task[0], "index": task[1]}
    return view_of(decode(json.dumps(value), foreign_types=True), worker_may_lead)


def test_a_lone_process_is_its_own_chief() -> None:
    lone = view(None, None)
    assert (lone.task_type, lone.task_id, lone.is_chief, lone.master) == ("worker", 0, True, "")
    assert (lone.num_worker_replicas, lone.num_ps_replicas, lone.global_id_in_cluster) == (1, 0, 0)


def test_session_targets_of_a_lone_process_are_taken_from_tf_config() -> None:
    lone = view(None, None, session_master="here", eval_session_master="there")
    assert (lone.master, lone.evaluation_master) == ("here", "there")


@pytest.mark.parametrize("task", [("chief", 0), ("worker", 1)])
def test_a_lone_process_can_be_nothing_but_worker_0(task: tuple[str, int]) -> None:
    with pytest.raises(TFConfigError, match='"cluster" is not set'):
        view(None, task)


@pytest.mark.parametrize(
    ("task", "global_id", "master", "chief"),
    [
        (("chief", 0), 0, "grpc://c:1", True),
        (("worker", 0), 1, "grpc://w:1", False),
        (("worker", 1), 2, "grpc://w:2", False),
        (("ps", 0), 3, "grpc://p:1", False),
        (("ps", 1), 4, "grpc://p:2", False),
    ],
)
def test_each_task_of_a_cluster(task: tuple[str, int], global_id: int, master: str, chief: bool) -> None:
    seen = view(CLUSTER, task)
    assert (seen.task_type, seen.task_id) == task
    assert (seen.global_id_in_cluster, seen.master, seen.is_chief) == (global_id, master, chief)
    assert (seen.num_worker_replicas, seen.num_ps_replicas) == (3, 2)


def test_the_evaluator_is_outside_of_the_cluster() -> None:
    seen = view({**CLUSTER, "evaluator": ["e:1"]}, ("evaluator", 0), eval_session_master="grpc://e:1")
    assert seen.addresses == {}
    assert (seen.is_chief, seen.global_id_in_cluster, seen.num_worker_replicas) == (False, None, 0)
    assert (seen.master, seen.evaluation_master) == ("", "grpc://e:1")


def test_the_evaluator_needs_no_chief_beside_it() -> None:
    assert view({"evaluator": ["e:1"]}, ("evaluator", 0)).task_type == "evaluator"


def test_an_evaluator_listed_in_the_cluster_is_no_task_of_it() -> None:
    seen = view({"chief": ["c:1"], "evaluator": ["e:1"]}, ("chief", 0))
    assert list(seen.addresses) == ["chief"]
    assert seen.master == "", "the only task of a cluster needs no server"


def test_the_configured_session_target_wins() -> None:
    assert view(CLUSTER, ("worker", 0), session_master="grpc://proxy:1").master == "grpc://proxy:1"


def test_worker_0_leads_where_that_is_allowed() -> None:
    workers = {"worker": ["w:1", "w:2"]}
    assert view(workers, ("worker", 0), worker_may_lead=True).is_chief
    second = view(workers, ("worker", 1), worker_may_lead=True)
    assert (second.is_chief, second.num_worker_replicas, second.global_id_in_cluster) == (False, 2, 1)
    with pytest.raises(TFConfigError, match=r"must have one \"chief\" node\. Given: worker"):
        view(workers, ("worker", 0))


def test_master_is_the_old_name_of_chief() -> None:
    seen = view({"master": ["m:1"], "worker": ["w:1"]}, ("master", 0))
    assert (seen.is_chief, seen.num_worker_replicas, seen.global_id_in_cluster) == (True, 2, 0)
    with pytest.raises(TFConfigError, match="Rename 'master' to 'chief'"):
        view({"master": ["m:1"]}, ("evaluator", 0))


def test_a_cluster_without_task_is_refused() -> None:
    with pytest.raises(TFConfigError, match="task type must be set"):
        view(CLUSTER, None)


def test_types_of_one_s_own_come_between_chief_and_ps() -> None:
    cluster = {**CLUSTER, "logger": ["l:1"]}
    assert view(cluster, ("logger", 0)).global_id_in_cluster == 1
    assert view(cluster, ("worker", 0)).global_id_in_cluster == 2
