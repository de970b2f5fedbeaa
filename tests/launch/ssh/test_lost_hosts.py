"""Connections that break and hosts that are lost: over a shell in place of ssh, with the real agent."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from orchestrator.cluster.launcher_sections import SshSection
from orchestrator.cluster.records import ENV_RUN_DIR, ExitRecord
from orchestrator.errors import EnvironmentProblem, PortError
from orchestrator.launch.job import Job, LaunchPlan, RunPolicy
from orchestrator.launch.launcher import PreparationExited, PreparationOutput, StopKind, TasksOutOfReach
from orchestrator.launch.process_tree import processes_of_run
from orchestrator.launch.run_dir import RunDir
from orchestrator.launch.ssh.launcher import SshLauncher
from tests.launch.contract.backends import Ssh, ssh_launcher
from tests.launch.local_runs import CHIEF, WORKER, Watch, python, wait_until, write_program

MARK = "TEST_HOST"
COUNTS = """
    import sys, time
    from itertools import count
    from pathlib import Path
    for n in count():
        print(n, flush=True)
        time.sleep(0.02)
        if Path(sys.argv[1]).exists():
            break
"""


class Network:
    """The way to the hosts: one process a connection, which can be broken, and kept from being made."""

    def __init__(self) -> None:
        self.down: set[str] = set()

    def connect(self, options: SshSection, host: str, command: str, interactive: bool) -> list[str]:
        if host in self.down:
            text = f"ssh: connect to host {host} port 22: No route to host"
            return ["sh", "-c", f"echo {text} >&2; exit 255"]
        return ["env", f"{MARK}={host}", "sh", "-c", command]

    def drop(self, host: str) -> None:
        """Kills the client of a host's connection."""
        for child in psutil.Process().children():
            try:
                if child.environ().get(MARK) == host:
                    child.kill()
            except psutil.Error:
                continue  # has just ended

    def cut(self, host: str) -> None:
        """No way to the host from now on."""
        self.down.add(host)
        self.drop(host)

    def mend(self, host: str) -> None:
        self.down.discard(host)


def run_dir_on(plan: LaunchPlan, host: str) -> Path:
    return next(Path(part.env[ENV_RUN_DIR]) for part in plan.tasks if part.host == host)


def agent_on(plan: LaunchPlan, host: str) -> int:
    """The process id of a host's agent."""
    place, found = str(run_dir_on(plan, host)), {}
    for process in psutil.process_iter():
        try:
            if process.cwd() == place and "node.agent" in " ".join(process.cmdline()):
                found[process.pid] = process.ppid()
        except psutil.Error:
            continue
    # A child that it is just starting looks like the agent itself until it executes its command.
    (agent,) = [pid for pid, parent in found.items() if parent not in found]
    return agent


def make_job(folder: Path, lease: float, grace: float, **replicas: int) -> Job:
    write_program(folder / "code", COUNTS)
    job = Ssh().job(folder, python("program.py", folder / "enough"), **replicas)
    options = {**job.launcher_options, "lease_seconds": lease}
    return replace(job, launcher_options=options, policy=RunPolicy(grace_seconds=grace))


@contextmanager
def started(job: Job, network: Network) -> Iterator[tuple[SshLauncher, LaunchPlan, CountingWatch]]:
    """A launcher whose tasks run; whatever is left in the end is killed, after the test has looked."""
    made = ssh_launcher(job, network.connect)
    places: list[Path] = []
    try:
        plan = made.plan(job, 0)
        places += [run_dir_on(plan, host) for host in {part.host for part in plan.tasks}]
        watch = CountingWatch(made)
        made.submit(plan)
        for part in plan.tasks:
            watch.until_output(part.task, "0\n")
        yield made, plan, watch
    finally:
        network.down.clear()
        made.close()
        for entry in [entry for place in places for entry in processes_of_run(place)]:
            os.kill(entry.pid, signal.SIGKILL)


class CountingWatch(Watch):
    """Watches the chief's numbers, and whether it can be reached."""

    def until_more_than(self, count: int) -> None:
        self.until(lambda: len(numbers(self)) > count, "more output")

    def until_reached_again(self, times: int) -> None:
        told = [TasksOutOfReach(frozenset({CHIEF}), out) for out in (True, False)] * times
        self.until(lambda: self.reach() == told, "a new connection")

    def reach(self) -> list[TasksOutOfReach]:
        return [event for event in self.events if isinstance(event, TasksOutOfReach)]


