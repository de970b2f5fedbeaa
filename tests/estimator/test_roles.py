from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.cluster.records import TaskEnvironment
from orchestrator.cluster.task import TaskId
from orchestrator.errors import InvalidArgument
from orchestrator.estimator import roles
from orchestrator.estimator.run_config import RunConfig
from orchestrator.estimator.stop_request import StopRequest

CLUSTER = {"chief": ["h:1"], "worker": ["h:2", "h:3"], "ps": ["h:4"]}


class RecordingEstimator:
    def __init__(self, config: Any, calls: list[str]) -> None:
        self.config, self._calls = config, calls

    def train(self, **arguments: Any) -> None:
        self._calls.append("train")


def assignment(config: Any, calls: list[str]) -> roles.Assignment:
    train_spec = SimpleNamespace(input_fn=None, max_steps=1, hooks=(), saving_listeners=())
    return roles.Assignment(RecordingEstimator(config, calls), train_spec, None, config, StopRequest())


def config_of(monkeypatch: pytest.MonkeyPatch, task_type: str, index: int = 0, **extra: Any) -> RunConfig:
    value = {"cluster": CLUSTER, "task": {"type": task_type, "index": index}, **extra}
    monkeypatch.setenv("TF_CONFIG", json.dumps(value))
    return RunConfig(experimental_max_worker_delay_secs=0)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    made: list[str] = []
    monkeypatch.setattr(roles, "start_server", lambda config: made.append("server"))
    monkeypatch.setattr(roles, "say_done", lambda config: made.append("done"))
    return made


@pytest.mark.parametrize("task_type", ["chief", "worker"])
def test_a_trainer_starts_its_server_before_it_trains(
    task_type: str, calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(monkeypatch, task_type)
    roles._role(config)(assignment(config, calls))
    assert calls == ["server", "train", "done"]


def test_no_server_is_started_where_the_platform_runs_them(
    calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(monkeypatch, "worker", environment="google", session_master="grpc://given:1")
    roles.run_worker(assignment(config, calls))
    assert calls == ["train", "done"]
    assert config.master == "grpc://given:1"
    assert config_of(monkeypatch, "worker", environment="cloud").starts_server


@pytest.mark.parametrize(
    ("index", "limit", "expected"), [(0, None, 5), (3, None, 20), (40, None, 60), (3, 7, 7), (3, 0, 0)]
)
def test_workers_start_one_after_the_other(index: int, limit: int | None, expected: int) -> None:
    config = SimpleNamespace(task_id=index, experimental_max_worker_delay_secs=limit)
    assert roles._worker_delay(config) == expected


@pytest.mark.parametrize(
    ("task_type", "part"),
    [("", "must have task_type set"), ("local", "cannot be `local`"), ("wroker", "Did you mean 'worker'?")],
)
def test_a_wrong_task_type_is_refused(task_type: str, part: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        roles._role(SimpleNamespace(cluster_spec={"chief": ["h:1"]}, task_type=task_type))
    assert part in str(caught.value)


def test_every_task_type_has_its_role() -> None:
    cluster = {"chief": ["h:1"]}
    for name in ("chief", "worker", "master", "ps", "evaluator"):
        role = roles._role(SimpleNamespace(cluster_spec=cluster, task_type=name))
        assert role.__name__ == f"run_{name}"
    assert roles._role(SimpleNamespace(cluster_spec={}, task_type="worker")) is roles.run_local
    assert roles._role(SimpleNamespace(cluster_spec={}, task_type="evaluator")) is roles.run_evaluator


def test_whether_the_launcher_started_an_evaluator(tmp_path: Path) -> None:
    environment = TaskEnvironment(tmp_path, TaskId.parse("chief-0"), attempt=0)
    chief = assignment(SimpleNamespace(task_environment=environment), [])
    assert chief.has_no_evaluator
    (tmp_path / "tasks" / "evaluator-0").mkdir(parents=True)
    assert not chief.has_no_evaluator
    assert not assignment(SimpleNamespace(task_environment=None), []).has_no_evaluator
