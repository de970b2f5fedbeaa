from __future__ import annotations

import dataclasses

import pytest

from orchestrator.cluster.records import Phase, ProgressRecord
from orchestrator.launch.hangs import Watched, find_culprit, find_stalls, progress_mark
from orchestrator.launch.job import HangLimits, RunPolicy
from tests.cluster.test_stacks import IN_OWN_CODE, IN_TENSORFLOW
from tests.launch.jobs import task

POLICY = RunPolicy(start_timeout_seconds=100, hang_seconds=HangLimits(10, 20, 30, 40, 50, 60))
NOW = 1000.0


def watched(
    name: str,
    phase: Phase | None = Phase.STEPPING,
    step: int | None = 5,
    *,
    idle: float = 0.0,
    stepped: bool = True,
    age: float = 500.0,
    keeps: bool = True,
) -> Watched:
    record = None if phase is None else ProgressRecord(phase, 0.0, step)
    return Watched(task(name), NOW - age, record, NOW - idle, stepped, keeps)


@pytest.mark.parametrize(
    ("seen", "limit"),
    [
        (watched("worker-0", idle=11), 10),
        (watched("worker-0", idle=9), None),
        (watched("worker-0", Phase.SAVING, idle=21), 20),
        (watched("worker-0", Phase.SAVING, idle=19), None),
        (watched("chief-0", Phase.EVALUATING, idle=31), 30),
        (watched("evaluator-0", Phase.EVALUATING, None, idle=31, stepped=False), 30),
        (watched("evaluator-0", Phase.EXPORTING, None, idle=41, stepped=False), 40),
        (watched("chief-0", Phase.DONE, idle=61), 60),
        (watched("worker-0", Phase.WAITING, idle=51), 50),
        (watched("worker-0", None, None, stepped=False, age=101), 100),
        (watched("worker-0", None, None, stepped=False, age=99), None),
        (watched("worker-0", Phase.STARTING, None, idle=1, stepped=False, age=101), 100),
        (watched("evaluator-0", Phase.STARTING, None, idle=1, stepped=False, age=101), 100),
        (watched("ps-0", None, None, stepped=False, age=101), 100),
        (watched("ps-0", Phase.STARTING, None, stepped=False, age=99), None),
        (watched("worker-0", Phase.STEPPING, 0, idle=99, stepped=False), None),
        (watched("worker-0", Phase.STEPPING, 0, idle=101, stepped=False), 100),
        # not watched
        (watched("evaluator-0", Phase.WAITING, None, idle=9999, stepped=False, age=9999), None),
        (watched("ps-0", Phase.SERVING, None, idle=9999, stepped=False, age=9999), None),
        (watched("worker-0", None, None, stepped=False, age=9999, keeps=False), None),
        (watched("ps-0", None, None, stepped=False, age=9999, keeps=False), None),
    ],
)
def test_each_phase_has_its_own_limit(seen: Watched, limit: float | None) -> None:
    assert [stall.limit for stall in find_stalls([seen], POLICY, NOW)] == ([] if limit is None else [limit])


def test_a_phase_without_limit() -> None:
    policy = RunPolicy(hang_seconds=HangLimits(stepping=None))
    assert find_stalls([watched("chief-0", idle=1e6)], policy, NOW) == []


def test_who_waits_is_not_stalled_while_another_may_go_on() -> None:
    waits = watched("chief-0", Phase.WAITING, idle=51)
    assert find_stalls([waits, watched("worker-0", idle=1)], POLICY, NOW) == []
    assert [s.task for s in find_stalls([waits, watched("worker-0", idle=11)], POLICY, NOW)] == [
        task("chief-0"),
        task("worker-0"),
    ]


def test_what_counts_as_progress() -> None:
    record = ProgressRecord(Phase.EVALUATING, 1.0, 5, batches=3)
    assert progress_mark(record) == progress_mark(dataclasses.replace(record, time=99.0, loss=0.5))
    for change in ({"step": 6}, {"batches": 4}, {"checkpoint_step": 5}, {"phase": Phase.SAVING}):
        assert progress_mark(record) != progress_mark(dataclasses.replace(record, **change))


