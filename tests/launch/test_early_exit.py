"""Exit code 0 of a task that the job still needs, played by the fake launcher."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from orchestrator.cluster.records import Phase
from orchestrator.launch.early_exit import FOREIGN_SECONDS
from orchestrator.launch.job import StrategyKind
from orchestrator.launch.run_result import RunResult
from orchestrator.launch.snapshot import RunPhase
from orchestrator.launch.supervisor import Supervisor
from orchestrator.testing import FakeClock, FakeLauncher, TaskScript
from orchestrator.testing.script import Scripts, ends, failure, progress
from tests.launch.jobs import make_job

LEAVES = TaskScript.of(progress(1, 0, max_steps=100), progress(3, 30, max_steps=100), ends(4))
TRAINS = TaskScript.of(progress(1, 30, max_steps=100), progress(9, 100, phase=Phase.DONE), ends(10))
LONG = TaskScript.of(progress(1, 30), progress(90, 100), ends(91))
SERVES = TaskScript.of(progress(1, phase=Phase.SERVING))
GOES = TaskScript.of(progress(1, phase=Phase.SERVING), ends(3))


def play(
    place: Path, strategy: StrategyKind, scripts: dict[str, Scripts], is_experiment: bool = True
) -> tuple[RunResult, list[str]]:
    """The result, and the tasks of each start after the first."""
    replicas: dict[str, int] = {}
    for name in scripts:
        task_type, _, index = name.partition("-")
        replicas[task_type] = int(index) + 1
    job = make_job(place / "run", strategy, is_experiment=is_experiment, **replicas)
    clock = FakeClock()
    launcher = FakeLauncher(clock, scripts)
    result = Supervisor(launcher, job, clock=clock, rng=random.Random(7)).run()
    return result, [" ".join(map(str, tasks)) for _, tasks in launcher.submitted[1:]]


@pytest.mark.parametrize(
    ("strategy", "restarted"), [(StrategyKind.SINGLE, "chief-0"), (StrategyKind.ASYNCHRONOUS, "chief-0")]
)
def test_a_chief_that_leaves_in_the_middle_is_no_success(
    tmp_path: Path, strategy: StrategyKind, restarted: str
) -> None:
    others = {} if strategy is StrategyKind.SINGLE else {"worker-0": [TRAINS], "ps-0": [SERVES]}
    result, again = play(tmp_path, strategy, {"chief-0": [LEAVES, TRAINS], **others})
    assert result.phase is RunPhase.SUCCEEDED
    assert again == [restarted]
    assert result.history[0].reason.startswith(
        "chief-0 ended with exit code 0 in the middle of training (step 30 of 100); restarting"
    )


def test_one_that_leaves_each_time_fails_the_job(tmp_path: Path) -> None:
    result, again = play(tmp_path, StrategyKind.SINGLE, {"chief-0": [LEAVES]})
    assert (result.phase, len(again)) == (RunPhase.FAILED, 3)
    assert result.root_cause is not None
    assert "exit code 0 in the middle of training" in result.root_cause.headline()


def test_one_that_was_stopped_by_its_own_program_is_done(tmp_path: Path) -> None:
    done = TaskScript.of(progress(1, 30, max_steps=100), progress(3, 40, phase=Phase.DONE), ends(4))
    result, again = play(tmp_path, StrategyKind.SINGLE, {"chief-0": [done]})
    assert (result.phase, again) == (RunPhase.SUCCEEDED, [])


def test_a_ps_that_leaves_its_trainers_is_started_again(tmp_path: Path) -> None:
    scripts: dict[str, Scripts] = {"chief-0": [TRAINS], "ps-0": [GOES, SERVES]}
    result, again = play(tmp_path, StrategyKind.ASYNCHRONOUS, scripts)
    assert (result.phase, again) == (RunPhase.SUCCEEDED, ["ps-0"])


@pytest.mark.parametrize(("name", "restarted"), [("worker-0", "worker-0"), ("ps-0", "chief-0 worker-0 ps-0")])
def test_a_server_of_a_coordinator_is_missed_after_a_while(tmp_path: Path, name: str, restarted: str) -> None:
    scripts: dict[str, Scripts] = {"chief-0": [LONG], "worker-0": [SERVES], "ps-0": [SERVES]}
    scripts[name] = [GOES, SERVES]
    result, again = play(tmp_path, StrategyKind.COORDINATOR, scripts, is_experiment=False)
    assert (result.phase, again) == (RunPhase.SUCCEEDED, [restarted])


def test_a_chief_of_another_program_says_with_exit_code_0_that_it_is_done(tmp_path: Path) -> None:
    scripts: dict[str, Scripts] = {"chief-0": [LEAVES], "worker-0": [SERVES], "ps-0": [SERVES]}
    result, again = play(tmp_path, StrategyKind.COORDINATOR, scripts, is_experiment=False)
    assert (result.phase, again) == (RunPhase.SUCCEEDED, [])


def test_a_chief_that_dies_of_a_server_that_left_is_not_blamed(tmp_path: Path) -> None:
    lost = TaskScript.of(
        progress(1, 30), failure(3.1, "UnavailableError", "connection refused"), ends(3.2, 1)
    )
    scripts: dict[str, Scripts] = {"chief-0": [lost, TRAINS], "worker-0": [SERVES], "ps-0": [GOES, SERVES]}
    result, again = play(tmp_path, StrategyKind.COORDINATOR, scripts, is_experiment=False)
    assert (result.phase, again) == (RunPhase.SUCCEEDED, ["chief-0 worker-0 ps-0"])
    assert result.history[0].reason.startswith("ps-0 ended with exit code 0 while others still needed it")


def test_a_foreign_server_may_know_first_that_all_is_done(tmp_path: Path) -> None:
    soon = TaskScript.of(ends(2 + FOREIGN_SECONDS))
    scripts: dict[str, Scripts] = {"chief-0": [soon], "worker-0": [soon], "ps-0": [GOES]}
    result, again = play(tmp_path, StrategyKind.ASYNCHRONOUS, scripts, is_experiment=False)
    assert (result.phase, again) == (RunPhase.SUCCEEDED, [])
