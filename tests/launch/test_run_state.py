from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.cluster.records import ExitRecord, Phase, ProgressRecord
from orchestrator.errors import ConfigError, RunDirectoryError
from orchestrator.launch.process_identity import ProcessIdentity
from orchestrator.launch.run_dir import RunDir
from orchestrator.launch.run_state import RunState, find_run
from orchestrator.launch.snapshot import RunPhase
from tests.launch.jobs import task


def a_state(**changes: object) -> RunState:
    state = RunState(
        name="digits",
        phase=RunPhase.RUNNING,
        process=ProcessIdentity.current(),
        host=socket.gethostname(),
        started=1.0,
        updated=2.0,
        launcher="local",
        strategy="asynchronous",
        model_dir="/models/digits",
        run_dir="/runs/digits",
        attempt=1,
        restarts=2,
        tasks={"worker-0": {"state": "running", "pid": 7, "starts": 3, "code": None, "address": "h:1"}},
    )
    return replace(state, **changes)  # type: ignore[arg-type]


def a_run(path: Path, state: RunState | None = None) -> RunDir:
    run_dir = RunDir(path)
    run_dir.create()
    (state or a_state()).write(run_dir)
    return run_dir


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    run_dir = a_run(tmp_path / "run")
    assert RunState.read(run_dir) == a_state()


def test_a_living_launcher_is_told_from_a_crashed_one(tmp_path: Path) -> None:
    state = a_state()
    assert state.alive
    assert not state.crashed
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    other = ProcessIdentity.of(process.pid)
    assert other is not None
    assert other.alive()
    process.communicate(b"\n", timeout=240)
    assert not other.alive()
    assert a_state(process=other).crashed
    assert not a_state(process=other, phase=RunPhase.SUCCEEDED).crashed
    assert ProcessIdentity.of(process.pid) is None


@pytest.mark.parametrize("change", [{"start_ticks": 1}, {"boot_id": "another"}])
def test_the_same_process_id_is_not_enough(change: dict[str, object]) -> None:
    assert not replace(ProcessIdentity.current(), **change).alive()  # type: ignore[arg-type]


def test_a_zombie_is_dead() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert ProcessIdentity.of(pid) is None
    os.waitpid(pid, 0)


def test_a_run_on_another_host_is_neither_alive_nor_crashed() -> None:
    elsewhere = a_state(host="elsewhere")
    assert not elsewhere.alive
    assert not elsewhere.crashed


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"state": "dancing", "pid": 1, "start_ticks": 1, "boot_id": ""}']
)
def test_a_damaged_record_is_one_clear_error(tmp_path: Path, text: str) -> None:
    run_dir = a_run(tmp_path / "run")
    run_dir.launcher.write_text(text)
    with pytest.raises(RunDirectoryError, match=r"launcher\.json"):
        RunState.read(run_dir)


def test_no_run_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match="there is no run directory"):
        RunState.read(RunDir(tmp_path / "none"))


def test_the_snapshot_joins_the_state_with_the_records(tmp_path: Path) -> None:
    run_dir = a_run(tmp_path / "run")
    records = run_dir.records(task("worker-0"))
    records.write(ProgressRecord(Phase.STEPPING, 5.0, step=40, max_steps=100, steps_per_second=20.0))
    snapshot = RunState.read(run_dir).snapshot(run_dir)
    assert snapshot.step == 40
    assert snapshot.seconds_left == 3.0
    assert [(view.state, view.starts) for view in snapshot.tasks] == [("running", 3)]
    records.write(ExitRecord(6.0, 1, 2, 7, 137, 9))
    (view,) = RunState.read(run_dir).snapshot(run_dir).tasks
    assert (view.state, view.code) == ("ended", 137)


def test_a_run_is_found_by_path_by_name_and_by_job(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    old, new = a_run(runs / "digits-20260101T000000Z"), a_run(runs / "digits-20260102T000000Z")
    os.utime(old.path, (1, 1))
    assert find_run(str(old.path), runs).path == old.path
    assert find_run(old.path.name, runs).path == old.path
    assert find_run("digits", runs).path == new.path
    with pytest.raises(ConfigError, match=r"there is no run 'digit'.*newest are: digits-20260102T000000Z"):
        find_run("digit", runs)
    with pytest.raises(ConfigError, match="there is no run 'x'"):
        find_run("x", tmp_path / "nothing")


def test_the_file_is_plain_json(tmp_path: Path) -> None:
    value = json.loads(a_run(tmp_path / "run").launcher.read_text())
    assert (value["state"], value["pid"], value["tasks"]["worker-0"]["starts"]) == ("running", os.getpid(), 3)
