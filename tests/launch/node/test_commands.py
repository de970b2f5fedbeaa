"""Tests for orchestrator.launch.node.commands, asked of a real agent."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.cluster.task import TaskId, TaskType
from orchestrator.launch.job import Job, StartMethod, StrategyKind
from orchestrator.launch.node.commands import with_package
from orchestrator.launch.node.job_wire import encode_job, encode_plan
from orchestrator.launch.ports import listened_ports
from tests.launch.node.host import Connection, Host
from tests.launch.node.jobs import PS, WORKER, plan, python, submit

DUMPING = """
import sys, time
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from orchestrator.cluster import records, stacks
import os
stacks.register(records.TaskEnvironment.read(), os.getpid())
def wait_for_ever():
    print("ready", flush=True)
    while True:
        time.sleep(0.1)
wait_for_ever()
"""


def hold(connection: Connection, request: int, tasks: dict[str, int | None]) -> None:
    connection.send({"do": "hold", "number": request, "request": request, "tasks": tasks})


def test_ports_are_held_over_starts_and_given_again(host: Host) -> None:
    connection, _ = host.welcomed()
    hold(connection, 1, {"worker-0": None, "ps-0": None})
    ports = connection.event("held", request=1)[0]["ports"]
    assert len(set(ports.values())) == 2
    hold(connection, 2, {"worker-0": None})
    assert connection.event("held", request=2)[0]["ports"] == {"worker-0": ports["worker-0"]}
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("", ports["ps-0"]))


def test_a_port_that_somebody_has_is_refused(host: Host) -> None:
    connection, _ = host.welcomed()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        hold(connection, 1, {"worker-0": port})
        refused, _ = connection.event("refused", request=1)
    assert refused["kind"] == "port"
    assert str(port) in refused["message"]


def test_a_start_on_a_port_that_was_taken_since_is_refused(host: Host) -> None:
    connection, _ = host.welcomed()
    hold(connection, 1, {"worker-0": None})
    port = connection.event("held")[0]["ports"]["worker-0"]
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        assert port in listened_ports()
        whole = plan(host, {WORKER: ["true"]})
        part = replace(whole.tasks[0], address=f"h1:{port}")
        connection.send(
            {"do": "submit", "number": 2, "request": 2, "plan": encode_plan(replace(whole, tasks=(part,)))}
        )
        assert connection.event("refused", request=2)[0]["kind"] == "port"
    hold(connection, 3, {"worker-0": None})
    assert connection.event("held", request=3)[0]["ports"]["worker-0"] != port


def test_a_task_that_still_runs_is_not_started_again(host: Host) -> None:
    connection, _ = host.welcomed()
    twice = plan(host, {WORKER: ["sleep", "1000"]})
    submit(connection, 1, twice)
    connection.send({"do": "submit", "number": 2, "request": 2, "plan": encode_plan(twice)})
    refused, _ = connection.event("refused", request=2)
    assert (refused["kind"], "still runs" in refused["message"]) == ("start", True)


def test_tasks_are_stopped_softly_and_hard(host: Host) -> None:
    connection, _ = host.welcomed()
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(1000)"
    submit(connection, 1, plan(host, {WORKER: python(deaf), PS: ["sleep", "1000"]}))
    connection.event("output", task="worker-0")
    names = ["worker-0", "ps-0"]
    connection.send({"do": "stop", "number": 2, "tasks": names, "kind": "request"})
    assert connection.event("exited")[0]["record"]["signal"] == signal.SIGTERM
    connection.send({"do": "stop", "number": 3, "tasks": names, "kind": "kill"})
    last, _ = connection.event("exited")
    assert (last["task"], last["record"]["code"], last["record"]["requested"]) == ("worker-0", 137, True)


def test_files_are_written_below_the_run_directory_alone(host: Host) -> None:
    connection, _ = host.welcomed()
    connection.send({"do": "directories", "number": 1, "tasks": ["chief-0", "worker-0"]})
    connection.send({"do": "file", "number": 2, "path": "tasks/chief-0/progress.json"}, b"{}")
    connection.send({"do": "file", "number": 3, "path": "experiment.json"}, b"first")
    connection.send({"do": "file", "number": 4, "path": "experiment.json"}, b"\0second")
    connection.send({"do": "file", "number": 5, "path": "tasks/chief-0/progress.json", "gone": True})
    connection.send({"do": "file", "number": 6, "request": 6, "path": "../../outside"}, b"x")
    assert connection.event("refused")[0]["request"] == 6
    assert (host.run_dir / "experiment.json").read_bytes() == b"\0second"
    assert sorted(path.name for path in (host.run_dir / "tasks").iterdir()) == ["chief-0", "worker-0"]
    assert not list((host.run_dir / "tasks" / "chief-0").iterdir())
    assert not (host.root / "outside").exists()


def test_what_cannot_be_understood_is_refused_and_nothing_breaks(host: Host) -> None:
    wrong: list[dict[str, object]] = [
        {"do": "dance"},
        {"do": "submit"},
        {"do": "submit", "plan": {"job": 3}},
        {"do": "hold", "tasks": {"nobody": 1}},
        {"do": "stop", "tasks": ["worker-0"], "kind": "gently"},
    ]
    connection, _ = host.welcomed()
    for number, header in enumerate(wrong, start=1):
        connection.send({**header, "number": number, "request": number})
        assert connection.event("refused", request=number)[0]["kind"] == "error"
    submit(connection, 9, plan(host, {WORKER: ["true"]}))
    connection.event("exited")


def test_stacks_come_back_as_records(host: Host) -> None:
    connection, welcome = host.welcomed()
    command = python(DUMPING, welcome["package_root"])
    submit(connection, 1, plan(host, {WORKER: command, PS: ["sleep", "1000"]}))
    pid = connection.event("started", task="worker-0")[0]["pid"]
    connection.event("output", task="worker-0")
    connection.send({"do": "dump_stacks", "number": 2, "request": 2, "tasks": ["worker-0", "ps-0"]})
    answer, _ = connection.event("stacks", request=2)
    assert answer["files"] == {"worker-0": [f"stacks-{pid}.txt", 0]}
    header, data = connection.event("record", name=f"stacks-{pid}.txt")
    while b"wait_for_ever" not in data:
        header, data = connection.event("record", name=f"stacks-{pid}.txt")
    assert header["task"] == "worker-0"


def preparing(host: Host, command: Sequence[str]) -> Job:
    return Job(
        name="job",
        tasks={},
        command=("true",),
        strategy=StrategyKind.UNKNOWN,
        run_dir=host.run_dir,
        working_dir=host.home,
        model_dir="/model",
        env={"PYTHONPATH": "/mine"},
        start_method=StartMethod.EXEC,
        prepare_command=tuple(command),
    )


def test_the_prepare_command_runs_there(host: Host) -> None:
    connection, welcome = host.welcomed()
    show = "import os, sys; print(os.environ['PYTHONPATH']); print('é'); sys.exit(5)"
    job = encode_job(preparing(host, python(show)))
    connection.send({"do": "prepare", "number": 1, "request": 1, "job": job})
    connection.event("accepted", request=1)
    ended, _ = connection.event("prep_exited")
    assert ended["record"]["code"] == 5
    output = b"".join(data for header, data in connection.frames if header.get("event") == "prep_output")
    assert output.decode() == f"/mine{os.pathsep}{welcome['package_root']}\né\n"


def test_what_cannot_be_imported_is_told_as_a_start_that_failed(host: Host) -> None:
    (host.home / "bare").mkdir()
    connection, _ = host.welcomed()
    whole = plan(host, {WORKER: [sys.executable, "-m", "anything"]})
    part = replace(whole.tasks[0], start_method=StartMethod.FORK)
    hidden = {"PYTHONPATH": str(host.home / "bare")}
    (host.home / "bare" / "tensorflow.py").write_text("raise ImportError('none here')\n")
    forked = replace(whole, tasks=(part,), job=replace(whole.job, env=hidden))
    connection.send({"do": "submit", "number": 1, "request": 1, "plan": encode_plan(forked)})
    failed, _ = connection.event("start_failed")
    assert "none here" in failed["message"]
    submit(connection, 2, plan(host, {WORKER: ["true"]}))
    connection.event("exited")


def test_what_tasks_are_forked_from_can_be_started_before_them(host: Host) -> None:
    (host.home / "light").mkdir()
    (host.home / "light" / "tensorflow.py").write_text("")
    connection, _ = host.welcomed()
    whole = plan(host, {WORKER: [sys.executable, "-m", "worker"]})
    job = replace(whole.job, env={"PYTHONPATH": str(host.home / "light")})
    connection.send({"do": "warm", "number": 1, "job": encode_job(job)})
    connection.until(lambda header: "imported tensorflow" in header.get("text", ""))
    (host.home / "worker.py").write_text("import sys; print('tensorflow' in sys.modules)")
    part = replace(whole.tasks[0], start_method=StartMethod.FORK)
    submit(connection, 2, replace(whole, job=job, tasks=(part,)))
    assert connection.event("started")[0]["method"] == "fork"
    assert connection.event("output")[1] == b"True\n"
    imports = [h for h, _ in connection.frames if "importing" in h.get("text", "")]
    assert len(imports) == 1


def test_a_tasks_use_of_the_machine_is_told(host: Host) -> None:
    connection, _ = host.welcomed()
    submit(connection, 1, plan(host, {WORKER: ["sleep", "1000"]}))
    _, lines = connection.event("sample")
    sample = json.loads(lines.splitlines()[0])
    assert (sample["task"], sample["memory_bytes"] > 0) == ("worker-0", True)
    peaks = connection.event("usage")[0]["peaks"]
    assert peaks["worker-0"]["memory_bytes"] > 0


def test_the_package_is_added_behind_what_the_user_has_set(tmp_path: Path) -> None:
    task = TaskId(TaskType.WORKER, 0)
    before = plan(Host(tmp_path), {task: ["true"]}, {"PYTHONPATH": "/mine"})
    after = with_package(before, Path("/package"))
    assert after.task(task).env["PYTHONPATH"] == f"/mine{os.pathsep}/package"
    assert "PYTHONPATH" not in after.job.env  # what is inherited has it already
