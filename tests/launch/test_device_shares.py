from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from orchestrator.cluster.task import TaskType
from orchestrator.launch.device_shares import INTER_OP, INTRA_OP, VISIBLE_GPUS, Machine, shares, visible_gpus
from orchestrator.launch.job import Job, TaskRequest
from orchestrator.launch.local_plan import all_tasks, make_plan
from tests.launch.jobs import make_job


def with_request(job: Job, name: str, **changes: object) -> Job:
    kind = TaskType(name)
    return dataclasses.replace(
        job, tasks={**job.tasks, kind: dataclasses.replace(job.tasks[kind], **changes)}
    )


def given(job: Job, machine: Machine, name: str) -> dict[str, str | None]:
    found, _ = shares(job, all_tasks(job), machine)
    return {str(task): env.get(name) for task, env in found.items()}


def test_cores_are_split_over_the_tasks_that_train(tmp_path: Path) -> None:
    job = make_job(tmp_path / "run", chief=1, worker=3, ps=2, evaluator=1)
    assert set(given(job, Machine(16), INTRA_OP).values()) == {"4"}
    assert set(given(job, Machine(16), INTER_OP).values()) == {"4"}
    assert set(given(job, Machine(2), INTRA_OP).values()) == {"1"}
    assert set(given(job, Machine(2), INTER_OP).values()) == {"2"}, (
        "one thread between operations can lock up"
    )


def test_declared_cores_come_first(tmp_path: Path) -> None:
    job = with_request(make_job(tmp_path / "run", chief=1, ps=1), "ps", cpus=3.0)
    assert given(job, Machine(8), INTRA_OP) == {"chief-0": "8", "ps-0": "3"}


def test_a_lone_process_has_the_machine_to_itself(tmp_path: Path) -> None:
    job = make_job(tmp_path / "run", chief=1)
    assert shares(job, all_tasks(job), Machine(8, ("0", "1"))) == ({all_tasks(job)[0]: {}}, [])


def test_gpus_go_to_those_who_train(tmp_path: Path) -> None:
    job = make_job(tmp_path / "run", chief=1, worker=1, ps=1, evaluator=1)
    assert given(job, Machine(8, ("4", "5", "6", "7")), VISIBLE_GPUS) == {
        "chief-0": "4,6",
        "worker-0": "5,7",
        "ps-0": "-1",
        "evaluator-0": "-1",
    }
    asked = with_request(job, "evaluator", gpus=1)
    assert given(asked, Machine(8, ("0", "1", "2")), VISIBLE_GPUS) == {
        "chief-0": "1",
        "worker-0": "2",
        "ps-0": "-1",
        "evaluator-0": "0",
    }
    assert given(job, Machine(8), VISIBLE_GPUS) == dict.fromkeys(map(str, all_tasks(job)))


@pytest.mark.parametrize(
    ("selection", "present", "expected"),
    [
        ("2,3", 4, ("2", "3", "-1", "-1")),
        ("GPU-a,GPU-b", 4, ("GPU-a", "GPU-b", "-1", "-1")),
        ("MIG-a,MIG-b", 1, ("MIG-a", "MIG-b", "-1", "-1")),
        ("3", 4, ("3", "3", "-1", "-1")),
        ("", 4, (None, None, None, None)),  # inherited as it is, which hides all
        ("-1", 4, (None, None, None, None)),
        (None, 0, (None, None, None, None)),
        (None, 2, ("0", "1", "-1", "-1")),
    ],
)
def test_what_is_dealt_of_an_inherited_selection(
    tmp_path: Path, selection: str | None, present: int, expected: tuple[str | None, ...]
) -> None:
    for number in range(present):
        (tmp_path / f"nvidia{number}").touch()
    (tmp_path / "nvidiactl").touch()
    environ = {} if selection is None else {VISIBLE_GPUS: selection}
    job = make_job(tmp_path / "run", chief=1, worker=1, ps=1, evaluator=1)
    dealt = given(job, Machine.look(environ, tmp_path), VISIBLE_GPUS)
    assert dealt == dict(zip(["chief-0", "worker-0", "ps-0", "evaluator-0"], expected, strict=True))


def test_too_few_gpus_are_shared_and_that_is_said(tmp_path: Path) -> None:
    job = make_job(tmp_path / "run", chief=1, worker=2)
    found, notes = shares(job, all_tasks(job), Machine(8, ("0", "1")))
    assert [env[VISIBLE_GPUS] for env in found.values()] == ["0", "1", "0"]
    assert notes == ["3 training tasks share 2 GPUs"]
    greedy = with_request(job, "chief", gpus=4)
    found, notes = shares(greedy, all_tasks(greedy), Machine(8, ("0", "1")))
    assert [env[VISIBLE_GPUS] for env in found.values()] == ["0,1", "-1", "-1"]
    assert notes == [
        "chief-0 asks for 4 GPUs and gets 2: there are 2",
        "no GPU is left for worker-0, worker-1",
    ]


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (None, ("0", "1", "2")),
        ("", ()),
        ("-1", ()),
        ("2,0", ("2", "0")),
        ("1,7,0", ("1",)),
        ("1,1", ("1",)),
        ("2,3", ("2",)),
        (" ", ()),
        ("NoDevFiles", ()),
        ("GPU-8f6a, GPU-11", ("GPU-8f6a", "GPU-11")),
        ("GPU-1,GPU-2,GPU-3,GPU-4", ("GPU-1", "GPU-2", "GPU-3")),
        ("MIG-1,MIG-2,MIG-GPU-7/1/0,MIG-3", ("MIG-1", "MIG-2", "MIG-GPU-7/1/0", "MIG-3")),
    ],
)
def test_what_an_inherited_selection_lets_through(selection: str | None, expected: tuple[str, ...]) -> None:
    assert visible_gpus(selection, 3) == expected


def test_the_plan_has_the_shares_unless_the_user_has_chosen(tmp_path: Path) -> None:
    job = make_job(tmp_path / "run", chief=1, worker=1)
    addresses = {task: f"127.0.0.1:{9000 + i}" for i, task in enumerate(all_tasks(job))}
    machine = Machine(8, ("0", "1"))
    plan = make_plan(job, 0, addresses, environ={}, interpreter="python", machine=machine)
    assert [task.env[INTRA_OP] for task in plan.tasks] == ["4", "4"]
    assert [task.env[VISIBLE_GPUS] for task in plan.tasks] == ["0", "1"]
    chosen = dataclasses.replace(
        job, tasks={**job.tasks, TaskType.CHIEF: TaskRequest(1, env={INTRA_OP: "7", VISIBLE_GPUS: "1"})}
    )
    plan = make_plan(chosen, 0, addresses, environ={INTER_OP: "5"}, interpreter="python", machine=machine)
    assert (plan.tasks[0].env[INTRA_OP], plan.tasks[0].env[VISIBLE_GPUS]) == ("7", "1")
    assert INTER_OP not in plan.tasks[1].env, "it is inherited"
