"""Which processes are found and ended: with real processes, each in a run of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.launch.process_tree import (
    ProcessEntry,
    descendants,
    die_with_parent,
    has_mark,
    kill,
    kill_until_gone,
    process_table,
    processes_of_run,
    processes_of_task,
    read_entry,
    run_mark,
)
from tests.launch.local_runs import alive, environment, wait_until

Started = list["subprocess.Popen[bytes]"]


@pytest.fixture
def started() -> Iterator[Started]:
    processes: Started = []
    yield processes
    for process in processes:
        process.kill()
        process.wait()


def start(started: Started, *command: str, **env: str) -> int:
    started.append(subprocess.Popen(command, env=environment(**env), start_new_session=True))
    return started[-1].pid


def sleeper(started: Started, **env: str) -> int:
    pid = start(started, "sleep", "1000", **env)
    wait_until(lambda: Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"sleep"), "exec of sleep")
    return pid


def pids(entries: list[ProcessEntry]) -> set[int]:
    return {entry.pid for entry in entries}


def test_this_process_is_in_the_table() -> None:
    entry = read_entry(os.getpid())
    assert entry in process_table()
    assert entry is not None
    assert (entry.parent, entry.session, entry.alive) == (os.getppid(), os.getsid(0), True)
    assert read_entry(2**22 + 1) is None


def test_a_run_is_found_by_its_mark_and_no_other(tmp_path: Path, started: Started) -> None:
    ours = sleeper(started, ORCHESTRATOR_RUN_DIR=str(tmp_path / "run"))
    sleeper(started, ORCHESTRATOR_RUN_DIR=str(tmp_path / "run-2"))
    sleeper(started, COMMENT=f"ORCHESTRATOR_RUN_DIR={tmp_path / 'run'}")
    assert pids(processes_of_run(tmp_path / "run")) == {ours}
    assert processes_of_run(tmp_path / "run", spare=[ours]) == []
    assert has_mark(ours, [run_mark(tmp_path / "run")])


def test_a_task_is_found_by_mark_or_session(tmp_path: Path, started: Started) -> None:
    run = str(tmp_path)
    marked = sleeper(started, ORCHESTRATOR_RUN_DIR=run, ORCHESTRATOR_TASK="worker-1")
    sleeper(started, ORCHESTRATOR_RUN_DIR=run, ORCHESTRATOR_TASK="worker-10")
    unmarked = sleeper(started)
    assert pids(processes_of_task(tmp_path, "worker-1", None)) == {marked}
    assert pids(processes_of_task(tmp_path, "worker-1", unmarked)) == {marked, unmarked}


def test_zombies_are_dead(tmp_path: Path, started: Started) -> None:
    pid = sleeper(started, ORCHESTRATOR_RUN_DIR=str(tmp_path))
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not alive(pid), "end of sleep")
    entry = read_entry(pid)
    assert entry is not None
    assert not entry.alive
    assert processes_of_run(tmp_path) == []


def test_descendants_are_found_through_dead_parents(started: Started) -> None:
    pid = start(started, "sh", "-c", "sh -c 'setsid sleep 1000; true' & wait")
    wait_until(lambda: len(descendants(pid)) == 2, "shell and sleep")
    for entry in descendants(pid):
        kill(entry)
    wait_until(lambda: descendants(pid) == [], "their end")


def test_a_later_process_of_the_same_id_is_spared(started: Started) -> None:
    pid = sleeper(started)
    entry = read_entry(pid)
    assert entry is not None
    earlier = ProcessEntry(pid, entry.parent, entry.group, entry.session, entry.state, entry.start_ticks - 1)
    kill(earlier)
    assert alive(pid)
    kill(entry)
    wait_until(lambda: not alive(pid), "end of sleep")


def test_processes_that_fork_while_they_are_killed_are_all_ended(tmp_path: Path, started: Started) -> None:
    script = "i=0; while [ $i -lt 200 ]; do i=$((i+1)); (setsid sleep 1000 &) ; done; sleep 1000"
    start(started, "sh", "-c", script, ORCHESTRATOR_RUN_DIR=str(tmp_path))
    wait_until(lambda: len(processes_of_run(tmp_path)) > 5, "some processes")
    assert not kill_until_gone(lambda: processes_of_run(tmp_path), 60)
    assert processes_of_run(tmp_path) == []


def test_what_does_not_die_is_told() -> None:
    immortal = ProcessEntry(2**22 + 1, 1, 1, 1, "D", 0)
    rounds: list[int] = []
    assert kill_until_gone(lambda: [immortal], 0.01, lambda: rounds.append(1)) == [immortal]
    assert rounds


def test_a_child_whose_parent_is_gone_already_is_told() -> None:
    code = "from orchestrator.launch.process_tree import die_with_parent; die_with_parent(1234567)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert "process 1234567, which started this one, is gone" in said.stderr
    with pytest.raises(OSError, match="Invalid argument"):
        die_with_parent(os.getppid(), 1000)  # type: ignore[arg-type]
