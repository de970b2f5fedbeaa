"""run, status, logs and stop with real processes, small programs and no TensorFlow."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.cluster.files import write_json_atomically
from orchestrator.cluster.records import ENV_RUN_DIR
from orchestrator.launch.process_identity import ProcessIdentity
from orchestrator.launch.process_record import record
from orchestrator.launch.process_tree import descendants, processes_of_run
from orchestrator.launch.run_dir import RunDir
from orchestrator.launch.snapshot import RunPhase
from tests.integration.launched import Launched, orchestrator, wait_until

pytestmark = pytest.mark.timeout(900)
CLUSTER = """\
name: small
tasks:
  worker: {replicas: 2}
local: {start_method: spawn}
run_policy: {max_restarts: 1, restart_delay_seconds: 0.1, grace_seconds: 120}
"""
PROGRAMS = {
    "quick.py": """
import json, os
print("cluster", json.loads(os.environ["TF_CONFIG"])["task"], flush=True)
""",
    "obeys.py": """
import signal, sys, threading
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
print("ready", flush=True)
stop.wait()
print("checkpoint written", flush=True)
sys.exit(143)
""",
    "deaf.py": """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(3600)
""",
    "family.py": """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"], start_new_session=True)
print("ready", flush=True)
time.sleep(3600)
""",
    "wrong_import.py": """
import no_such_module_anywhere
""",
    "dies_once.py": """
import json, os, pathlib, signal, time
task = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
mark = pathlib.Path("died")
if task == 1 and not mark.exists():
    mark.touch()
    os.kill(os.getpid(), signal.SIGKILL)
while not mark.exists():
    time.sleep(0.05)
print("attempt", os.environ["ORCHESTRATOR_ATTEMPT"], flush=True)
if os.environ["ORCHESTRATOR_ATTEMPT"] == "0":
    time.sleep(3600)
