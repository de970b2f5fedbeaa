"""Tasks that SIGSTOP holds: seen at once, judged after a while."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from orchestrator.cluster.records import Phase
from orchestrator.launch.events import EventKind
from orchestrator.launch.hangs import MOMENT_SECONDS, Watched, find_suspended
from orchestrator.launch.job import HangLimits, RunPolicy
from orchestrator.launch.launcher import TaskSuspended
from orchestrator.launch.root_cause import FailureKind
from orchestrator.testing import TaskScript
from orchestrator.testing.script import ends, goes_on, progress, suspended
from tests.launch.jobs import task
from tests.launch.local_runs import CHIEF, Watch, launcher, local_job, wait_until
from tests.launch.test_supervisor import RESUMES, SERVES, TRAINS, ps_run, sync_run

CHIEF_0, WORKER_0, PS_0 = task("chief-0"), task("worker-0"), task("ps-0")
POLICY = RunPolicy(hang_seconds=HangLimits(suspended=30))
NEVER = RunPolicy(hang_seconds=HangLimits(suspended=None))
HELD_EARLY = TaskScript.of(suspended(0.5), on_request=None)


def held(name: str, seconds: float) -> Watched:
    return Watched(task(name), started_at=0.0, suspended_for=seconds)


@pytest.mark.parametrize(
    ("policy", "seconds", "stalled", "found"),
    [
        (POLICY, 29.0, False, False),
        (POLICY, 30.0, False, True),
        (POLICY, MOMENT_SECONDS - 0.1, True, False),
        (POLICY, MOMENT_SECONDS, True, True),
        (RunPolicy(hang_seconds=HangLimits(suspended=2)), 2.0, False, True),
        (RunPolicy(hang_seconds=HangLimits(suspended=2)), 2.0, True, True),
        (NEVER, 1e6, True, False),
    ],
)
def test_how_long_a_task_may_be_held(policy: RunPolicy, seconds: float, stalled: bool, found: bool) -> None:
    suspicion = find_suspended([held("worker-0", seconds)], policy, stalled=stalled)
    assert (suspicion is not None) is found


def test_the_one_that_was_held_longest_is_named() -> None:
    suspicion = find_suspended(
        [held("chief-0", 31), held("ps-0", 40), held("worker-0", 0)], POLICY, stalled=True
    )
    assert suspicion is not None
    assert (suspicion.task, suspicion.reason) == (PS_0, "was held by SIGSTOP for 40 s (silent)")


def test_nobody_held_nobody_named() -> None:
    assert find_suspended([held("chief-0", 0)], POLICY, stalled=True) is None


def test_a_task_held_before_its_first_step_is_named_and_started_again(tmp_path: Path) -> None:
    run = sync_run(
        tmp_path, POLICY, chief_0=[TaskScript.of(on_request=None), RESUMES], worker_0=[HELD_EARLY, RESUMES]
    )
    result = run.result()
    assert (result.exit_code, result.restarts) == (0, 1)
    (text,) = run.observer.texts(EventKind.ATTEMPT_RESTARTING)
    assert text.startswith("worker-0 was held by SIGSTOP for 30 s (silent); restarting the whole attempt")
    assert run.killed[0] == "worker-0"
    notes = run.observer.texts(EventKind.NOTE)
    assert any(note.startswith("worker-0 is held by SIGSTOP (process 1002; kill -CONT") for note in notes)


def test_a_server_that_is_held_is_started_again_alone(tmp_path: Path) -> None:
    waits = TaskScript.of(
        progress(1, 0, max_steps=100),
        progress(60, 50, max_steps=100),
        progress(61, 100, checkpoint=100, phase=Phase.DONE),
        ends(62),
    )
    held_ps = TaskScript.of(progress(1, phase=Phase.SERVING), suspended(5), on_request=None)
    run = ps_run(tmp_path, POLICY, chief_0=waits, worker_0=waits, ps_0=[held_ps, SERVES])
    assert run.result().exit_code == 0
    assert run.submitted[1:] == [(0, "ps-0")]


def test_a_task_that_goes_on_in_time_is_left_alone(tmp_path: Path) -> None:
    pauses = TaskScript.of(
        *TRAINS.actions[:-1], suspended(2), goes_on(25), suspended(26), goes_on(50), ends(51)
    )
    run = sync_run(tmp_path, POLICY, worker_0=pauses)
    result = run.result()
    assert (result.exit_code, result.restarts) == (0, 0)
    assert run.observer.texts(EventKind.NOTE).count("worker-0 goes on") == 2
    assert not result.notes


def test_a_short_pause_is_not_even_mentioned(tmp_path: Path) -> None:
    pauses = TaskScript.of(*TRAINS.actions[:-1], suspended(2), goes_on(2 + MOMENT_SECONDS - 1), ends(12))
    run = sync_run(tmp_path, POLICY, worker_0=pauses)
    assert run.result().restarts == 0
    assert not [note for note in run.observer.texts(EventKind.NOTE) if "worker-0" in note]


def test_a_hang_that_comes_first_is_put_down_to_the_task_that_is_held(tmp_path: Path) -> None:
    policy = RunPolicy(hang_seconds=HangLimits(stepping=10, suspended=300))
    stalls = TaskScript.of(progress(1, 0, max_steps=100), progress(2, 10, max_steps=100), on_request=None)
    held_at_10 = TaskScript.of(*stalls.actions, suspended(2.5), on_request=None)
    run = sync_run(tmp_path, policy, chief_0=[stalls, RESUMES], worker_0=[held_at_10, RESUMES])
    assert run.result().exit_code == 0
    (text,) = run.observer.texts(EventKind.ATTEMPT_RESTARTING)
    assert text.startswith("worker-0 was held by SIGSTOP for")


def test_without_a_limit_the_start_limit_holds(tmp_path: Path) -> None:
    policy = RunPolicy(max_restarts=0, start_timeout_seconds=100, hang_seconds=HangLimits(suspended=None))
    run = sync_run(tmp_path, policy, chief_0=TaskScript.of(on_request=None), worker_0=HELD_EARLY)
    run.launcher.stacks = {"chief-0": "", "worker-0": ""}
    result = run.result()
    assert result.root_cause is not None
    assert result.root_cause.kind is FailureKind.HANG
    assert "within 100 s of its start" in result.root_cause.headline()


def test_the_launcher_tells_who_is_held_and_who_goes_on(tmp_path: Path) -> None:
    job = local_job(tmp_path, ("sleep", "1000"))
    with launcher(job) as made:
        watch = Watch(made)
        made.submit(made.plan(job, 0))
        watch.until(lambda: bool(watch.starts(CHIEF)), "start")
        told: list[TaskSuspended] = []

        def look(wanted: TaskSuspended) -> bool:
            made.sample(0.0)
            told.extend(event for event in made.poll(0) if isinstance(event, TaskSuspended))
            return told[-1:] == [wanted]

        for number, wanted in ((signal.SIGSTOP, True), (signal.SIGCONT, False), (signal.SIGSTOP, True)):
            os.kill(watch.starts(CHIEF)[0].pid, number)
            wait_until(lambda wanted=wanted: look(TaskSuspended(CHIEF, wanted)), f"suspended is {wanted}")
    assert [event.suspended for event in told] == [True, False, True]
