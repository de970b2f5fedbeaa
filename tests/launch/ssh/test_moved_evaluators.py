"""Evaluators that change hosts while the others run: over a shell in place of ssh, with the real agent."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.cluster.records import Phase, ProgressRecord
from orchestrator.cluster.task import TaskId, TaskType
from orchestrator.errors import HostsAway, PortError
from orchestrator.launch.job import Job, LaunchPlan, TaskRequest
from orchestrator.launch.launcher import StopKind
from orchestrator.launch.run_dir import RunDir
from orchestrator.launch.ssh.launcher import SshLauncher
from tests.launch.local_runs import CHIEF
from tests.launch.ssh.test_lost_hosts import (
    CountingWatch,
    Network,
    agent_on,
    make_job,
    numbers,
    run_dir_on,
    started,
)

EVALUATOR = TaskId(TaskType.EVALUATOR, 0)


def watched_job(folder: Path, *evaluator_hosts: str) -> Job:
    """A chief on h1, and an evaluator, on h2 unless it has to move."""
    job = make_job(folder, 600, 5, chief=1, evaluator=1)
    tasks = {
        TaskType.CHIEF: TaskRequest(1, hosts=("h1",)),
        TaskType.EVALUATOR: TaskRequest(1, hosts=evaluator_hosts),
    }
    return replace(job, tasks=tasks)


def lose_h2(network: Network, plan: LaunchPlan, watch: CountingWatch) -> None:
    """The agent there dies, and nobody reaches the host any more."""
    os.kill(agent_on(plan, "h2"), signal.SIGKILL)
    watch.until_exited([EVALUATOR])
    network.cut("h2")


def move(made: SshLauncher, plan: LaunchPlan, watch: CountingWatch) -> LaunchPlan:
    """The plan after the move, as soon as there is a host for it."""
    found: list[LaunchPlan] = []

    def moved() -> bool:
        try:
            found.append(made.move(plan, [EVALUATOR]))
        except HostsAway:
            return False
        return True

    watch.until(moved, "a host for the evaluator")
    return found[0]


def test_an_evaluator_moves_while_the_chief_runs_on(tmp_path: Path) -> None:
    network, job = Network(), watched_job(tmp_path)
    with started(job, network) as (made, plan, watch):
        assert [part.host for part in plan.tasks] == ["h1", "h2"]
        lose_h2(network, plan, watch)
        with pytest.raises(PortError, match="h2 cannot be reached"):
            made.submit(plan, [EVALUATOR])
        moved = made.move(plan, [EVALUATOR])
        assert [part.host for part in moved.tasks] == ["h1", "h1"]
        assert moved.task(CHIEF) == plan.task(CHIEF)
        made.submit(moved, [EVALUATOR])
        watch.until(lambda: len(watch.starts(EVALUATOR)) == 2, "a start elsewhere")
        made.stop([EVALUATOR], StopKind.REQUEST)
        watch.until_exited([EVALUATOR], times=2)
        (tmp_path / "enough").touch()
        watch.until_exited([CHIEF])
    assert [record.code for record in watch.exits(CHIEF)] == [0], "it was left alone"
    assert numbers(watch) == list(range(len(numbers(watch))))


def test_an_evaluator_waits_for_the_host_that_it_is_declared_on(tmp_path: Path) -> None:
    network, job = Network(), watched_job(tmp_path, "h2")
    done = ProgressRecord(Phase.DONE, 5.0, step=7)
    with started(job, network) as (made, plan, watch):
        lose_h2(network, plan, watch)
        with pytest.raises(HostsAway, match=r"host h2 cannot be reached \(evaluator-0 declared there; "):
            made.move(plan, [EVALUATOR])
        RunDir(job.run_dir).records(CHIEF).write(done)
        network.mend("h2")
        moved = move(made, plan, watch)
        assert [part.host for part in moved.tasks] == ["h1", "h2"]
        assert run_dir_on(moved, "h2") != run_dir_on(plan, "h2"), "another agent"
        with pytest.raises(PortError, match="h2 cannot be reached"):
            made.submit(plan, [EVALUATOR])
        made.submit(moved, [EVALUATOR])
        watch.until(lambda: len(watch.starts(EVALUATOR)) == 2, "another start")
        there = RunDir(run_dir_on(moved, "h2")).records(CHIEF)
        assert there.read(ProgressRecord) == done, "it can see how far the chief is"
        assert watch.exits(CHIEF) == []
    assert not [note for note in watch.notes() if "nothing was lost" in note]


def test_training_is_planned_again_without_the_host_of_the_evaluator(tmp_path: Path) -> None:
    network, job = Network(), watched_job(tmp_path, "h2")
    with started(job, network) as (made, plan, watch):
        lose_h2(network, plan, watch)
        made.stop([CHIEF], StopKind.KILL)
        watch.until_exited([CHIEF])
        again = made.plan(job, 1)
        assert again.away == {EVALUATOR}
        assert again.task(CHIEF).address == plan.task(CHIEF).address
        made.submit(again, [CHIEF])
        watch.until(lambda: len(watch.starts(CHIEF)) == 2, "another start")
        network.mend("h2")
        with pytest.raises(HostsAway):
            made.move(again, [EVALUATOR])  # from now on the host is sought
        moved = move(made, again, watch)
        assert (moved.task(EVALUATOR).host, moved.away) == ("h2", frozenset())
        made.submit(moved, [EVALUATOR])
        watch.until(lambda: len(watch.starts(EVALUATOR)) == 2, "another start")


def test_an_evaluator_that_runs_stays_where_it_is_when_training_is_planned_again(tmp_path: Path) -> None:
    network, job = Network(), watched_job(tmp_path)
    with started(job, network) as (made, plan, watch):
        made.stop([CHIEF], StopKind.KILL)
        watch.until_exited([CHIEF])
        declared = {**job.tasks, TaskType.CHIEF: TaskRequest(1, hosts=("h2",))}
        again = made.plan(replace(job, tasks=declared), 1)
        assert [part.host for part in again.tasks] == ["h2", "h2"], "it would be on h1 otherwise"
        assert again.task(EVALUATOR).address == plan.task(EVALUATOR).address
        made.stop([EVALUATOR], StopKind.REQUEST)
        watch.until_exited([EVALUATOR])