""",
}


@pytest.fixture(autouse=True)
def hangups_end_programs() -> Iterator[None]:
    """As in a terminal, also where the tests themselves were started by nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with a cluster file and programs, as a user has one."""
    (tmp_path / "small.yaml").write_text(CLUSTER)
    for name, text in PROGRAMS.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def launch(place: Path, program: str) -> Launched:
    return Launched(place, "small.yaml", "--", sys.executable, program)


def wait_until_ready(run: Launched) -> None:
    logs = [run.run_dir.logs / f"worker-{i}.log" for i in range(2)]
    wait_until(
        lambda: all(log.exists() and "ready" in log.read_text() for log in logs),
        lambda: f"both workers to be ready:\n{run.output}",
    )
    run.wait_for_phase(RunPhase.RUNNING)


def test_a_run_that_succeeds(place: Path) -> None:
    with launch(place, "quick.py") as run:
        assert run.wait() == 0
        summary = run.summary
        assert (summary["state"], summary["exit_code"], summary["restarts"]) == ("succeeded", 0, 0)
        assert {name: task["exit"] for name, task in summary["tasks"].items()} == {
            "worker-0": 0,
            "worker-1": 0,
        }
        lines = run.output.splitlines()
        assert "worker-1 | cluster {'type': 'worker', 'index': 1}" in lines
        assert any(line.startswith("small: done in") for line in lines)
        assert (run.run_dir.logs / "worker-0.log").read_text() == "cluster {'type': 'worker', 'index': 0}\n"
        assert run.run_dir.path.stat().st_mode & 0o777 == 0o700


def test_a_program_that_cannot_be_loaded_fails_at_once_with_the_verdict_last(place: Path) -> None:
    with launch(place, "wrong_import.py") as run:
        assert run.wait() == 1
        assert run.restarts() == []
        verdict = run.output.split("small: failed after", 1)[1]
        assert "ModuleNotFoundError: No module named 'no_such_module_anywhere'" in verdict
        assert verdict.count("Traceback") == 1
        assert "cannot be loaded" in verdict
        assert run.summary["state"] == "failed"


def test_a_lost_worker_restarts_the_attempt(place: Path) -> None:
    with launch(place, "dies_once.py") as run:
        assert run.wait() == 0
        assert run.restarts() == ["attempt"]
        assert (run.run_dir.logs / "worker-0.log").read_text().splitlines()[-1] == "attempt 1"
        assert {task["starts"] for task in run.summary["tasks"].values()} == {2}


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)]
)
def test_a_signal_becomes_a_request_and_an_exit_code(place: Path, number: int, code: int) -> None:
    with launch(place, "obeys.py") as run:
        wait_until_ready(run)
        run.signal(number)
        assert run.wait() == code
        assert run.output.count("checkpoint written") == 2
        assert "waiting up to 120 s" in run.output
        assert run.summary["state"] == "stopped"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_after_a_request_kills(place: Path, number: int, code: int) -> None:
    with launch(place, "deaf.py") as run:
        wait_until_ready(run)
        run.signal(number)
        run.wait_for_phase(RunPhase.STOPPING)
        run.signal(signal.SIGINT)
        assert run.wait() == code
        assert {task["exit"] for task in run.summary["tasks"].values()} == {137}


def test_a_hangup_that_was_ignored_stays_ignored(place: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        run = launch(place, "obeys.py")
    finally:
        signal.signal(signal.SIGHUP, before)
    with run:
        wait_until_ready(run)
        run.signal(signal.SIGHUP)
        run.signal(signal.SIGTERM)
        assert run.wait() == 143
        assert "SIGTERM" in run.summary["why"]


def test_another_terminal_sees_and_stops_a_run(place: Path) -> None:
    with launch(place, "obeys.py") as run:
        wait_until_ready(run)
        shown = orchestrator("status", "run", cwd=place)
        assert shown.returncode == 0, shown.stderr
        assert shown.stdout.startswith("small: running for")
        assert "worker-1  running" in shown.stdout
        value = json.loads(orchestrator("status", "run", "--json", cwd=place).stdout)
        assert (value["state"], value["launcher_alive"], value["pid"]) == ("running", True, run.process.pid)
        follower = subprocess.Popen(
            [sys.executable, "-m", "orchestrator.cli.main", "logs", "run", "worker-0", "-f"],
            cwd=place,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            stopped = orchestrator("stop", "run", cwd=place)
            assert stopped.returncode == 0, stopped.stderr
            assert "waiting up to 2:30 min for its launcher to end" in stopped.stdout
            assert stopped.stdout.endswith("small: stopped\n")
            followed, _ = follower.communicate(timeout=240)
        finally:
            follower.kill()
            follower.wait()
        assert followed == "ready\ncheckpoint written\n"
        assert run.wait() == 143
        shown = orchestrator("status", "run", cwd=place)
        assert shown.stdout.startswith("small: stopped after")
        assert "nothing of it is running" in orchestrator("stop", "run", cwd=place).stdout
        merged = orchestrator("logs", "run", cwd=place).stdout.splitlines()
        assert merged == [f"worker-{i} | {text}" for i in (0, 1) for text in ("ready", "checkpoint written")]


def test_an_unknown_log_and_an_unknown_run_are_refused(place: Path) -> None:
    with launch(place, "quick.py") as run:
        run.wait()
    shown = orchestrator("logs", "run", "worker-2", cwd=place)
    assert shown.returncode == 2
    assert "has no log 'worker-2'. Did you mean 'worker-" in shown.stderr
    for command in ("status", "logs", "stop"):
        shown = orchestrator(command, "nothing", cwd=place)
        assert shown.returncode == 2
        assert "there is no run 'nothing'" in shown.stderr


def test_a_killed_launcher_takes_everything_with_it(place: Path) -> None:
    with launch(place, "family.py") as run:
        wait_until_ready(run)
        run.signal(signal.SIGKILL)
        run.process.wait(240)
        run.wait_until_nothing_is_left()
        shown = orchestrator("status", "run", cwd=place)
        assert shown.stdout.startswith("small: crashed")
        assert "worker-0  lost" in shown.stdout
        assert "ready" in orchestrator("logs", "run", "worker-0", "-f", cwd=place).stdout
        assert "nothing of it is running" in orchestrator("stop", "run", cwd=place).stdout


def test_stop_ends_what_a_crashed_launcher_left_and_nothing_that_is_not_in_its_record(place: Path) -> None:
    with launch(place, "quick.py") as run:
        run.wait()
    value = json.loads(run.run_dir.launcher.read_text())
    write_json_atomically(run.run_dir.launcher, {**value, "state": "running"})
    family = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'input()']).wait()"
    plain = subprocess.Popen([sys.executable, "-c", family], stdin=subprocess.PIPE)
    env = {**os.environ, ENV_RUN_DIR: str(run.run_dir.path)}
    marked = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, env=env)
    try:
        wait_until(lambda: bool(processes_of_run(run.run_dir.path)), lambda: "its environment to show")
        wait_until(lambda: bool(descendants(plain.pid)), lambda: "its child")
        record(run.run_dir.processes, "worker-0", plain.pid)
        shown = orchestrator("stop", "run", cwd=place)
        assert shown.returncode == 3
        assert "killed 2 processes" in shown.stderr
        assert f"kill -9 {marked.pid}" in shown.stderr
        assert plain.wait(240) == -signal.SIGKILL
        assert marked.poll() is None
    finally:
        marked.communicate(b"\n", timeout=240)
    assert "nothing of it is running" in orchestrator("stop", "run", cwd=place).stdout


def test_stop_never_signals_a_process_that_only_has_the_same_id(place: Path) -> None:
    run_dir = RunDir(place / "run")
    with launch(place, "quick.py") as run:
        run.wait()
    value = json.loads(run_dir.launcher.read_text())
    stranger = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        identity = ProcessIdentity.of(stranger.pid)
        assert identity is not None
        forged = {**value, "state": "running", **identity.as_json(), "start_ticks": identity.start_ticks - 1}
        write_json_atomically(run_dir.launcher, forged)
        line = {"label": "worker-0", **identity.as_json()}
        of_another = ({**line, "start_ticks": identity.start_ticks - 1}, {**line, "boot_id": "before"})
        run_dir.processes.write_text("".join(json.dumps(item) + "\n" for item in of_another))
        shown = orchestrator("stop", "run", cwd=place)
        assert shown.returncode == 0, shown.stderr
        assert "nothing of it is running" in shown.stdout
        assert stranger.poll() is None
        elsewhere = {**forged, **identity.as_json(), "host": "another-host"}
        write_json_atomically(run_dir.launcher, elsewhere)
        shown = orchestrator("stop", "run", cwd=place)
        assert shown.returncode == 3
        assert "runs on another-host; stop it there" in shown.stderr
        assert stranger.poll() is None
    finally:
        stranger.communicate(b"\n", timeout=240)


def test_a_run_directory_is_used_once(place: Path) -> None:
    with launch(place, "quick.py") as run:
        run.wait()
        again = orchestrator(
            "run",
            "small.yaml",
            "--run-dir",
            str(run.run_dir.path),
            "--",
            sys.executable,
            "quick.py",
            cwd=place,
        )
    assert again.returncode == 3
    assert "already holds a run" in again.stderr
    assert "Traceback" not in again.stderr


def test_two_runs_do_not_share_a_model_directory(place: Path) -> None:
    with Launched(place, "small.yaml", "--model-dir", "model", "--", sys.executable, "obeys.py") as first:
        first.wait_for_phase(RunPhase.RUNNING)
        second = orchestrator(
            "run", "small.yaml", "--model-dir", "model", "--run-dir", "two", "--", "true", cwd=place
        )
        assert second.returncode == 3
        assert f"in use by process {first.process.pid} on " in second.stderr
        assert not (place / "two").exists(), "a run that never began left a directory"
        first.signal(signal.SIGKILL)
        first.process.wait(240)
        first.wait_until_nothing_is_left()
        third = orchestrator(
            "run", "small.yaml", "--model-dir", "model", "--run-dir", "three", "--", "true", cwd=place
        )
        assert third.returncode == 0, third.stderr
        assert f"took over the model directory of process {first.process.pid}" in third.stdout


@pytest.mark.parametrize("option", ["--model-dir", "--run-dir"])
def test_a_file_in_place_of_a_directory_is_one_clear_error(place: Path, option: str) -> None:
    for directory in ("obeys.py", "obeys.py/model"):
        done = orchestrator("run", "small.yaml", option, directory, "--", "true", cwd=place)
        assert done.returncode == 2
        assert done.stderr.startswith(f"error: {option} ")
        assert "obeys.py is a file. Name a directory." in done.stderr
        assert done.stderr.count("\n") == 1


def test_an_injected_kill_is_a_real_one(place: Path) -> None:
    with Launched(place, "small.yaml", "--inject", "kill:worker-1", "--", sys.executable, "obeys.py") as run:
        run.wait_for("the second attempt", lambda state, _: state.attempt == 1)
        run.signal(signal.SIGTERM)
        assert run.wait() == 143
        assert "injected kill:worker-1" in run.output
        assert "worker-1 ended with SIGKILL" in run.output
        assert run.restarts() == ["attempt"]


def test_a_fault_for_no_task_is_one_clear_error(place: Path) -> None:
    done = orchestrator("run", "small.yaml", "--inject", "kill:worker-7", "--", "true", cwd=place)
    assert done.returncode == 2
    assert "the job has no task worker-7" in done.stderr