def numbers(watch: Watch) -> list[int]:
    return [int(line) for line in watch.output(CHIEF).split()]


def test_nothing_is_lost_or_doubled_when_connections_break(tmp_path: Path) -> None:
    network, job = Network(), make_job(tmp_path, 600, 5)
    with started(job, network) as (_, plan, watch):
        for times in (1, 2, 3):
            watch.until_more_than(len(numbers(watch)))
            network.drop("h1")
            watch.until_reached_again(times)
        (tmp_path / "enough").touch()
        watch.until_exited([CHIEF])
    assert numbers(watch) == list(range(len(numbers(watch))))
    assert plan.task(CHIEF).log_path.read_text() == watch.output(CHIEF)
    assert [record.code for record in watch.exits(CHIEF)] == [0]


def test_what_is_asked_while_the_connection_is_away_is_done_later_and_what_was_written_comes(
    tmp_path: Path,
) -> None:
    network, job = Network(), make_job(tmp_path, 600, 5)
    with started(job, network) as (made, _, watch):
        network.cut("h1")
        watch.until(lambda: bool(watch.reach()), "the loss")
        made.stop([CHIEF], StopKind.REQUEST)
        assert made.dump_stacks([CHIEF]) == {}
        network.mend("h1")
        watch.until_exited([CHIEF])
    assert [(r.code, r.requested, r.host_lost) for r in watch.exits(CHIEF)] == [(143, True, None)]
    assert numbers(watch) == list(range(len(numbers(watch))))


def test_the_death_of_an_agent_is_told_at_once_and_its_tasks_can_be_started_again(tmp_path: Path) -> None:
    network, job = Network(), make_job(tmp_path, 600, 5, worker=2)
    with started(job, network) as (made, plan, watch):
        os.kill(agent_on(plan, "h1"), signal.SIGKILL)
        watch.until_exited([WORKER])
        (record,) = watch.exits(WORKER)
        assert (record.code, record.requested) == (137, False)
        assert record.host_lost is not None
        assert record.host_lost.startswith("host h1 was lost: nothing was heard from it from ")
        assert "the agent that ran the tasks was killed" in record.host_lost
        assert record.host_lost.endswith("on it: worker-0")
        assert RunDir(job.run_dir).records(WORKER).read(ExitRecord) == record
        place = run_dir_on(plan, "h1")
        wait_until(lambda: not processes_of_run(place), "the end of what ran there")
        with pytest.raises(PortError, match="h1 cannot be reached"):
            made.submit(plan, [WORKER])
        again = made.plan(job, 1)
        assert again.task(WORKER).host == "h1"
        made.submit(again, [WORKER])
        watch.until(lambda: len(watch.starts(WORKER)) == 2, "another start")
        assert len(watch.exits(WORKER)) == 1


@pytest.mark.faults
def test_a_host_that_stays_away_is_given_up_after_it_has_ended_its_tasks(tmp_path: Path) -> None:
    network, job = Network(), make_job(tmp_path, 15, 1, worker=2)
    with started(job, network) as (made, plan, watch):
        gone = plan.task(WORKER).host
        network.cut(gone)
        watch.until_exited([WORKER])
        assert _tasks_in(run_dir_on(plan, gone)) == [], "its addresses are used again from now on"
        (record,) = watch.exits(WORKER)
        assert record.host_lost is not None
        assert f"(ssh: connect to host {gone} port 22: No route to host); on it: worker-0" in record.host_lost
        made.stop([part.task for part in plan.tasks], StopKind.KILL)
        watch.until_exited([part.task for part in plan.tasks])
        again = made.plan(job, 1)
        assert {part.host for part in again.tasks} == {"h1", "h2"} - {gone}
        assert (
            f"host {gone} is left out: ssh: connect to host {gone} port 22: No route to host" in again.notes
        )
        made.submit(again)
        watch.until(lambda: len(watch.starts(WORKER)) == 2, "a start elsewhere")
        network.mend(gone)
        made.stop([part.task for part in plan.tasks], StopKind.KILL)
        watch.until_exited([part.task for part in plan.tasks], times=2)
        assert made.plan(job, 2).task(WORKER).host == gone, "it is back"


