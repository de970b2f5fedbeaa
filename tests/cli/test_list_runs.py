from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.cli.list_runs import MOST_RUNS, describe, find
from orchestrator.cli.main import main
from orchestrator.cluster.records import Phase, ProgressRecord
from orchestrator.launch.process_identity import ProcessIdentity
from orchestrator.launch.run_dir import RunDir
from orchestrator.launch.snapshot import RunPhase
from tests.launch.jobs import task
from tests.launch.test_run_state import a_state


def add_run(place: Path, name: str, **changes: object) -> RunDir:
    run_dir = RunDir(place / name)
    run_dir.create()
    a_state(**{"tasks": {"chief-0": {"state": "running", "starts": 1}}, **changes}).write(run_dir)
    run_dir.records(task("chief-0")).write(ProgressRecord(Phase.STEPPING, 1.0, 40))
    return run_dir


def test_runs_are_listed_with_state_age_and_step(tmp_path: Path) -> None:
    dead = replace(ProcessIdentity.current(), start_ticks=1)
    add_run(tmp_path, "old", started=100.0, updated=160.0, phase=RunPhase.SUCCEEDED, restarts=2)
    add_run(tmp_path, "gone", started=200.0, updated=230.0, process=dead, restarts=0)
    add_run(tmp_path, "now", started=300.0, updated=310.0, restarts=1)
    damaged = RunDir(tmp_path / "damaged")
    damaged.create()
    damaged.launcher.write_text("{}")
    (tmp_path / "no-run").mkdir()
    assert list(describe(find(tmp_path), 3, tmp_path, now=390.0)) == [
        "now   running        1:30 min  step 40  1 restart",
        "gone  crashed          30.0 s  step 40",
        "old   succeeded      1:00 min  step 40  2 restarts",
    ]


def test_only_the_newest_are_shown_and_the_others_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(MOST_RUNS + 3):
        add_run(tmp_path, f"run-{number:02d}", started=float(number))
    assert main(["list", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"run-{MOST_RUNS + 2}")
    assert lines[-1] == "and 3 older ones (--all)"
    assert main(["list", str(tmp_path), "--all"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == MOST_RUNS + 3


def test_machines_get_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add_run(tmp_path, "one", started=5.0, updated=9.0, phase=RunPhase.FAILED)
    assert main(["list", str(tmp_path), "--json"]) == 0
    (run,) = json.loads(capsys.readouterr().out)
    assert (run["run"], run["state"], run["global_step"], run["ended"]) == ("one", "failed", 40, 9.0)


def test_where_nothing_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", str(tmp_path / "none")]) == 0
    assert capsys.readouterr().out == f"no runs under {tmp_path / 'none'}\n"
