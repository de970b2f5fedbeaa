from __future__ import annotations

import json
from pathlib import Path

from orchestrator.launch.root_cause import find_root_cause
from orchestrator.launch.run_dir import RunDir
from orchestrator.launch.run_result import Restart
from orchestrator.launch.verdict import MOST_RESTARTS_SHOWN, render, write_verdict
from tests.launch.jobs import make_job, task
from tests.launch.test_root_cause import ended
from tests.launch.test_summary import a_result

RESTARTS = (
    Restart(5.0, task("worker-0"), True, "worker-0 ended with SIGKILL; restarting the whole attempt", None),
    Restart(6.0, task("ps-0"), False, "ps-0 ended with SIGKILL; restarting ps-0", 40, 0.12345),
)


def test_what_failed_first_stands_in_the_file_with_all_that_is_known_of_it(tmp_path: Path) -> None:
    job = make_job(tmp_path / "run", chief=1, worker=1)
    cause = find_root_cause(
        [
            ended("worker-0", error="ValueError", message="bad record", log="step 6\nstep 7"),
            ended("chief-0", at=11, error="UnavailableError", message="socket closed"),
        ]
    )
    write_verdict(job, a_result(root_cause=cause, history=RESTARTS, why="out of restarts"), now=20.0)
    value = json.loads(RunDir(job.run_dir).verdict.read_text())
    first = value["first_failure"]
    assert (first["task"], first["kind"], first["exit_code"], first["step"]) == (
        "worker-0",
        "exception",
        1,
        None,
    )
    assert first["time"] == "1970-01-01T00:00:10.000+00:00"
    assert first["exception"] == {"type": "ValueError", "message": "bad record"}
    assert first["traceback"].count("Traceback") == 1
    assert first["last_lines"] == ["step 6", "step 7"]
    assert (first["victims"], first["log"]) == (["chief-0"], "logs/worker-0.log")
    assert [(r["task"], r["restarted"], r["from_checkpoint_step"]) for r in value["restarts"]] == [
        ("worker-0", "attempt", None),
        ("ps-0", "task", 40),
    ]
    assert value["why"] == "out of restarts"
    assert value["text"] == render(a_result(root_cause=cause, history=RESTARTS))
    assert value["text"].count("Traceback (most recent call last)") == 1


def test_a_run_that_succeeded_says_what_was_restarted_and_blames_nobody(tmp_path: Path) -> None:
    job = make_job(tmp_path / "run", chief=1)
    write_verdict(job, a_result(history=RESTARTS), now=0.0)
    value = json.loads(RunDir(job.run_dir).verdict.read_text())
    assert (value["state"], value["first_failure"], value["text"]) == ("succeeded", None, None)
    assert len(value["restarts"]) == 2


def test_restarts_are_told_with_the_checkpoint_they_went_on_from() -> None:
    text = render(a_result(root_cause=find_root_cause([ended("ps-0")]), history=RESTARTS))
    assert text is not None
    assert text.splitlines()[-3:] == [
        "Restarted before:",
        "  all tasks, from the start: worker-0 ended with SIGKILL",
        "  ps-0, from the checkpoint of step 40: ps-0 ended with SIGKILL",
    ]
    many = render(a_result(root_cause=find_root_cause([ended("ps-0")]), history=RESTARTS * 20))
    assert many is not None
    assert f"({40 - MOST_RESTARTS_SHOWN} earlier ones left out)" in many
    assert len(many.splitlines()) < 20
