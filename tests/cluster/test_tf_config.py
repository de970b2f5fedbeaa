from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.cluster import tf_config
from orchestrator.cluster.spec import ClusterSpec
from orchestrator.cluster.task import TaskId, TaskType
from orchestrator.cluster.tf_config import TFConfig, decode
from orchestrator.errors import TFConfigError
from tests.cluster.strategies import cluster_specs, clusters_and_tasks, json_values

EXTRA_KEYS = ("model_dir", "session_master", "eval_session_master", "rpc_layer", "environment")
texts = st.none() | st.text(min_size=1)
others = st.dictionaries(
    st.text().filter(lambda key: key not in {"cluster", "task", "service", *EXTRA_KEYS}),
    json_values,
    max_size=3,
)


@given(
    pair=clusters_and_tasks(),
    extras=st.fixed_dictionaries(dict.fromkeys(EXTRA_KEYS, texts)),
    service=st.none() | st.dictionaries(st.text(), json_values, max_size=3),
    other=others,
)
def test_round_trip(
    pair: tuple[ClusterSpec, TaskId],
    extras: dict[str, Any],
    service: dict[str, Any] | None,
    other: dict[str, Any],
) -> None:
    cluster, task = pair
    config = TFConfig(cluster=cluster, task=task, service=service, other=other, **extras)
    text = config.encode()
    assert "\n" not in text
    assert decode(text) == config
    assert decode(text).encode() == text


@given(cluster_specs(), st.none() | st.text(min_size=1))
def test_all_tasks_of_a_launched_cluster_agree(cluster: ClusterSpec, model_dir: str | None) -> None:
    seen = {task: decode(tf_config.for_task(cluster, task, model_dir).encode()) for task in cluster.tasks()}
    for task, config in seen.items():
        assert config.task == task
        assert config.model_dir == model_dir
        assert config.cluster is not None
        assert (TaskType.EVALUATOR in config.cluster.addresses) == (task.type is TaskType.EVALUATOR)
    trainers = [config.cluster for task, config in seen.items() if task.type is not TaskType.EVALUATOR]
    assert all(cluster == trainers[0] for cluster in trainers)


@given(st.text() | json_values.map(json.dumps))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(TFConfigError):
        assert isinstance(decode(text), TFConfig)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "cluster": st.dictionaries(
                st.sampled_from(["chief", "worker", "ps", "wroker"]), json_values, max_size=2
            ),
            "task": st.fixed_dictionaries({}, optional={"type": json_values, "index": json_values}),
        },
    )
)
def test_any_cluster_and_task_is_read_or_refused(value: dict[str, Any]) -> None:
    try:
        config = decode(json.dumps(value))
    except TFConfigError:
        return
    if config.cluster is not None and config.task is not None and config.task.type is not TaskType.EVALUATOR:
        config.cluster.address(config.task)


CLUSTER = {"chief": ["c:1"], "worker": ["w:1", "w:2"], "ps": ["p:1"]}


@pytest.mark.parametrize(
    ("value", "fragments"),
    [
        ({"cluster": {**CLUSTER, "chief": ["c:1", "c:2"]}}, ["'chief'", "one"]),
        ({"cluster": {**CLUSTER, "evaluator": ["e:1", "e:2"]}}, ["'evaluator'", "one"]),
        ({"cluster": {**CLUSTER, "master": ["m:1"]}}, ["chief", "master"]),
        ({"cluster": {"wroker": ["w:1"]}}, ["wroker", "Did you mean 'worker'?"]),
        ({"cluster": ["c:1"]}, ["'cluster'", "object"]),
        ({"cluster": {"worker": "w:1"}}, ["cluster.worker", "list"]),
        ({"cluster": {"worker": ["w:1", ""]}}, ["cluster.worker"]),
        ({"cluster": {"worker": {"0": "w:1", "2": "w:2"}}}, ["cluster.worker", "gaps"]),
        ({"cluster": CLUSTER, "task": {"type": "worker", "index": 2}}, ["worker-2", "below 2"]),
        ({"cluster": CLUSTER, "task": {"type": "worker", "index": -1}}, ["task.index", "-1"]),
        ({"cluster": CLUSTER, "task": {"type": "worker", "index": 0.5}}, ["task.index", "0.5"]),
        ({"cluster": CLUSTER, "task": {"type": "worker", "index": True}}, ["task.index", "True"]),
        ({"cluster": CLUSTER, "task": {"type": "worker", "index": "one"}}, ["task.index", "'one'"]),
        ({"cluster": CLUSTER, "task": {"type": ["worker"], "index": 0}}, ["task.type"]),
        ({"cluster": CLUSTER, "task": {"type": "boss", "index": 0}}, ["task.type", "boss"]),
        ({"cluster": CLUSTER, "task": ["worker", 0]}, ["'task'", "object"]),
    ],
)
def test_what_tensorflow_would_misread_is_refused_by_its_key(
    value: dict[str, Any], fragments: list[str]
) -> None:
    with pytest.raises(TFConfigError) as error:
        decode(json.dumps(value))
    for fragment in fragments:
        assert fragment in str(error.value)


def test_an_evaluator_may_stand_outside_of_the_cluster() -> None:
    config = decode(json.dumps({"cluster": CLUSTER, "task": {"type": "evaluator", "index": 0}}))
    assert config.task == TaskId(TaskType.EVALUATOR, 0)


def test_the_sparse_form_and_text_indices_are_read_as_tensorflow_does() -> None:
    value = {"cluster": {"worker": {"1": "w:2", "0": "w:1"}}, "task": {"type": "worker", "index": "1"}}
    config = decode(json.dumps(value))
    assert config.cluster == ClusterSpec.of({"worker": ["w:1", "w:2"]})
    assert config.task == TaskId(TaskType.WORKER, 1)


@pytest.mark.parametrize("text", ["{}", '{"cluster": {}, "task": {}}', '{"cluster": null}'])
def test_an_empty_one_means_a_lone_process(text: str) -> None:
    config = decode(text)
    assert config.cluster is None
    assert config.task is None
