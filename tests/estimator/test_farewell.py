"""How a parameter server learns, without a launcher, that every trainer is done."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest
import tensorflow as tf

from orchestrator.estimator import farewell

v1 = tf.compat.v1
pytestmark = pytest.mark.xdist_group("estimator")
CLUSTER = {"chief": ["h:1"], "worker": ["h:2", "h:3"], "ps": ["h:4"]}
LIMIT = 240.0


@pytest.fixture(scope="module")
def parameter_server() -> Any:
    """A real server for the ps alone, on a port of the kernel's choice; the trainers have none."""
    return v1.train.Server({"ps": ["127.0.0.1:0"]}, job_name="ps", task_index=0)


def task(name: str, index: int, target: str) -> Any:
    """The configuration of one task of CLUSTER whose sessions connect to `target`."""
    cluster = tf.train.ClusterSpec(CLUSTER)
    return SimpleNamespace(cluster_spec=cluster, task_type=name, task_id=index, master=target)


@pytest.mark.parametrize(
    ("cluster", "count"),
    [
        (CLUSTER, 3),
        ({"master": ["h:1"], "ps": ["h:2", "h:3"]}, 1),
        ({"worker": ["h:1", "h:2"], "evaluator": ["h:3"]}, 2),
    ],
)
def test_chief_master_and_workers_train(cluster: dict[str, list[str]], count: int) -> None:
    assert farewell.count_trainers(tf.train.ClusterSpec(cluster)) == count


def test_the_server_waits_for_the_last_trainer(
    parameter_server: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(farewell, "_SAY_SECONDS", LIMIT)
    caplog.set_level("INFO", "tensorflow")
    ps = task("ps", 0, parameter_server.target)
    waiting = threading.Thread(
        target=farewell.wait_for_all, args=(parameter_server, ps), daemon=True, name="waiting"
    )
    waiting.start()
    trainers = [("worker", 1), ("chief", 0), ("worker", 0)]
    for number, (name, index) in enumerate(trainers, 1):
        assert waiting.is_alive()  # it cannot end before all have spoken
        farewell.say_done(task(name, index, parameter_server.target))
        if number == len(trainers):
            waiting.join(LIMIT)
    assert not waiting.is_alive()
    left = [record.args[0] for record in caplog.records if "still train" in record.msg]
    assert left == [2, 1, 0]


def test_trainers_may_say_it_before_the_server_asks(
    parameter_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(farewell, "_SAY_SECONDS", LIMIT)
    for name, index in (("chief", 0), ("worker", 0), ("worker", 1)):
        farewell.say_done(task(name, index, parameter_server.target))
    farewell.wait_for_all(parameter_server, task("ps", 0, parameter_server.target))


def test_a_server_that_is_gone_keeps_no_trainer(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = threading.Event()
    monkeypatch.setattr(farewell, "_say_done", lambda config: gone.wait(LIMIT))
    monkeypatch.setattr(farewell, "_SAY_SECONDS", 0.05)
    farewell.say_done(task("chief", 0, "grpc://127.0.0.1:1"))
    assert not gone.is_set()  # it returned though nobody answered
    gone.set()


def test_a_refused_farewell_is_no_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise tf.errors.UnavailableError(None, None, "connection refused")

    monkeypatch.setattr(farewell.v1, "Session", refuse)
    caplog.set_level("INFO", "tensorflow")
    farewell._say_done(task("chief", 0, "grpc://127.0.0.1:1"))
    assert "could not be told that training is done" in caplog.text
    assert "connection refused" in caplog.text
