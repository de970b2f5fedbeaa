"""Runs that are to end while a host is waited for: over a shell in place of ssh, with the real agent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from orchestrator.cluster.launcher_sections import SshSection
from orchestrator.errors import Abandoned
from tests.launch.contract.backends import ssh_launcher
from tests.launch.local_runs import CHIEF, Watch, python, wait_until
from tests.launch.ssh.test_lost_hosts import Network, make_job, words_of


def after(looks: int) -> Callable[[], bool]:
    """Says so from the given look on."""
    left = iter(range(looks))
    return lambda: next(left, None) is None


def silent_host(options: SshSection, host: str, command: str, interactive: bool) -> list[str]:
    """`h2` takes the connection and says nothing."""
    return ["sleep", "3600"] if host == "h2" else ["sh", "-c", command]


def works_below(place: Path) -> list[int]:
    """Processes, agents among them, whose directory is there."""
    found = []
    for process in psutil.process_iter():
        try:
            if place in Path(process.cwd()).parents:
                found.append(process.pid)
        except (psutil.Error, OSError):
            continue  # has just ended
    return found


def test_a_host_that_does_not_answer_is_not_waited_for(tmp_path: Path) -> None:
    job = make_job(tmp_path, 5, 1, worker=2)  # what has begun there by then goes when the lease is over
    made = ssh_launcher(job, silent_host)
    made.heed(after(3))
    try:
        with pytest.raises(Abandoned):
            made.plan(job, 0)
    finally:
        made.close()
    children = psutil.Process().children()
    assert not [child for child in children if words_of(child.pid)[:1] == ["sleep"]]
    wait_until(lambda: not works_below(tmp_path / "root"), "the end of h1")


def test_tasks_that_a_host_was_to_start_when_it_is_back_are_ended_there(tmp_path: Path) -> None:
    network, job = Network(), make_job(tmp_path, 600, 5)
    made = ssh_launcher(job, network.connect)
    try:
        plan = made.plan(job, 0)
        watch = Watch(made)
        network.cut("h1")
        made.heed(after(3))
        with pytest.raises(Abandoned):
            made.submit(plan)
        made.heed(lambda: False)
        network.mend("h1")
        watch.until(lambda: any("connected again" in note for note in watch.notes()), "the connection")
    finally:
        made.close()
    assert not watch.starts(CHIEF), "nobody knows of it any more"
    wait_until(lambda: not works_below(tmp_path / "root"), "the end of what ran there")


def test_a_preparation_that_was_not_begun_yet_is_given_up(tmp_path: Path) -> None:
    network, job = Network(), make_job(tmp_path, 600, 5)
    job = replace(job, prepare_command=python("program.py", tmp_path / "enough"))
    made = ssh_launcher(job, network.connect)
    try:
        made.plan(job, 0)
        watch = Watch(made)
        network.cut("h1")
        made.heed(after(3))
        with pytest.raises(Abandoned):
            made.prepare(job)
        network.mend("h1")
        watch.until(lambda: any("connected again" in note for note in watch.notes()), "the connection")
    finally:
        made.close()
    wait_until(lambda: not works_below(tmp_path / "root"), "the end of what ran there")
