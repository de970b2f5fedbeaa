"""What `status` makes of a run's records."""

from __future__ import annotations

import dataclasses
import socket
from pathlib import Path
from typing import Any

from orchestrator.cli.status import as_plain, describe
from orchestrator.launch.process_identity import ProcessIdentity
from orchestrator.launch.run_dir import RunDir
from orchestrator.launch.run_state import RunState
from orchestrator.launch.snapshot import RunPhase


def state(place: Path, *, alive: bool = True, **hosts: str) -> tuple[RunDir, RunState]:
    """A run whose tasks run on these hosts."""
    run_dir = RunDir(place / "run")
    run_dir.create()
    me = ProcessIdentity.current()
    process = me if alive else dataclasses.replace(me, start_ticks=0)
    tasks = {
        name.replace("_", "-"): {
            "state": "running",
            "pid": 7,
            "starts": 1,
            "address": f"{host}:1",
            "host": host,
        }
        for name, host in hosts.items()
    }
    here = socket.gethostname()
    made = RunState(
        "digits",
        RunPhase.RUNNING,
        process,
        here,
        10.0,
        20.0,
        model_dir="model",
        run_dir=str(run_dir.path),
        tasks=tasks,
    )
    made.write(run_dir)
    return run_dir, RunState.read(run_dir)


def told(found: tuple[RunDir, RunState]) -> tuple[list[str], dict[str, Any]]:
    run_dir, run = found
    snapshot = run.snapshot(run_dir)
    return list(describe(run_dir, run, snapshot, 70.0)), as_plain(run_dir, run, snapshot)


def test_tasks_of_several_hosts_are_shown_with_theirs(tmp_path: Path) -> None:
    lines, plain = told(state(tmp_path, chief_0="h1", worker_0="node-22"))
    assert lines[0] == "digits: running for 1:00 min"
    assert lines[-2:] == ["  chief-0   h1       running", "  worker-0  node-22  running"]
    assert plain["tasks"]["worker-0"]["host"] == "node-22"


def test_on_one_machine_no_host_is_repeated(tmp_path: Path) -> None:
    lines, plain = told(state(tmp_path, chief_0="127.0.0.1", worker_0="127.0.0.1"))
    assert lines[-1] == "  worker-0  running"
    assert plain["tasks"]["worker-0"]["host"] == "127.0.0.1"


def test_what_ran_under_a_launcher_that_is_gone_is_lost(tmp_path: Path) -> None:
    lines, plain = told(state(tmp_path, alive=False, chief_0="127.0.0.1"))
    assert lines[0] == "digits: crashed"
    assert lines[-1] == "  chief-0  lost"
    assert (plain["state"], plain["launcher_alive"]) == ("crashed", False)
    assert plain["tasks"]["chief-0"]["state"] == "lost"
