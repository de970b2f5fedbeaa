"""Hosts that fit and hosts that do not: what is said of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cluster.task import TaskId, TaskType
from orchestrator.errors import EnvironmentProblem
from orchestrator.launch.job import Job, StrategyKind, TaskRequest
from orchestrator.launch.node.frames import Header
from orchestrator.launch.ssh.host_comparison import (
    COLUMNS,
    Needs,
    compare,
    needs_by_host,
    require_common_ground,
)
from orchestrator.launch.ssh.host_survey import HostAnswers, Visit, survey

GIB = 2**30
MODEL_DIR = "/shared/model"


def job(**chief: Any) -> Job:
    return Job(
        name="digits",
        tasks={TaskType.CHIEF: TaskRequest(1, **chief), TaskType.WORKER: TaskRequest(2)},
        command=("python", "train.py"),
        strategy=StrategyKind.ASYNCHRONOUS,
        run_dir=Path("/tmp/run"),
        working_dir=Path("/tmp"),
        model_dir=MODEL_DIR,
    )


def facts(**different: Any) -> dict[str, Any]:
    return {
        "hostname": "host",
        "python": "3.11.7",
        "machine": "x86_64",
        "executable": "/usr/bin/python3",
        "python_error": None,
        "tensorflow": "2.21.0",
        "packages": {"numpy": "2.1.0"},
        "cpus": 8,
        "gpus": ["0", "1"],
        "memory_bytes": 32 * GIB,
        "available_bytes": 16 * GIB,
        "names": {"10.0.0.1": ["10.0.0.1"], "10.0.0.2": ["10.0.0.2"]},
        "port": 4001,
        "port_error": None,
        "model_dir": {"place": MODEL_DIR, "error": None, "free_bytes": 100 * GIB},
        **different,
    }


def two(first: Mapping[str, Any] | None = None, **second: Any) -> dict[str, HostAnswers]:
    """h1 with the first facts, h2 with the others."""
    return {
        "h1": HostAnswers("h1", "10.0.0.1", None, facts(**(first or {})), {"h2": None}, {"h2": None}),
        "h2": HostAnswers("h2", "10.0.0.2", None, facts(**second), {"h1": None}, {"h1": None}),
    }


def test_hosts_that_fit_are_a_go() -> None:
    needs = {"h1": Needs(2, 4, 2 * GIB, 1), "h2": Needs(1)}
    found = compare(job(), two(), needs)
    assert found.go
    assert found.problems == found.remarks == ()
    assert found.rows == (
        ("h1", "2", "3.11.7", "2.21.0", "8", "16 GiB", "2", "free", "ok"),
        ("h2", "1", "3.11.7", "2.21.0", "8", "16 GiB", "2", "free", "ok"),
    )
    assert all(len(row) == len(COLUMNS) for row in found.rows)


NOT_THERE = {"place": MODEL_DIR, "error": "Permission denied", "free_bytes": None}
ELSEWHERE = {"place": "/", "error": None, "free_bytes": GIB}
FULL = {"place": MODEL_DIR, "error": None, "free_bytes": 1000}


@pytest.mark.parametrize(
    ("different", "wanted"),
    [
        ({"tensorflow": None}, "h2: /usr/bin/python3 has no TensorFlow. Install it there"),
        ({"tensorflow": "2.15.1"}, "h2: TensorFlow 2.15.1 is too old. Install 2.16 or later."),
        ({"tensorflow": "2.16.2"}, "TensorFlow differs: 2.21.0 on h1; 2.16.2 on h2. Install one version"),
        ({"machine": "aarch64"}, "the processor differs: x86_64 on h1; aarch64 on h2."),
        (
            {"packages": {"scikit-learn": None}},
            "h2: lacks scikit-learn. Run there: /usr/bin/python3 -m pip install",
        ),
        ({"python_error": "gone"}, "h2: /usr/bin/python3 cannot be asked for its packages: gone."),
        ({"cpus": 1}, "h2: 2 cores declared, 1 usable. Lower resources.cpus"),
        ({"available_bytes": GIB}, "h2: 2.0 GiB declared, 1.0 GiB available. Lower resources.memory"),
        ({"gpus": []}, "h2: 1 GPUs declared, 0 visible. Lower resources.gpus"),
        ({"port_error": "Address already in use"}, "h2: its port cannot be held: Address already in use."),
        ({"names": {"10.0.0.1": "Name or service not known"}}, "h2 cannot resolve 10.0.0.1: Name or service"),
        (
            {"names": {"10.0.0.1": ["127.0.1.1"]}},
            "h2 takes 10.0.0.1 for itself (127.0.1.1). Give h1 an address",
        ),
        ({"model_dir": NOT_THERE}, "h2: model dir /shared/model cannot be written: Permission denied."),
        (
            {"model_dir": ELSEWHERE},
            "model dir /shared/model is not shared: on h1 there is /shared/model; on h2 there is /.",
        ),
        ({"model_dir": FULL}, "h2: 1000 B are free at model dir /shared/model."),
    ],
)
def test_each_problem_names_host_and_fix(different: dict[str, Any], wanted: str) -> None:
    needs = {"h1": Needs(1), "h2": Needs(1, 2, 2 * GIB, 1)}
    found = compare(job(), two(**different), needs)
    assert not found.go
    assert any(problem.startswith(wanted) for problem in found.problems), found.problems
    assert len(found.problems) == 1 + (different.get("tensorflow") == "2.15.1"), found.problems


def test_what_only_differs_a_little_is_a_remark() -> None:
    found = compare(job(), two(python="3.10.2", tensorflow="2.21.1", packages={"numpy": "1.26.4"}), {})
    assert found.go
    assert found.remarks == (
        "TensorFlow differs: 2.21.0 on h1; 2.21.1 on h2.",
        "Python differs: 3.11.7 on h1; 3.10.2 on h2.",
        "numpy differs: 2.1.0 on h1; 1.26.4 on h2.",
    )


def test_a_program_that_brings_its_own_interpreter_is_not_asked_for_tensorflow() -> None:
    assert compare(job(), two(tensorflow=None), {}, tensorflow=False).go


def test_a_host_that_says_nothing_has_an_empty_row_and_the_words_of_ssh() -> None:
    answers = {**two(), "h3": HostAnswers("h3", "10.0.0.3", "Permission denied (publickey)")}
    found = compare(job(), answers, {"h3": Needs(1)})
    assert found.problems == ("h3: Permission denied (publickey)",)
    assert found.rows[2] == ("h3", "1", "-", "-", "-", "-", "-", "-", "-")


def test_hosts_that_do_not_reach_or_see_each_other_are_named() -> None:
    answers = two()
    answers["h2"] = HostAnswers("h2", "10.0.0.2", None, facts(), {"h1": "timed out"}, {"h1": "not seen"})
    first, second = compare(job(), answers, {}).problems
    assert first.startswith("h2 cannot connect to h1 (10.0.0.1, port 4001): timed out. Tasks use any port")
    assert second.startswith("model dir /shared/model is not shared: h2 does not see what h1 wrote there.")
    assert compare(job(), answers, {}).rows[1][-2:] == ("closed", "no")


def test_hosts_without_common_ground_are_refused_before_anything_starts() -> None:
    def ask(questions: Mapping[str, Header]) -> dict[str, tuple[Header, bytes]]:
        answers: dict[str, tuple[Header, bytes]] = {}
        for name, question in questions.items():
            assert "packages" not in question
            found: dict[str, Any] = facts() if question["stage"] == "begin" else {}
            if question["stage"] == "look":
                found = {"reached": dict.fromkeys(question["others"], wrong)}
                found["seen"] = dict.fromkeys(question["tokens"], wrong)
            answers[name] = ({"event": "facts", "facts": found}, b"")
        return answers

    visit = Visit({"h1": "10.0.0.1", "h2": "10.0.0.2"}, {}, {}, ask)
    wrong: str | None = "not seen"
    with pytest.raises(
        EnvironmentProblem, match=r"(?s)is not shared: h1.*\n  h1 cannot connect to h2"
    ) as caught:
        require_common_ground(job(), visit)
    assert str(caught.value).startswith("the hosts cannot run this job together:\n  model dir")
    wrong = None
    require_common_ground(job(), visit)


def test_needs_add_up_by_host() -> None:
    chief, first, second = TaskId.parse("chief-0"), TaskId.parse("worker-0"), TaskId.parse("worker-1")
    needs = needs_by_host(job(cpus=2, memory_bytes=GIB), {chief: "h1", first: "h1", second: "h2"})
    assert needs == {"h1": Needs(2, 2, GIB, 0), "h2": Needs(1)}


def test_a_survey_asks_all_hosts_three_times_and_takes_the_silent_out() -> None:
    asked: list[dict[str, Header]] = []

    def ask(questions: Mapping[str, Header]) -> dict[str, tuple[Header, bytes]]:
        asked.append(dict(questions))
        answers: dict[str, tuple[Header, bytes]] = {}
        for name, question in questions.items():
            found: dict[str, Any] = {"begin": facts(port=4000 + int(name[1:])), "end": {}}.get(
                question["stage"], {}
            )
            if question["stage"] == "look":
                found = {
                    "reached": dict.fromkeys(question["others"]),
                    "seen": dict.fromkeys(question["tokens"]),
                }
            answers[name] = ({"event": "facts", "facts": found}, b"")
        if "h3" in questions:
            answers["h3"] = ({"event": "refused", "message": "no disk"}, b"")
        return answers

    hosts = {f"h{number}": f"10.0.0.{number}" for number in range(1, 5)}
    placed = {TaskId.parse("chief-0"): "h1", TaskId.parse("worker-0"): "h2"}
    visit = Visit(hosts, {"h4": "no route to host"}, placed, ask)
    found = survey(job(hosts=("h1:4444",)), visit, [("numpy", "numpy")])
    assert [sorted(questions) for questions in asked] == [["h1", "h2", "h3"], ["h1", "h2"], ["h1", "h2"]]
    stages = [question["stage"] for questions in asked for question in questions.values()]
    assert stages == ["begin"] * 3 + ["look"] * 2 + ["end"] * 2
    begun = asked[0]["h1"]
    assert begun["port"] == 4444
    assert begun["names"] == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
    assert asked[0]["h2"]["port"] is None
    assert list(asked[1]["h1"]["others"]) == ["h2"]
    assert asked[1]["h1"]["others"]["h2"]["port"] == 4002
    assert [answer.problem for answer in found.values()] == [None, None, "no disk", "no route to host"]
    assert found["h1"].reached == {"h2": None}
    assert found["h1"].seen == {"h2": None}
