"""The server of a process: started once, with the right arguments, and waited for."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest
import tensorflow as tf

from orchestrator.errors import ConfigError
from orchestrator.estimator import server, strategies
from orchestrator.estimator.stop_request import StopRequest

v1 = tf.compat.v1
CLUSTER = {"chief": ["h:1"], "worker": ["h:2", "h:3"], "ps": ["h:4"]}


class FakeServer:
    """Keeps its arguments in place of listening."""

    made: list[FakeServer]

    def __init__(self, cluster: Any, **arguments: Any) -> None:
        self.cluster, self.arguments = cluster, arguments
        self.target = f"grpc://fake-{len(self.made)}"
        self.made.append(self)


@pytest.fixture(autouse=True)
def made(monkeypatch: pytest.MonkeyPatch) -> list[FakeServer]:
    """The servers that a test has started."""
    monkeypatch.setattr(FakeServer, "made", [], raising=False)
    monkeypatch.setattr(server.v1.train, "Server", FakeServer)
    monkeypatch.setattr(server, "_started", {})
    return FakeServer.made


def config(cluster: Any = CLUSTER, task: str = "worker", index: int | None = 1, **fields: Any) -> Any:
    given: dict[str, Any] = {
        "cluster_spec": tf.train.ClusterSpec(cluster),
        "task_type": task,
        "task_id": index,
        "master": "grpc://h:3",
        "protocol": None,
        "session_config": None,
        "memory_growth": None,
        "train_distribute": None,
    }
    return SimpleNamespace(**{**given, **fields})


def test_it_is_the_server_of_this_task(made: list[FakeServer]) -> None:
    server.start_server(config(protocol="grpc+verbs"))
    (only,) = made
    assert only.cluster.as_dict() == CLUSTER
    arguments = {key: only.arguments[key] for key in ("job_name", "task_index", "protocol", "start")}
    assert arguments == {"job_name": "worker", "task_index": 1, "protocol": "grpc+verbs", "start": True}


def test_a_process_starts_it_once(made: list[FakeServer]) -> None:
    first = server.start_server(config())
    assert server.start_server(config()) is first
    assert len(made) == 1
    assert server.start_server(config(index=0)) is not first  # another task: only in tests one process is two


def test_a_lone_trainer_needs_none_and_a_lone_ps_does(made: list[FakeServer]) -> None:
    assert server.start_server(config({"chief": ["h:1"]}, "chief", 0, master="")) is None
    assert made == []
    with pytest.raises(ConfigError, match="be sure to specify master"):
        server.start_server(config({"ps": ["h:1"]}, "ps", 0, master=""))


@pytest.mark.parametrize("missing", [{"cluster": {}}, {"task": None}, {"task": ""}, {"index": None}])
def test_what_is_missing_is_said(missing: dict[str, Any], made: list[FakeServer]) -> None:
    with pytest.raises(ConfigError, match="cluster_spec, task_type, and task"):
        server.start_server(config(**missing))
    assert made == []


def test_gpu_options_of_the_user_reach_the_first_session_of_the_process(made: list[FakeServer]) -> None:
    wanted = v1.ConfigProto(intra_op_parallelism_threads=3)
    wanted.gpu_options.per_process_gpu_memory_fraction = 0.25
    server.start_server(config(session_config=wanted))
    options = made[0].arguments["config"].gpu_options
    assert options.per_process_gpu_memory_fraction == 0.25


class TestSessionMaster:
    """Where sessions of this task connect to."""

    strategy = SimpleNamespace(extended=SimpleNamespace())

    @pytest.fixture
    def across(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(server, "crosses_processes", lambda strategy: strategy is self.strategy)

    def test_it_is_the_configured_one_where_no_strategy_crosses_processes(
        self, across: None, made: list[FakeServer]
    ) -> None:
        assert server.session_master(config(), None, v1.ConfigProto()) == "grpc://h:3"
        assert made == []

    def test_tasks_that_step_together_start_a_server_with_the_strategys_configuration(
        self, across: None, made: list[FakeServer]
    ) -> None:
        proto = v1.ConfigProto(intra_op_parallelism_threads=5)
        assert server.session_master(config(master=""), self.strategy, proto) == made[0].target
        assert made[0].arguments["config"] is proto

    def test_a_server_that_the_strategy_has_started_is_taken(
        self, across: None, made: list[FakeServer], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(self.strategy.extended, "_std_server_started", True, raising=False)
        assert server.session_master(config(), self.strategy, v1.ConfigProto()) == "grpc://h:3"
        assert made == []

    def test_which_strategies_cross_processes_is_asked_of_them(self) -> None:
        assert server.crosses_processes is strategies.crosses_processes


class TestServing:
    """`serve` returns at the first wait that is over, or when it is asked to stop."""

    def test_the_first_wait_that_is_over_ends_it(self) -> None:
        never = threading.Event()
        try:
            assert not server.serve([never.wait, lambda: None], StopRequest())
        finally:
            never.set()

    def test_a_request_to_stop_ends_it_though_nothing_is_over(self) -> None:
        never, stop = threading.Event(), StopRequest()
        asking = threading.Timer(0.3, stop.set)
        asking.start()
        try:
            assert server.serve([never.wait], stop)
        finally:
            never.set()
            asking.join()

    def test_waiting_leaves_the_main_thread_to_signal_handlers(self) -> None:
        waited_in: list[threading.Thread] = []
        server.serve([lambda: waited_in.append(threading.current_thread())], StopRequest())
        (thread,) = waited_in
        assert thread is not threading.main_thread()
        assert thread.daemon