def culprit(tasks: list[Watched], answers: dict[str, str] | None = None, silent: str = "") -> tuple[str, str]:
    found = find_culprit(
        find_stalls(tasks, POLICY, NOW),
        tasks,
        {task(name): text for name, text in (answers or {}).items()},
        POLICY,
        NOW,
        silent=[task(name) for name in silent.split()],
    )
    return str(found.task), found.reason


def test_the_task_behind_the_others_is_at_fault() -> None:
    tasks = [watched("chief-0", step=9, idle=12), watched("worker-0", step=8, idle=11)]
    assert culprit(tasks) == ("worker-0", "made no progress for 10 s (stepping at step 8)")


def test_the_task_that_is_busy_outside_of_tensorflow_is_at_fault() -> None:
    tasks = [watched("chief-0", idle=12), watched("worker-0", idle=11), watched("worker-1", idle=12.5)]
    answers = {"chief-0": IN_TENSORFLOW, "worker-0": IN_OWN_CODE, "worker-1": IN_TENSORFLOW}
    assert culprit(tasks, answers) == (
        "worker-0",
        "made no progress for 10 s (stepping at step 5); it is in read, read data.py:3",
    )


def test_a_task_that_is_stopped_is_at_fault_before_all_others() -> None:
    tasks = [watched("chief-0", step=1, idle=12), watched("worker-0", step=2, idle=9)]
    name, reason = culprit(tasks, {"chief-0": IN_TENSORFLOW}, silent="worker-0")
    assert name == "worker-0"
    assert "holds up chief-0" in reason
    assert "does not answer" in reason


def test_a_stopped_ps_is_found_by_those_that_wait_for_it() -> None:
    tasks = [watched("chief-0", idle=12), watched("ps-0", Phase.SERVING, None, stepped=False)]
    name, reason = culprit(tasks, {"chief-0": IN_TENSORFLOW}, silent="ps-0")
    assert name == "ps-0"
    assert reason.startswith("holds up chief-0, which made no progress for 10 s")


def test_a_task_that_trains_on_is_not_blamed_for_one_that_does_not() -> None:
    tasks = [watched("chief-0", step=1, idle=1), watched("worker-0", step=900, idle=11)]
    assert culprit(tasks)[0] == "worker-0"


def test_an_evaluators_hang_is_its_own() -> None:
    tasks = [watched("chief-0", idle=9), watched("evaluator-0", Phase.EVALUATING, None, idle=31)]
    assert culprit(tasks, {"evaluator-0": IN_OWN_CODE})[0] == "evaluator-0"


def test_the_task_that_never_reported_is_named_not_the_one_that_waits_for_it() -> None:
    waits = watched("chief-0", Phase.WAITING, None, stepped=False, age=101, idle=90)
    silent = watched("worker-0", None, None, stepped=False, age=101)
    assert culprit([waits, silent]) == (
        "worker-0",
        "took no step within 100 s of its start (it was silent)",
    )


def test_a_ps_that_never_serves_is_named_not_those_that_wait_for_it() -> None:
    waits = [
        watched(name, Phase.WAITING, None, stepped=False, age=101, idle=90)
        for name in ("chief-0", "worker-0")
    ]
    ps = watched("ps-0", None, None, stepped=False, age=101)
    name, reason = culprit([*waits, ps], {"chief-0": IN_TENSORFLOW, "ps-0": IN_OWN_CODE})
    assert name == "ps-0"
    assert reason == (
        "did not begin to serve within 100 s of its start (it was silent); it is in read, read data.py:3"
    )


def test_who_waits_for_a_ps_that_was_started_again_gets_its_time() -> None:
    waits = watched("chief-0", Phase.WAITING, None, stepped=False, age=101, idle=90)
    assert find_stalls([waits, watched("ps-0", None, None, stepped=False, age=9)], POLICY, NOW) == []
    serves = watched("ps-0", Phase.SERVING, None, stepped=False, age=9)
    assert [stall.task for stall in find_stalls([waits, serves], POLICY, NOW)] == [task("chief-0")]
