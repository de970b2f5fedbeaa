from __future__ import annotations

import random
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.cluster.records import ENV_FAULTS, HANG_SIGNAL
from orchestrator.errors import ConfigError
from orchestrator.launch.fault_injection import Fault, InjectingLauncher, Injection, check
from orchestrator.launch.job import Job, RunPolicy, StrategyKind
from orchestrator.launch.launcher import Launcher
from orchestrator.launch.run_result import RunResult
from orchestrator.launch.supervisor import Supervisor
from orchestrator.testing import FakeClock, FakeLauncher, TaskScript
from orchestrator.testing.script import progress
from tests.launch.jobs import make_job, task
from tests.launch.test_supervisor import PS_JOB, RESUMES


@pytest.mark.parametrize("fault", list(Fault))
def test_what_is_written_is_read(fault: Fault) -> None:
    for text in (f"{fault.value}:worker-1@step=50", f"{fault.value}:ps-0"):
        assert str(Injection.parse(text)) == text
    assert Injection.parse("kill:worker:1@step=5") == Injection(Fault.KILL, task("worker-1"), 5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kill", "for example kill:worker-0@step=50"),
        ("kill:worker-0@step=", "for example"),
        ("kil:worker-0", "Did you mean 'kill'"),
        ("explode:worker-0", "There are kill, stop, hang, preempt"),
        ("kill:wroker-0", "wroker"),
    ],
)
def test_what_is_written_wrong_is_one_clear_error(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        Injection.parse(text)
    assert str(error.value).startswith(f"--inject {text}: ")


def test_faults_that_a_job_cannot_have(tmp_path: Path) -> None:
    job = make_job(tmp_path / "a", chief=1, worker=2)
    check([Injection.parse("hang:worker-1@step=1")], job)
    with pytest.raises(ConfigError, match=r"no task worker-2\. Did you mean 'worker-"):
        check([Injection.parse("kill:worker-2")], job)
    command = make_job(tmp_path / "b", is_experiment=False, worker=2)
    with pytest.raises(ConfigError, match="only experiments"):
        check([Injection.parse("hang:worker-1")], command)


def run(job: Job, scripts: dict[str, object], *faults: str) -> tuple[RunResult, FakeLauncher]:
    clock = FakeClock()
    inner = FakeLauncher(clock, scripts)  # type: ignore[arg-type]
    launcher = InjectingLauncher(inner, [Injection.parse(text) for text in faults])
    assert isinstance(launcher, Launcher)
    return Supervisor(launcher, job, clock=clock, rng=random.Random(1)).run(), inner


def test_a_task_is_killed_once_at_its_step_and_the_policy_acts(tmp_path: Path) -> None:
    job = make_job(tmp_path / "run", chief=1, worker=1, ps=1, evaluator=1)
    result, inner = run(job, {**PS_JOB, "worker-0": [PS_JOB["worker-0"], RESUMES]}, "kill:worker-0@step=50")
    assert result.exit_code == 0
    assert inner.signals == [("worker-0", signal.SIGKILL)]
    assert inner.submitted[1:] == [(0, (task("worker-0"),))]
    assert "injected kill:worker-0@step=50" in result.notes


def test_a_task_without_steps_goes_by_the_steps_of_the_others(tmp_path: Path) -> None:
    job = make_job(tmp_path / "run", chief=1, worker=1, ps=1, evaluator=1)
    result, inner = run(job, PS_JOB, "kill:ps-0@step=50")
    assert result.exit_code == 0
    assert inner.submitted[1:] == [(0, (task("ps-0"),))]


def test_a_worker_of_a_coordinator_goes_by_the_steps_of_the_chief(tmp_path: Path) -> None:
    job = make_job(tmp_path / "run", StrategyKind.COORDINATOR, is_experiment=False, chief=1, worker=1, ps=1)
    serves = TaskScript.of()
    scripts = {"chief-0": PS_JOB["chief-0"], "worker-0": serves, "ps-0": serves}
    result, inner = run(job, scripts, "kill:worker-0@step=50")
    assert result.exit_code == 0
    assert inner.signals == [("worker-0", signal.SIGKILL)]
    assert inner.submitted[1:] == [(0, (task("worker-0"),))]


def test_what_is_preempted_without_a_checkpoint_counts(tmp_path: Path) -> None:
    job = make_job(tmp_path / "run", StrategyKind.SINGLE, RunPolicy(max_restarts=0), chief=1)
    result, inner = run(
        job, {"chief-0": TaskScript.of(progress(1, 0), progress(2, 5))}, "preempt:chief-0@step=5"
    )
    assert inner.signals == [("chief-0", signal.SIGTERM)]
    assert result.exit_code == 1
    assert "SIGTERM (exit code 143)" in result.why


def test_without_a_step_it_comes_as_soon_as_the_task_runs(tmp_path: Path) -> None:
    job = make_job(tmp_path / "run", chief=1, worker=1, ps=1, evaluator=1)
    _, inner = run(job, PS_JOB, "stop:ps-0", "hang:worker-0@step=1000000")
    assert inner.signals == [("ps-0", signal.SIGSTOP)]


def test_tasks_are_told_that_faults_are_injected(tmp_path: Path) -> None:
    job = make_job(tmp_path / "run", chief=1)
    launcher = InjectingLauncher(FakeLauncher(FakeClock()), [])
    plan = launcher.plan(job, 0)
    assert [planned.env[ENV_FAULTS] for planned in plan.tasks] == ["1"]
    without = replace(plan, tasks=tuple(replace(planned, env={}) for planned in plan.tasks))
    assert launcher.move(without, [plan.tasks[0].task]) == plan
    assert Fault.HANG.number == HANG_SIGNAL
