from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from orchestrator.cli.stop import sweep
from orchestrator.launch.process_identity import ProcessIdentity
from orchestrator.launch.run_dir import RunDir
from orchestrator.launch.run_state import RunState
from orchestrator.launch.snapshot import RunPhase


def crashed(run_dir: RunDir, launcher: str) -> RunState:
    dead = dataclasses.replace(ProcessIdentity.current(), start_ticks=0)
    host = os.uname().nodename
    return RunState("digits", RunPhase.RUNNING, dead, host, 0.0, 0.0, launcher, run_dir=str(run_dir.path))


def test_nothing_is_left_of_a_run_on_this_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_dir = RunDir(tmp_path)
    sweep(run_dir, crashed(run_dir, "local"))
    assert capsys.readouterr().out == "digits: nothing of it is running\n"


def test_what_other_hosts_do_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_dir = RunDir(tmp_path)
    sweep(run_dir, crashed(run_dir, "ssh"))
    first, second = capsys.readouterr().out.splitlines()
    assert first == "digits: nothing of it is running here"
    assert "by themselves: after ssh.lease_seconds" in second
