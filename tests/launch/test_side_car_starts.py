"""Evaluators that lose their host or address while training goes on; played by the fake launcher."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.cluster.records import Phase
from orchestrator.cluster.task import TaskId
from orchestrator.errors import HostsAway, PortError, StartError
from orchestrator.launch.events import EventKind
from orchestrator.launch.job import Job, LaunchPlan, RunPolicy, StrategyKind
from orchestrator.launch.run_dir import RunDir
from orchestrator.launch.snapshot import RunPhase
from orchestrator.testing.fake_launcher import FakeLauncher
from orchestrator.testing.script import (
    TaskScript,
    ends,
    ends_with_host,
    evaluation,
    out_of_reach,
    progress,
)
from tests.launch.jobs import make_job, task
from tests.launch.test_supervisor import KILLED_AT_4, RESUMES, SIGINT_STOP, Run, ps_run, sync_run

EVALUATOR = task("evaluator-0")
LOST = "host h2 was lost: nothing was heard from it from 12:00:03 UTC on (timed out)"
AWAY = "host h2 cannot be reached (evaluator-0 declared there; timed out)"
LOST_AT, TRAINED_AT = 30.0, 400.0
LONG = TaskScript.of(
    progress(1, 0, max_steps=100),
    progress(20, 50, checkpoint=50, max_steps=100, loss=0.5),
    progress(399, 100, checkpoint=100, max_steps=100, loss=0.2, phase=Phase.DONE),
    ends(TRAINED_AT),
)
BEGINS = (progress(1, phase=Phase.WAITING), evaluation(25, 50, accuracy=0.5))
LOSES_HOST = TaskScript.of(*BEGINS, out_of_reach(28), ends_with_host(LOST_AT, LOST))
EVALUATES = TaskScript.of(evaluation(2, 100, final=True, accuracy=0.9), ends(3))
EVALUATES_LATE = TaskScript.of(evaluation(TRAINED_AT, 100, final=True, accuracy=0.9), ends(TRAINED_AT + 1))


class Hosts(FakeLauncher):
    """The trainers are on h1, the evaluator is on h2, which is gone when it has lost it there."""

    elsewhere = False
    """It may run on another host."""
    back_at = float("inf")
    """Seconds after which h2 can be used again."""
    patience = 100.0
    broken = False
    """Nothing can be started on h2 when it is back."""
    looks = 0

    def plan(self, job: Job, attempt: int) -> LaunchPlan:
        plan = super().plan(job, attempt)
        parts = [replace(p, host="h2" if p.task == EVALUATOR else "h1") for p in plan.tasks]
        plan = replace(plan, tasks=tuple(parts))
        if not attempt or EVALUATOR in self.running:
            return plan
        if self.elsewhere or self.seconds >= self.back_at:
            return self._anew(plan)
        return replace(plan, away=frozenset([EVALUATOR]))

    def submit(self, plan: LaunchPlan, tasks: Collection[TaskId] | None = None) -> None:
        chosen = [part for part in plan.tasks if tasks is None or part.task in tasks]
        if any(p.task == EVALUATOR and p.address == self._first(plan) for p in chosen) and self.submitted:
            raise PortError("h2 cannot be reached, so the tasks there need other addresses.")
        if self.broken and tasks is not None and EVALUATOR in tasks and self.submitted:
            raise StartError("host h2: no space left.")
        super().submit(plan, tasks)

    def move(self, plan: LaunchPlan, tasks: Collection[TaskId]) -> LaunchPlan:
        assert list(tasks) == [EVALUATOR]
        self.looks += 1
        if not self.elsewhere and self.seconds < self.back_at:
            raise HostsAway(AWAY, self.patience, "ssh.host_wait_seconds")
        return plan.moved(self._anew(plan), tasks)

    @property
    def seconds(self) -> float:
        return self.clock.monotonic() - self._zero

    def _first(self, plan: LaunchPlan) -> str | None:
        return super().plan(plan.job, 0).task(EVALUATOR).address

    def _anew(self, plan: LaunchPlan) -> LaunchPlan:
        host = "h3" if self.elsewhere else "h2"
        part = replace(plan.task(EVALUATOR), host=host, address=f"{host}:1")
        return replace(plan, tasks=tuple(part if p.task == EVALUATOR else p for p in plan.tasks))


def hosts_run(
    path: Path, policy: RunPolicy | None = None, *evaluator: TaskScript, worker: TaskScript = LONG
) -> tuple[Run, Hosts]:
    run = sync_run(
        path,
        policy,
        chief_0=[LONG, RESUMES],
        worker_0=[worker, RESUMES],
        evaluator_0=[LOSES_HOST, *(evaluator or (EVALUATES_LATE,))],
    )
    run.launcher.__class__ = Hosts
    assert isinstance(run.launcher, Hosts)
    return run, run.launcher


def notes(run: Run) -> list[str]:
    return [text for text in run.observer.texts(EventKind.NOTE) if "evaluator-0" in text]


def test_an_evaluator_that_may_run_elsewhere_does_so_and_training_goes_on(tmp_path: Path) -> None:
    run, hosts = hosts_run(tmp_path)
    hosts.elsewhere = True
    result = run.result()
    assert (result.phase, result.restarts, result.attempts, result.notes) == (RunPhase.SUCCEEDED, 1, 1, ())
    assert run.submitted == [(0, "chief-0 worker-0 evaluator-0"), (0, "evaluator-0")]
    assert (run.asked, run.killed) == ([], [])
    assert notes(run) == ["evaluator-0 is started on h3, without h2"]
    assert result.evaluation is not None
    assert result.evaluation.global_step == 100
    plan = json.loads(RunDir(run.job.run_dir).plan.read_text())
    assert {name: part["host"] for name, part in plan["tasks"].items()} == {
        "chief-0": "h1",
        "worker-0": "h1",
        "evaluator-0": "h3",
    }
    (restart,) = result.history
    why = f"evaluator-0 ended: {LOST}; restarting evaluator-0 (free of charge: there is a new checkpoint"
    assert restart.reason.startswith(why)
    assert not restart.whole_attempt


def test_an_evaluator_waits_for_its_host_while_training_goes_on(tmp_path: Path) -> None:
    run, hosts = hosts_run(tmp_path)
    hosts.back_at = 350
    result = run.result()
    assert (result.phase, result.restarts, result.attempts, result.notes) == (RunPhase.SUCCEEDED, 1, 1, ())
    assert run.submitted == [(0, "chief-0 worker-0 evaluator-0"), (0, "evaluator-0")]
    assert (run.asked, run.killed) == ([], [])
    assert notes(run) == [f"evaluator-0 cannot be started: {AWAY}; the job goes on, and that is tried again"]
    assert 10 < hosts.looks < 40, "ever less often, and not at all costs"
    assert result.evaluation is not None
    assert result.evaluation.global_step == 100


@pytest.mark.parametrize("may_fail", [True, False])
def test_an_evaluator_whose_host_never_comes_back_is_left_out_when_training_is_over(
    tmp_path: Path, may_fail: bool
) -> None:
    run, _ = hosts_run(tmp_path, RunPolicy(evaluator_may_fail=may_fail))
    result = run.result()
    assert result.seconds == pytest.approx(TRAINED_AT, abs=20), "its patience was over by then"
    assert (run.asked, run.killed) == ([], [])
    assert len(run.submitted) == 1
    why = f"evaluator-0 cannot be started: {AWAY}; the last checkpoint, that of step 100, was not evaluated"
    assert result.notes == (f"{why}; the run ends without it",)
    if may_fail:
        assert (result.phase, result.exit_code) == (RunPhase.SUCCEEDED, 0)
    else:
        assert (result.phase, result.exit_code, result.why) == (RunPhase.FAILED, 1, why)


def test_after_training_a_host_is_waited_for_until_the_drain_time_is_over(tmp_path: Path) -> None:
    run, hosts = hosts_run(tmp_path, RunPolicy(drain_timeout_seconds=30))
    hosts.patience = 10_000
    result = run.result()
    assert (result.phase, result.exit_code) == (RunPhase.SUCCEEDED, 0)
    assert result.seconds == pytest.approx(TRAINED_AT + 30, abs=2)
    (note,) = result.notes
    assert note.startswith("evaluator-0 did not evaluate the last checkpoint within 30 s")


def test_a_host_that_is_lost_after_training_costs_no_training(tmp_path: Path) -> None:
    late = TaskScript.of(*BEGINS, out_of_reach(410), ends_with_host(430, LOST))
    run = sync_run(tmp_path, chief_0=LONG, worker_0=LONG, evaluator_0=[late, EVALUATES])
    run.launcher.__class__ = Hosts
    run.launcher.elsewhere = True  # type: ignore[attr-defined]
    result = run.result()
    assert (result.phase, result.notes) == (RunPhase.SUCCEEDED, ())
    assert run.submitted[1:] == [(0, "evaluator-0")]
    assert result.evaluation is not None
    assert result.evaluation.global_step == 100


def test_an_evaluator_that_cannot_be_started_on_its_host_does_not_end_the_run(tmp_path: Path) -> None:
    run, hosts = hosts_run(tmp_path)
    hosts.back_at, hosts.broken = 35, True
    result = run.result()
    assert (result.phase, result.exit_code) == (RunPhase.SUCCEEDED, 0)
    (note,) = result.notes
    assert note.startswith("evaluator-0 cannot be started: host h2: no space left; the last checkpoint")


def test_out_of_budget_it_is_left_as_on_one_machine(tmp_path: Path) -> None:
    early = TaskScript.of(ends_with_host(10, LOST))
    run = sync_run(tmp_path, RunPolicy(max_restarts=0), chief_0=LONG, worker_0=LONG, evaluator_0=early)
    run.launcher.__class__ = Hosts
    hosts = run.launcher
    assert isinstance(hosts, Hosts)
    hosts.elsewhere = True
    result = run.result()
    assert (result.phase, result.restarts, hosts.looks) == (RunPhase.SUCCEEDED, 0, 0)
    (note,) = result.notes
    assert note.startswith(f"evaluator-0 ended: {LOST}; not restarted: max_restarts is 0")
    assert "The job goes on without it" in note


def test_with_a_worker_on_the_lost_host_the_attempt_is_restarted(tmp_path: Path) -> None:
    worker = TaskScript.of(progress(1, 0), progress(20, 50, checkpoint=50), ends_with_host(LOST_AT, LOST))
    run, hosts = hosts_run(tmp_path, None, EVALUATES, worker=worker)
    hosts.elsewhere = True
    result = run.result()
    assert (result.phase, result.attempts) == (RunPhase.SUCCEEDED, 2)
    assert run.submitted[1:] == [(1, "chief-0 worker-0 evaluator-0")]
    assert hosts.looks == 0


def test_with_a_worker_on_the_lost_host_training_does_not_wait_for_the_evaluators_host(
    tmp_path: Path,
) -> None:
    worker = TaskScript.of(progress(1, 0), progress(20, 50, checkpoint=50), ends_with_host(LOST_AT, LOST))
    run, hosts = hosts_run(tmp_path, RunPolicy(drain_timeout_seconds=1000), EVALUATES, worker=worker)
    hosts.back_at, hosts.patience = 200, 1000
    result = run.result()
    assert (result.phase, result.attempts, result.notes) == (RunPhase.SUCCEEDED, 2, ())
    assert run.submitted[1:] == [(1, "chief-0 worker-0"), (1, "evaluator-0")]
    assert result.seconds > 200, "the last evaluation was waited for"
    assert result.evaluation is not None
    assert result.evaluation.global_step == 100


def test_an_attempt_that_finds_the_host_again_takes_the_waiting_evaluator_along(tmp_path: Path) -> None:
    worker = TaskScript.of(progress(1, 0), progress(20, 50, checkpoint=50), ends(100, signal=9))
    run, hosts = hosts_run(tmp_path, None, EVALUATES, worker=worker)
    hosts.back_at = 99
    result = run.result()
    assert result.phase is RunPhase.SUCCEEDED
    assert run.submitted[-1] in [(1, "chief-0 worker-0 evaluator-0"), (1, "chief-0 worker-0")]
    assert sum("evaluator-0" in tasks for _, tasks in run.submitted) == 2


def test_a_run_with_a_waiting_evaluator_can_be_stopped(tmp_path: Path) -> None:
    run, hosts = hosts_run(tmp_path)
    hosts.at(100, lambda: run.supervisor.request_stop(SIGINT_STOP))
    result = run.result()
    assert (result.phase, result.exit_code) == (RunPhase.STOPPED, 130)
    assert result.seconds < 110


def test_an_evaluator_whose_port_was_taken_gets_another_and_training_goes_on(tmp_path: Path) -> None:
    run = ps_run(tmp_path, evaluator_0=[KILLED_AT_4, EVALUATES])

    def take() -> None:
        run.launcher.taken_ports = 1

    run.launcher.at(4.1, take)
    result = run.result()
    assert (result.phase, result.attempts) == (RunPhase.SUCCEEDED, 1)
    assert run.submitted[1] == (0, "evaluator-0")


def test_an_evaluator_alone_is_no_side_car(tmp_path: Path) -> None:
    job = make_job(tmp_path / "run", StrategyKind.SINGLE, evaluator=1)
    run = Run(job, {"evaluator-0": [KILLED_AT_4, TaskScript.of(ends(3))]})

    def take() -> None:
        run.launcher.taken_ports = 1

    run.launcher.at(4.1, take)
    result = run.result()
    assert (result.phase, result.attempts) == (RunPhase.SUCCEEDED, 2)