@pytest.mark.faults
def test_a_host_that_is_back_too_late_says_how_its_tasks_ended(tmp_path: Path) -> None:
    network, job = Network(), make_job(tmp_path, 15, 500)
    with started(job, network) as (made, plan, watch):
        network.cut("h1")
        place = run_dir_on(plan, "h1")
        wait_until(lambda: not _tasks_in(place), "the end of the lease")
        network.mend("h1")
        watch.until_exited([CHIEF])
        (record,) = watch.exits(CHIEF)
        assert (record.code, record.requested) == (143, False)
        assert record.host_lost is not None
        assert "it did not hear from the launcher" in record.host_lost
        assert numbers(watch) == list(range(len(numbers(watch)))), "what was written meanwhile has come"
        made.submit(made.plan(job, 1))
        watch.until(lambda: len(watch.starts(CHIEF)) == 2, "another start")


def _tasks_in(place: Path) -> list[Any]:
    return [entry for entry in processes_of_run(place) if "program.py" in " ".join(words_of(entry.pid))]


def words_of(pid: int) -> list[str]:
    """The command line of a process; none of one that has ended."""
    try:
        return psutil.Process(pid).cmdline()
    except psutil.Error:
        return []


def test_hosts_that_cannot_be_reached_are_one_error_in_the_words_of_ssh(tmp_path: Path) -> None:
    network, job = Network(), make_job(tmp_path, 600, 5, worker=2)
    network.down |= {"h1", "h2"}
    made = ssh_launcher(job, network.connect)
    with pytest.raises(EnvironmentProblem) as error:
        made.plan(job, 0)
    made.close()
    assert str(error.value).splitlines() == [
        "2 hosts cannot be used:",
        "  h1: ssh: connect to host h1 port 22: No route to host",
        "  h2: ssh: connect to host h2 port 22: No route to host",
    ]


def test_an_interpreter_that_is_not_there_is_named(tmp_path: Path) -> None:
    network, job = Network(), make_job(tmp_path, 600, 5)
    job = replace(job, launcher_options={**job.launcher_options, "python": "no-such-python"})
    made = ssh_launcher(job, network.connect)
    with pytest.raises(EnvironmentProblem, match=r"host h1: .*no-such-python.*not found"):
        made.plan(job, 0)
    made.close()


def test_a_preparation_on_a_lost_host_has_failed(tmp_path: Path) -> None:
    network, job = Network(), make_job(tmp_path, 600, 5)
    job = replace(job, prepare_command=job.command)
    made = ssh_launcher(job, network.connect)
    try:
        plan = made.plan(job, 0)
        watch = Watch(made)
        made.prepare(job)
        os.kill(agent_on(plan, "h1"), signal.SIGKILL)
        ended = lambda: [e for e in watch.events if isinstance(e, PreparationExited)]  # noqa: E731
        watch.until(lambda: bool(ended()), "the end of the preparation")
        assert [e.record.code for e in ended()] == [137]
    finally:
        made.close()


def test_data_is_prepared_on_the_host_that_takes_a_lost_ones_place(tmp_path: Path) -> None:
    network, job = Network(), make_job(tmp_path, 600, 5)
    write_program(tmp_path / "code", "import os; print('prepares', os.environ['TEST_HOST'])", "prepare.py")
    hosts = ({"name": "h1"}, {"name": "h2"})
    options = {**job.launcher_options, "hosts": hosts}
    job = replace(job, prepare_command=python("prepare.py"), launcher_options=options)
    made = ssh_launcher(job, network.connect)
    try:
        plan = made.plan(job, 0)
        assert plan.task(CHIEF).host == "h1"
        watch = Watch(made)
        made.prepare(job)
        ended = lambda: [e for e in watch.events if isinstance(e, PreparationExited)]  # noqa: E731
        said = lambda: [e.text for e in watch.events if isinstance(e, PreparationOutput)]  # noqa: E731
        watch.until(lambda: bool(ended()), "the preparation")
        made.submit(plan)
        watch.until_output(CHIEF, "0\n")
        os.kill(agent_on(plan, "h1"), signal.SIGKILL)
        watch.until_exited([CHIEF])
        network.cut("h1")
        again = made.plan(job, 1)
        assert again.task(CHIEF).host == "h2"
        watch.until(lambda: len(said()) == 2, "what the second preparation says")
        assert said() == ["prepares h1\n", "prepares h2\n"]
        assert [event.record.code for event in ended()] == [0], "the second is the launcher's own affair"
        made.submit(again)
        watch.until(lambda: len(watch.starts(CHIEF)) == 2, "another start")
    finally:
        network.down.clear()
        made.close()
