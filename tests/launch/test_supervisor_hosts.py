"""Runs whose hosts are lost, played by the fake launcher."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.cluster.task import TaskId
from orchestrator.errors import Abandoned, EnvironmentProblem, HostsAway
from orchestrator.launch.events import EventKind
from orchestrator.launch.job import Job, LaunchPlan, RunPolicy
from orchestrator.launch.launcher import StopKind
from orchestrator.launch.root_cause import FailureKind
from orchestrator.launch.snapshot import RunPhase
from orchestrator.launch.supervisor import Supervisor
from orchestrator.launch.verdict import verdict_as_json
from orchestrator.testing.fake_launcher import FakeLauncher
from orchestrator.testing.script import (
    TaskScript,
    back,
    ends,
    ends_with_host,
    failure,
    out_of_reach,
    progress,
)
from tests.launch.test_supervisor import RESUMES, SIGINT_STOP, TRAINS, Run, ps_run, sync_run

LOST = "host h2 was lost: nothing was heard from it from 12:00:03 UTC on (timed out); on it: worker-0"
BEGINS = (progress(1, 0, max_steps=100), progress(2, 60, checkpoint=50, max_steps=100))
VICTIM = failure(20, "tensorflow.UnavailableError", "Connection reset by peer")


def test_a_lost_host_is_the_root_cause_although_its_peers_fail_long_before_it_is_given_up(
    tmp_path: Path,
) -> None:
    begins = (progress(1, 0, max_steps=100), progress(2, 60, max_steps=100))
    chief = TaskScript.of(*begins, VICTIM, ends(21, 1))
    worker = TaskScript.of(*begins, out_of_reach(9), ends_with_host(60, LOST), on_request=None)
    run = sync_run(tmp_path, RunPolicy(max_restarts=0), chief_0=chief, worker_0=worker)
    result = run.result()
    assert (result.phase, result.restarts) == (RunPhase.FAILED, 0)
    cause = result.root_cause
    assert cause is not None
    assert cause.kind is FailureKind.HOST_LOST
    assert cause.render().splitlines()[0] == f"{LOST} (at step 60)"
    assert list(map(str, cause.victims)) == ["chief-0"]
    assert verdict_as_json(run.job, result, 0.0)["first_failure"]["kind"] == "host_lost"


def test_after_a_lost_host_the_attempt_goes_on_from_the_checkpoint(tmp_path: Path) -> None:
    chief = TaskScript.of(*BEGINS, VICTIM, ends(21, 1))
    worker = TaskScript.of(*BEGINS, out_of_reach(9), ends_with_host(60, LOST))
    run = sync_run(tmp_path, chief_0=[chief, RESUMES], worker_0=[worker, RESUMES])
    result = run.result()
    assert (result.phase, result.restarts) == (RunPhase.SUCCEEDED, 1)
    ((attempt, tasks),) = run.submitted[1:]
    assert attempt == 1
    assert tasks.startswith("chief-0 worker-0")
    (restart,) = result.history
    assert restart.reason.startswith(f"worker-0 ended: {LOST}; restarting the whole attempt")


def test_a_peer_that_stops_along_with_a_task_of_the_lost_host_is_not_blamed(tmp_path: Path) -> None:
    chief = TaskScript.of(*BEGINS, ends(21, 143))
    worker = TaskScript.of(*BEGINS, out_of_reach(9), ends_with_host(60, LOST))
    run = sync_run(tmp_path, chief_0=[chief, RESUMES], worker_0=[worker, RESUMES])
    result = run.result()
    assert (result.phase, result.restarts) == (RunPhase.SUCCEEDED, 1)
    (restart,) = result.history
    assert restart.reason.startswith(f"worker-0 ended: {LOST}; restarting the whole attempt")


def test_victims_are_judged_when_the_host_is_back(tmp_path: Path) -> None:
    chief = TaskScript.of(*BEGINS, VICTIM, ends(21, 1))
    worker = TaskScript.of(*BEGINS, out_of_reach(9), back(40))
    run = sync_run(tmp_path, chief_0=[chief, RESUMES], worker_0=[worker, RESUMES])
    result = run.result()
    assert (result.phase, result.restarts) == (RunPhase.SUCCEEDED, 1)
    (restarted,) = [event for event in run.observer.events if event.kind is EventKind.ATTEMPT_RESTARTING]
    assert restarted.time - run.observer.events[0].time > 40
    assert "chief-0" in result.history[0].reason


def test_tasks_lost_with_one_host_cost_one_restart(tmp_path: Path) -> None:
    lost = "host h2 was lost: nothing was heard from it; on it: ps-0, worker-0"
    gone = TaskScript.of(progress(1, 0), out_of_reach(2), ends_with_host(30, lost))
    run = ps_run(tmp_path, RunPolicy(max_restarts=1), worker_0=[gone, TRAINS], ps_0=[gone, TaskScript()])
    result = run.result()
    assert (result.phase, result.restarts) == (RunPhase.SUCCEEDED, 2)
    assert sorted(task for _, task in run.submitted[1:]) == ["ps-0", "worker-0"]


def test_the_verdict_names_all_tasks_of_the_host_once(tmp_path: Path) -> None:
    lost = "host h2 was lost: nothing was heard from it; on it: chief-0, worker-0"
    gone = TaskScript.of(progress(1, 0), out_of_reach(2), ends_with_host(30, lost))
    result = sync_run(tmp_path, RunPolicy(max_restarts=0), worker_0=gone, chief_0=gone).result()
    assert result.root_cause is not None
    text = result.root_cause.render()
    assert text.splitlines()[0] == f"{lost} (at step 0)"
    assert "The same error in" not in text
    assert "Failed after it" not in text


class WithoutHost(FakeLauncher):
    """Cannot plan a second attempt."""

    def plan(self, job: Job, attempt: int) -> LaunchPlan:
        if attempt:
            raise EnvironmentProblem("host h2: connection timed out")
        return super().plan(job, attempt)


def test_where_no_attempt_can_follow_the_verdict_names_the_host(tmp_path: Path) -> None:
    worker = TaskScript.of(*BEGINS, out_of_reach(9), ends_with_host(60, LOST))
    run = sync_run(tmp_path, worker_0=worker)
    run.launcher.__class__ = WithoutHost
    result = run.result()
    assert (result.phase, result.exit_code) == (RunPhase.FAILED, 1)
    assert result.why == "no further attempt could be started: host h2: connection timed out"
    assert result.root_cause is not None
    assert result.root_cause.headline().startswith(LOST)


class AwayFor(FakeLauncher):
    """Cannot plan another attempt before `back_at`, by the clock of the test."""

    back_at = 0.0

    def plan(self, job: Job, attempt: int) -> LaunchPlan:
        if attempt and self.clock.monotonic() < self.back_at:
            raise HostsAway("host h2 cannot be reached (worker-0 declared there)", 600.0, "ssh.wait")
        return super().plan(job, attempt)


def away_run(path: Path, back_after: float) -> Run:
    """A worker whose host is lost after a minute, and can be used again after so many seconds more."""
    worker = TaskScript.of(*BEGINS, out_of_reach(9), ends_with_host(60, LOST))
    chief = TaskScript.of(*BEGINS, VICTIM, ends(21, 1))
    run = sync_run(path, chief_0=[chief, RESUMES], worker_0=[worker, RESUMES])
    run.launcher.__class__ = AwayFor
    assert isinstance(run.launcher, AwayFor)
    run.launcher.back_at = run.launcher.clock.monotonic() + 60 + back_after
    return run


def said(run: Run) -> list[str]:
    return [event.text for event in run.observer.events if event.kind is EventKind.NOTE]


def test_a_host_that_tasks_cannot_do_without_is_waited_for(tmp_path: Path) -> None:
    run = away_run(tmp_path, 300)
    result = run.result()
    assert (result.phase, result.restarts) == (RunPhase.SUCCEEDED, 1)
    assert [attempt for attempt, _ in run.submitted] == [0, 1]
    (note,) = said(run)
    assert note == (
        "host h2 cannot be reached (worker-0 declared there): waiting for it, 10:00 min at most"
        " (ssh.wait); Ctrl-C ends the run"
    )
    assert result.notes == (), "it is over"
    first = verdict_as_json(run.job, result, 0.0)["first_failure"]
    assert (first["kind"], first["task"], first["headline"].split(":")[0]) == (
        "host_lost",
        "worker-0",
        "host h2 was lost",
    )


def test_a_host_that_never_comes_back_ends_the_run_with_its_name(tmp_path: Path) -> None:
    run = away_run(tmp_path, 10_000)
    result = run.result()
    assert (result.phase, result.exit_code) == (RunPhase.FAILED, 1)
    assert result.why.startswith(
        "no further attempt could be started after a wait of 10:00 min (ssh.wait): host h2 cannot be reached"
    )
    assert "run the same command again" in result.why
    assert result.root_cause is not None
    assert result.root_cause.headline().startswith(LOST)


def test_a_run_that_waits_for_a_host_ends_when_it_is_asked_to(tmp_path: Path) -> None:
    run = away_run(tmp_path, 10_000)
    run.launcher.at(100, lambda: run.supervisor.request_stop(SIGINT_STOP))
    result = run.result()
    assert (result.phase, result.exit_code) == (RunPhase.STOPPED, 130)
    assert result.seconds < 200


class Slow(FakeLauncher):
    """Waits in one place for machines that do not answer, until the run is to end."""

    where = ""
    ask: Callable[[], None]
    stopped: Callable[[], bool]

    def heed(self, stopped: Callable[[], bool]) -> None:
        self.stopped = stopped

    def plan(self, job: Job, attempt: int) -> LaunchPlan:
        self._reach("later plan" if attempt else "plan")
        return super().plan(job, attempt)

    def prepare(self, job: Job) -> None:
        self._reach("prepare")
        super().prepare(job)

    def submit(self, plan: LaunchPlan, tasks: Collection[TaskId] | None = None) -> None:
        self._reach("later submit" if tasks is not None and len(tasks) == 1 else "submit")
        super().submit(plan, tasks)

    def _reach(self, where: str) -> None:
        if where == self.where:
            self.ask()
            assert self.stopped(), "it was not told how to know"
            raise Abandoned("the run is to end.")


@pytest.mark.parametrize("where", ["plan", "prepare", "submit", "later plan", "later submit"])
def test_a_run_that_is_asked_to_end_while_it_waits_for_machines_ends(tmp_path: Path, where: str) -> None:
    lost = TaskScript.of(*BEGINS, ends_with_host(60, LOST))
    run = (ps_run if where == "later submit" else sync_run)(tmp_path, worker_0=[lost, RESUMES])
    run.launcher.__class__ = Slow
    slow = run.launcher
    assert isinstance(slow, Slow)
    slow.where = where
    slow.ask = lambda: run.supervisor.request_stop(SIGINT_STOP)
    run.job = replace(run.job, prepare_command=("true",))
    run.supervisor = Supervisor(slow, run.job, clock=run.clock, observer=run.observer)
    result = run.result()
    assert (result.phase, result.exit_code, result.why) == (RunPhase.STOPPED, 130, "Ctrl-C")
    assert not slow.running


class Deaf(FakeLauncher):
    """What is asked of the worker does not arrive."""

    def stop(self, tasks: Collection[TaskId], kind: StopKind) -> None:
        super().stop([task for task in tasks if str(task) != "worker-0"], kind)


@pytest.mark.parametrize("hurried", [False, True])
def test_a_run_that_is_to_end_does_not_wait_for_hosts_that_will_end_their_tasks(
    tmp_path: Path, hurried: bool
) -> None:
    worker = TaskScript.of(*BEGINS, out_of_reach(9), ends_with_host(5000, LOST))
    chief = TaskScript.of(*BEGINS)
    run = sync_run(tmp_path, RunPolicy(grace_seconds=1000), chief_0=chief, worker_0=worker)
    run.launcher.__class__ = Deaf
    run.launcher.at(20, lambda: run.supervisor.request_stop(SIGINT_STOP))
    if hurried:
        run.launcher.at(25, run.supervisor.hurry)
    result = run.result()
    assert (result.phase, result.exit_code) == (RunPhase.STOPPED, 130)
    assert (result.seconds < 100) is hurried
    assert result.seconds < 2000
    states = {str(view.task): view.state for view in result.snapshot.tasks}
    assert states["worker-0"] == "stopped"
    assert "out of reach at the end: worker-0; each host ends its tasks by itself" in result.notes
