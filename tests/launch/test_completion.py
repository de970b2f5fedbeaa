from __future__ import annotations

import pytest

from orchestrator.launch.completion import (
    Stage,
    TaskState,
    deciding_tasks,
    describe_exit,
    leader,
    stage,
    to_reap,
)
from orchestrator.launch.job import StrategyKind
from tests.launch.jobs import task

ASYNC, SYNC, COORDINATOR = StrategyKind.ASYNCHRONOUS, StrategyKind.SYNCHRONOUS, StrategyKind.COORDINATOR


def states(text: str) -> list[TaskState]:
    """`chief-0:done ps-0:run evaluator-0:lost worker-0:1` as states; a number is an exit code."""
    made = []
    for word in text.split():
        name, _, how = word.partition(":")
        running, code = how == "run", {"run": None, "done": 0, "lost": 1}.get(how, 1)
        made.append(TaskState(task(name), running, code, given_up=how == "lost"))
    return made


@pytest.mark.parametrize(
    ("text", "kind", "expected"),
    [
        ("chief-0:run worker-0:run ps-0:run evaluator-0:run", ASYNC, Stage.TRAINING),
        ("chief-0:done worker-0:run ps-0:run evaluator-0:run", ASYNC, Stage.TRAINING),
        ("chief-0:run worker-0:done ps-0:run", ASYNC, Stage.TRAINING),
        ("chief-0:done worker-0:done ps-0:run evaluator-0:run", ASYNC, Stage.DRAINING),
        ("chief-0:done worker-0:done ps-0:run evaluator-0:done", ASYNC, Stage.OVER),
        ("chief-0:done worker-0:done ps-0:run evaluator-0:lost", ASYNC, Stage.OVER),
        ("chief-0:done worker-0:done ps-0:run", ASYNC, Stage.OVER),
        ("chief-0:1 worker-0:done ps-0:run", ASYNC, Stage.TRAINING),
        ("chief-0:run evaluator-0:done", SYNC, Stage.TRAINING),
        ("worker-0:done worker-1:run", SYNC, Stage.TRAINING),
        ("worker-0:done worker-1:done", SYNC, Stage.OVER),
        ("chief-0:done worker-0:run worker-1:run ps-0:run", COORDINATOR, Stage.OVER),
        ("chief-0:done worker-0:run ps-0:run evaluator-0:run", COORDINATOR, Stage.DRAINING),
        ("chief-0:run worker-0:done ps-0:run", COORDINATOR, Stage.TRAINING),
        ("worker-0:done worker-1:run ps-0:run", COORDINATOR, Stage.OVER),
        ("chief-0:done", StrategyKind.SINGLE, Stage.OVER),
        ("chief-0:run", StrategyKind.SINGLE, Stage.TRAINING),
        ("evaluator-0:run", StrategyKind.UNKNOWN, Stage.TRAINING),
        ("evaluator-0:done", StrategyKind.UNKNOWN, Stage.OVER),
        ("ps-0:run", StrategyKind.UNKNOWN, Stage.TRAINING),
    ],
)
def test_the_states_of_the_tasks_give_the_stage(text: str, kind: StrategyKind, expected: Stage) -> None:
    assert stage(states(text), kind) is expected


@pytest.mark.parametrize(
    ("text", "kind", "expected"),
    [
        ("chief-0:done worker-0:done ps-0:run ps-1:run evaluator-0:run", ASYNC, []),
        ("chief-0:done worker-0:done ps-0:run ps-1:run evaluator-0:done", ASYNC, ["ps-0", "ps-1"]),
        ("chief-0:done worker-0:run ps-0:run evaluator-0:run", COORDINATOR, ["worker-0", "ps-0"]),
        ("chief-0:done worker-0:run ps-0:run", COORDINATOR, ["worker-0", "ps-0"]),
        ("chief-0:run worker-0:run ps-0:run", COORDINATOR, []),
        ("chief-0:run worker-0:done ps-0:run evaluator-0:run", ASYNC, []),
    ],
)
def test_only_tasks_that_nobody_needs_any_more_are_reaped(
    text: str, kind: StrategyKind, expected: list[str]
) -> None:
    assert [str(found) for found in to_reap(states(text), kind)] == expected


def test_an_evaluator_out_of_time_is_reaped_though_it_runs() -> None:
    late = [TaskState(task("chief-0"), False, 0), TaskState(task("evaluator-0"), True, given_up=True)]
    assert stage(late, ASYNC) is Stage.OVER
    assert to_reap(late, ASYNC) == (task("evaluator-0"),)


def test_the_chief_leads_and_else_the_first_worker() -> None:
    assert leader([task("worker-0"), task("chief-0")]) == task("chief-0")
    assert leader([task("worker-1"), task("worker-0"), task("ps-0")]) == task("worker-0")
    assert leader([task("ps-0")]) is None


def test_a_coordinator_alone_decides_when_training_is_over() -> None:
    tasks = [task(name) for name in ("chief-0", "worker-0", "ps-0", "evaluator-0")]
    assert deciding_tasks(tasks, COORDINATOR) == (task("chief-0"),)
    assert deciding_tasks(tasks, ASYNC) == (task("chief-0"), task("worker-0"))


@pytest.mark.parametrize(
    ("code", "number", "words"),
    [
        (1, None, "exit code 1"),
        (137, 9, "SIGKILL (exit code 137)"),
        (143, None, "SIGTERM (exit code 143)"),
        (255, None, "exit code 255"),
    ],
)
def test_exits_are_described_in_words(code: int, number: int | None, words: str) -> None:
    assert describe_exit(code, number) == words
