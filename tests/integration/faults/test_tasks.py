"""The matrix: each strategy, each of its tasks, each fault; `make test-faults`, one of it by default.

The cases are data: what is left out stands in LEFT_OUT with its reason, what
ends otherwise than with a trained and evaluated model in VERDICTS.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.launch.run_state import RunState
from orchestrator.launch.snapshot import Snapshot
from tests.integration.faults.aftermath import assert_finished, assert_nothing_left
from tests.integration.faults.strategies import FAULT_STEP, STRATEGIES, Strategy, start
from tests.integration.faults.times import Row, event_time, record
from tests.integration.launched import Launched

pytest.importorskip("sklearn", reason="the digits come from scikit-learn")
pytestmark = pytest.mark.timeout(1200)

INJECTED = ("kill", "preempt", "stop", "hang")
"""SIGKILL, SIGTERM, SIGSTOP, and a loop between two steps: done by the launcher's --inject."""
MISDEEDS = ("exception", "exit", "loop")
"""Done by the program itself: an exception, exit code 0 in the middle, a loop that keeps a core busy."""
UNSEEN = {"stop", "hang", "loop"}
"""Faults that leave the process alive: only missing progress shows them."""
BY_DEFAULT = {("multi_worker", "worker-0", "hang")}
LEFT_OUT = {
    ("*", "evaluator", "hang"): "while it waits for a checkpoint nothing tells it from one that is well",
    ("*", "ps", "hang"): "its main thread only waits; others serve",
    ("*", "ps", "loop"): "the same",
    ("coordinator", "worker", "loop"): "the same",
    ("coordinator", "chief", "exit"): "with a program of its own, exit code 0 is how it says that it is done",
    ("coordinator", "*", "hang"): "only experiments know how to; `loop` is the same for any program",
}
UNEVEN = "its data ran out first"
VERDICTS = {
    ("multi_worker", "chief-0", "exit"): UNEVEN,
    ("multi_worker", "worker-0", "exit"): UNEVEN,
}
"""Failures of the whole job, on purpose: a restart would bring the same."""


def left_out(strategy: str, role: str, fault: str) -> bool:
    kind = role.partition("-")[0]
    return any((s, k, fault) in LEFT_OUT for s in (strategy, "*") for k in (kind, "*"))


def cases() -> Iterator[object]:
    for strategy in STRATEGIES.values():
        for role in strategy.tasks:
            for fault in (*INJECTED, *MISDEEDS):
                if not left_out(strategy.name, role, fault):
                    by_default = (strategy.name, role, fault) in BY_DEFAULT
                    marks = [] if by_default else [pytest.mark.faults]
                    yield pytest.param(
                        strategy, role, fault, marks=marks, id=f"{strategy.name}-{role}-{fault}"
                    )


@pytest.fixture(scope="session")
def digits_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("digits")


@pytest.mark.parametrize(("strategy", "role", "fault"), list(cases()))
def test_a_fault_in_mid_training(
    tmp_path: Path, digits_dir: Path, strategy: Strategy, role: str, fault: str
) -> None:
    began = time.monotonic()
    injected = fault in INJECTED
    words = ("--inject", f"{fault}:{role}@step={FAULT_STEP}") if injected else ()
    misdeed = None if injected else f"{fault}:{role}"
    verdict = VERDICTS.get((strategy.name, role, fault))
    with start(tmp_path, strategy, digits_dir, *words, misdeed=misdeed) as run:
        if verdict is not None:
            assert run.wait() == 1, run.output
            assert f"{role} failed: " in run.output
            assert verdict in run.output
            assert_nothing_left(run, tmp_path)
        else:
            run.wait_for(f"something to be done about {role}", acted_upon(run, role))
            (tmp_path / "release").touch()
            assert_finished(run, strategy, tmp_path)
            assert_told(run, role, fault)
    outcome = verdict or ", ".join(run.restarts())
    times = Row(strategy.name, role, fault, decided(run, tmp_path), outcome, time.monotonic() - began)
    record(times)


def acted_upon(run: Launched, role: str) -> Callable[[RunState, Snapshot], bool]:
    def condition(state: RunState, _: Snapshot) -> bool:
        ended = state.tasks.get(role, {}).get("code") is not None
        return state.restarts > 0 or state.attempt > 0 or ended

    return condition


def assert_told(run: Launched, role: str, fault: str) -> None:
    """Who was at fault, and that it was not one of the others."""
    reasons = [event["text"] for event in run.events if event["event"].endswith("_restarting")]
    assert reasons, run.output
    assert reasons[0].startswith(f"{role} "), "the wrong task was held responsible"
    if fault in INJECTED:
        assert f"injected {fault}:{role}@step={FAULT_STEP}" in run.output
    if fault == "stop":
        assert "was held by SIGSTOP" in reasons[0]
    elif fault in UNSEEN:
        assert "made no progress" in reasons[0]
        assert any(event["event"] == "task_hung" for event in run.events)
    if fault == "exception":
        assert "ValueError" in reasons[0]


def decided(run: Launched, place: Path) -> float | None:
    """Seconds from the fault, as launcher or program noted it, to the decision to restart."""
    faults = [event_time(event) for event in run.events if event["text"].startswith("injected ")]
    marker = place / "misdeed-done"
    if marker.exists():
        faults.append(marker.stat().st_mtime)
    answers = [event_time(event) for event in run.events if event["event"].endswith("_restarting")]
    return max(0.0, answers[0] - min(faults)) if answers and faults else None
