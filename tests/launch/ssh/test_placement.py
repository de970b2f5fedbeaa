from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.cluster.task import TaskType
from orchestrator.errors import ConfigError
from orchestrator.launch.job import Job, StrategyKind, TaskRequest
from orchestrator.launch.ssh.placement import Capacity, Declared, can_wait, declared, missing, place
from tests.launch.jobs import task

TYPES = ("chief", "worker", "ps", "evaluator")


def job(**requests: TaskRequest | int) -> Job:
    tasks = {
        TaskType(name): TaskRequest(request) if isinstance(request, int) else request
        for name, request in requests.items()
    }
    there = Path("/nowhere")
    return Job("test", tasks, ("true",), StrategyKind.UNKNOWN, there, there, "/model")


def placed(of: Job, *hosts: Capacity) -> dict[str, str]:
    return {str(name): host for name, host in place(of, hosts).items()}


def test_equal_hosts_take_turns() -> None:
    hosts = [Capacity(name) for name in ("h1", "h2", "h3")]
    assert placed(job(chief=1, worker=1, ps=1, evaluator=1), *hosts) == {
        "chief-0": "h1",
        "worker-0": "h2",
        "ps-0": "h3",
        "evaluator-0": "h1",
    }


def test_a_host_twice_the_size_takes_twice_as_much() -> None:
    hosts = placed(job(worker=6), Capacity("small", cpus=4), Capacity("large", cpus=8))
    assert sorted(hosts.values()) == ["large"] * 4 + ["small"] * 2


def test_training_goes_where_gpus_are_and_the_rest_where_cores_are_left() -> None:
    hosts = placed(
        job(chief=1, worker=2, ps=1, evaluator=1),
        Capacity("plain", cpus=16, gpus=0),
        Capacity("two", cpus=8, gpus=2),
        Capacity("one", cpus=8, gpus=1),
    )
    trainers = sorted(hosts[name] for name in ("chief-0", "worker-0", "worker-1"))
    assert trainers == ["one", "two", "two"]
    assert hosts["ps-0"] == hosts["evaluator-0"] == "plain"


def test_gpus_that_are_asked_for_are_found_for_the_hungriest_first() -> None:
    hungry, modest = TaskRequest(1, gpus=4), TaskRequest(2, gpus=1)
    found = placed(
        job(chief=modest.__class__(1, gpus=1), worker=hungry), Capacity("a", gpus=4), Capacity("b", gpus=1)
    )
    assert found == {"chief-0": "b", "worker-0": "a"}
    with pytest.raises(ConfigError, match=r"worker-1 asks for 1 GPU, and no host has them left \(a 0\)"):
        place(job(worker=modest), [Capacity("a", gpus=1)])


def test_gpus_are_taken_for_granted_where_nobody_was_asked() -> None:
    assert placed(job(worker=TaskRequest(1, gpus=8)), Capacity("a")) == {"worker-0": "a"}


def test_declared_tasks_stay_and_count() -> None:
    chief = TaskRequest(1, hosts=("h2:4000",))
    found = placed(job(chief=chief, worker=3), Capacity("h1"), Capacity("h2"))
    assert found["chief-0"] == "h2"
    assert sorted(found.values()) == ["h1", "h1", "h2", "h2"]
    with pytest.raises(ConfigError, match="chief-0 is declared on h2, and that host cannot be used"):
        place(job(chief=chief), [Capacity("h1")])
    with pytest.raises(ConfigError, match="no host for worker-0"):
        place(job(worker=1), [])


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("h1", Declared("h1")),
        ("me@h1:2222", Declared("me@h1", 2222)),
        ("[fd00::1]", Declared("[fd00::1]")),
        ("[fd00::1]:2222", Declared("[fd00::1]", 2222)),
    ],
)
def test_hosts_are_read_with_their_ports(entry: str, expected: Declared) -> None:
    assert declared(job(chief=TaskRequest(1, hosts=(entry,))), task("chief-0")) == expected


def test_what_is_no_port_is_refused() -> None:
    with pytest.raises(ConfigError, match="'70000' is not a port"):
        declared(job(chief=TaskRequest(1, hosts=("h1:70000",))), task("chief-0"))


@given(
    st.dictionaries(st.sampled_from(TYPES), st.integers(1, 5), min_size=1),
    st.lists(st.tuples(st.integers(1, 64), st.integers(0, 8)), min_size=1, max_size=5),
)
def test_every_task_gets_a_host_and_the_same_one_each_time(
    replicas: dict[str, int], sizes: list[tuple[int, int]]
) -> None:
    hosts = [Capacity(f"h{n}", cpus, gpus) for n, (cpus, gpus) in enumerate(sizes)]
    found = place(job(**replicas), hosts)
    assert len(found) == sum(replicas.values())
    assert {*found.values()} <= {host.host for host in hosts}
    assert found == place(job(**replicas), hosts)
    assert found == place(replace(job(**replicas), name="other"), hosts)


def test_hosts_that_tasks_are_declared_on_are_missed_and_others_are_not() -> None:
    of = job(chief=TaskRequest(1, hosts=("h1",)), worker=TaskRequest(2, hosts=("h2", "h2")))
    why = {"h2": "timed out", "h3": "no route"}
    assert missing(of, why, 3) == "host h2 cannot be reached (worker-0, worker-1 declared there; timed out)"
    assert missing(of, {"h3": "no route"}, 3) is None


def test_an_evaluators_host_is_not_missed_beside_a_training() -> None:
    evaluator = TaskRequest(1, hosts=("h2",))
    why = {"h2": "timed out"}
    beside = job(chief=1, evaluator=evaluator)
    assert missing(beside, why, 3) is None
    text = "host h2 cannot be reached (evaluator-0 declared there; timed out)"
    assert missing(beside, why, 3, [task("evaluator-0")]) == text
    assert missing(job(evaluator=evaluator), why, 3) == text, "where nothing else runs"
    assert not can_wait(job(evaluator=1), task("evaluator-0"))
    assert not can_wait(beside, task("chief-0"))


def test_tasks_that_stay_are_not_moved_and_count_where_that_host_is_known() -> None:
    hosts = [Capacity("h1"), Capacity("h2")]
    of = job(chief=1, worker=1, evaluator=1)
    assert place(of, hosts)[task("evaluator-0")] == "h1"
    for host, others in (("h1", ["h1", "h2"]), ("gone", ["h1", "h2"])):
        found = place(of, hosts, {task("evaluator-0"): host})
        assert found.pop(task("evaluator-0")) == host
        assert sorted(found.values()) == others
    elsewhere = job(chief=1, evaluator=TaskRequest(1, hosts=("h2",)))
    assert place(elsewhere, hosts, {task("evaluator-0"): "h1"})[task("evaluator-0")] == "h1", "it runs there"


def test_tasks_that_are_left_out_need_no_host() -> None:
    of = job(chief=1, evaluator=TaskRequest(1, hosts=("h2",)))
    assert place(of, [Capacity("h1")], {}, [task("evaluator-0")]) == {task("chief-0"): "h1"}


def test_where_no_host_is_left_all_are_missed() -> None:
    text = missing(job(worker=2), {"h1": "timed out", "h2": ""}, 2)
    assert text == "host h1 cannot be reached (timed out); host h2 cannot be reached (no reason was given)"
