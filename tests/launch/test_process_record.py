"""Which processes belong to a run, by its record."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from orchestrator.launch.process_identity import ProcessIdentity
from orchestrator.launch.process_record import RecordedProcess, left_over, record, recorded
from orchestrator.launch.process_tree import descendants
from orchestrator.launch.run_dir import RunDir
from tests.launch.local_runs import (
    CHIEF,
    Watch,
    environment,
    launcher,
    local_job,
    python,
    wait_until,
    write_program,
)

WAITS = [sys.executable, "-c", "input()"]


def test_every_start_and_the_parent_are_recorded(tmp_path: Path) -> None:
    job = local_job(tmp_path, python(write_program(tmp_path, "print('done')")))
    with launcher(job) as made:
        plan = made.plan(job, 0)
        watch = Watch(made)
        for times in (1, 2):
            made.submit(plan)
            watch.until_exited([CHIEF], times=times)
        parent = made.parent_pid
        found = recorded(RunDir(job.run_dir).processes)
    pids = {process.label: process.identity.pid for process in found}
    assert pids["the parent of the tasks"] == parent
    # A task that ended before it could be noted needs nobody to end it.
    assert {p.identity.pid for p in found if p.label == "chief-0"} <= {s.pid for s in watch.starts(CHIEF)}


def test_what_a_recorded_process_started_is_left_over_too(tmp_path: Path) -> None:
    family = f"import subprocess; subprocess.Popen({WAITS!r}).wait()"
    parent = subprocess.Popen([sys.executable, "-c", family], stdin=subprocess.PIPE)
    stranger = subprocess.Popen(WAITS, stdin=subprocess.PIPE)
    try:
        wait_until(lambda: bool(descendants(parent.pid)), "the child")
        record(tmp_path / "processes.jsonl", "worker-0", parent.pid)
        with (tmp_path / "processes.jsonl").open("a") as stream:
            stream.write("half a li")
        processes = recorded(tmp_path / "processes.jsonl")
        assert [process.label for process in processes] == ["worker-0"]
        found = {entry.pid for entry in left_over(processes, tmp_path)}
        assert parent.pid in found
        assert len(found) == 2
        assert stranger.pid not in found
    finally:
        for process in (parent, stranger):
            process.communicate(b"\n", timeout=240)


def test_a_later_process_of_the_same_number_is_not_ours(tmp_path: Path) -> None:
    own = ProcessIdentity.current()
    child = subprocess.Popen(WAITS, stdin=subprocess.PIPE, start_new_session=True, env=environment())
    try:
        identity = ProcessIdentity.of(child.pid)
        assert identity is not None
        for other in (
            ProcessIdentity(child.pid, identity.start_ticks - 1, identity.boot_id),
            ProcessIdentity(child.pid, identity.start_ticks, "another boot"),
        ):
            assert left_over([RecordedProcess("worker-0", other)], tmp_path) == []
        assert [e.pid for e in left_over([RecordedProcess("worker-0", identity)], tmp_path)] == [child.pid]
    finally:
        child.communicate(b"\n", timeout=240)
    assert own.alive()


def test_an_orphan_in_the_session_of_a_recorded_process_is_found_by_the_mark(tmp_path: Path) -> None:
    # Its own first word: what it carries cannot be read while it is still made ready to run.
    child = [sys.executable, "-c", "import os; print(os.getpid(), flush=True); input()"]
    script = f"import subprocess; subprocess.Popen({child!r}); input()"
    run_dir = tmp_path / "run"
    for env, is_ours in ((environment(ORCHESTRATOR_RUN_DIR=str(run_dir)), True), (environment(), False)):
        leader = subprocess.Popen(
            [sys.executable, "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            env=env,
        )
        identity = ProcessIdentity.of(leader.pid)
        assert identity is not None
        assert leader.stdout is not None
        orphan = int(leader.stdout.readline())
        leader.kill()
        leader.wait()
        try:
            found = {entry.pid for entry in left_over([RecordedProcess("worker-0", identity)], run_dir)}
            assert found == ({orphan} if is_ours else set())
        finally:
            os.kill(orphan, signal.SIGKILL)


def test_a_process_that_has_ended_is_not_recorded(tmp_path: Path) -> None:
    child = subprocess.Popen(["true"])
    wait_until(lambda: ProcessIdentity.of(child.pid) is None, "its end")
    record(tmp_path / "processes.jsonl", "worker-0", child.pid)
    child.wait()
    assert recorded(tmp_path / "processes.jsonl") == []
    (tmp_path / "processes.jsonl").write_text(json.dumps({"label": "x", "pid": "no number"}) + "\n")
    assert recorded(tmp_path / "processes.jsonl") == []
