"""Tests for orchestrator.launch.node.agent: a real one, its connections cut and its processes killed."""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from orchestrator.launch.process_tree import kill, processes_of_run, read_entry
from tests.launch.node.host import Connection, Ended, Frame, Host, alive, wait_until
from tests.launch.node.jobs import LINES, PS, STUBBORN, WORKER, output_of, pids_told, plan, python, submit

HOSTILE = "a b,'c' \"$HOME\" `id`; #\n\t\\ é *"
SHOW = (
    "import json, os, sys; print(json.dumps([sys.argv[1:], os.environ['HOSTILE'], os.environ['PYTHONPATH']]))"
)


def newest(connection: Connection) -> int:
    return max((header.get("sequence", 0) for header, _ in connection.frames), default=0)


def until_output(connection: Connection, task: object, text: str) -> None:
    """Waits until a task has written `text`, also where that came before."""
    if not any(h.get("event") == "output" and text.encode() in data for h, data in connection.frames):
        while text.encode() not in connection.event("output", task=str(task))[1]:
            pass


def test_arguments_and_environment_arrive_exact_and_are_seen_by_nobody_else(host: Host) -> None:
    connection, welcome = host.welcomed()
    submit(
        connection,
        1,
        plan(host, {WORKER: python(SHOW, HOSTILE, "")}, {"HOSTILE": HOSTILE, "PYTHONPATH": "/x"}),
    )
    header, _ = connection.event("exited")
    assert header["record"]["code"] == 0
    shown = json.loads(output_of(connection.frames, WORKER))
    assert shown == [[HOSTILE, ""], HOSTILE, f"/x{os.pathsep}{welcome['package_root']}"]
    for pid in (welcome["pid"], connection.process.pid):
        line = Path(f"/proc/{pid}/cmdline").read_bytes()
        assert HOSTILE.encode() not in line
        assert host.run_id.encode() not in line


def test_everything_lies_in_directories_of_the_owner_alone(bare_host: Host) -> None:
    host = bare_host
    connection, _ = host.welcomed()
    submit(connection, 1, plan(host, {WORKER: ["true"]}))
    connection.event("exited")
    assert [path.name for path in host.home.iterdir()] == [".cache"]
    assert [path.name for path in (host.home / ".cache").iterdir()] == ["tf-orchestrator"]
    for path in (host.root, *host.root.iterdir(), host.run_dir, *host.run_dir.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            private = path.parent in (host.root.parent, host.root, host.run_dir.parent)
            assert not private or path.stat().st_mode & 0o777 == 0o700, path


def test_the_package_travels_once(bare_host: Host) -> None:
    first, _ = bare_host.welcomed()
    second, _ = bare_host.welcomed(run_id="another")
    asked = [[h["event"] for h, _ in c.frames].count("need_package") for c in (first, second)]
    assert asked == [1, 0]


def test_nothing_is_lost_or_doubled_when_connections_break(host: Host) -> None:
    stop = host.home / "stop"
    connection, welcome = host.welcomed()
    submit(connection, 1, plan(host, {WORKER: python(LINES, stop)}))
    until_output(connection, WORKER, "line 3\n")
    frames: list[Frame] = []
    for cut in range(3):
        again = {
            "do": "signal",
            "number": 2,
            "request": 2,
            "tasks": [str(WORKER)],
            "signal": int(signal.SIGUSR1),
        }
        connection.send(again)  # the same command each time, as one who does not know whether it has arrived
        if cut == 0:
            until_output(connection, WORKER, "signalled")
        connection.event("output")
        connection.send({"do": "acknowledge", "sequence": newest(connection)})
        frames += connection.frames
        acknowledged = newest(connection)
        connection.drop()
        connection, resumed = host.welcomed(acknowledged=acknowledged, instance=welcome["instance"])
        assert (resumed["pid"], resumed["received"]) == (welcome["pid"], 2)
    stop.touch()
    header, _ = connection.event("exited")
    assert header["record"]["code"] == 0
    lines = output_of([*frames, *connection.frames], WORKER).splitlines()
    assert lines.count("signalled") == 1
    lines.remove("signalled")
    assert lines == [*(f"line {number}" for number in range(len(lines) - 1)), f"lines {len(lines) - 1}"]


def test_events_that_were_not_acknowledged_come_again_in_order(host: Host) -> None:
    connection, welcome = host.welcomed()
    submit(connection, 1, plan(host, {WORKER: ["sh", "-c", "echo one; exit 3"]}))
    connection.event("exited")
    before = [frame for frame in connection.frames if "sequence" in frame[0]]
    connection.drop()
    connection, _ = host.welcomed(acknowledged=1, instance=welcome["instance"])
    connection.event("exited")
    after = [frame for frame in connection.frames if "sequence" in frame[0]]
    assert after[: len(before) - 1] == before[1:]


def test_records_come_before_the_end_of_their_task(host: Host) -> None:
    connection, _ = host.welcomed()
    write = 'printf \'{"phase": "done"}\' > "$ORCHESTRATOR_RUN_DIR/tasks/worker-0/progress.json"'
    submit(connection, 1, plan(host, {WORKER: ["sh", "-c", write]}))
    connection.event("exited")
    events = [(h["event"], h.get("name"), data) for h, data in connection.frames if "sequence" in h]
    assert ("record", "progress.json", b'{"phase": "done"}') in events
    assert {name for event, name, _ in events if event == "record"} == {"progress.json", "exit.json"}
    assert events[-1][0] == "exited"


def test_a_newer_connection_takes_the_place_of_one_that_is_stuck(host: Host) -> None:
    first, welcome = host.welcomed()
    relay = next(e for e in [read_entry(first.process.pid)] if e is not None)
    os.kill(relay.pid, signal.SIGSTOP)
    second, again = host.welcomed(instance=welcome["instance"])
    assert again["pid"] == welcome["pid"]
    submit(second, 1, plan(host, {WORKER: ["true"]}))
    second.event("exited")
    os.kill(relay.pid, signal.SIGCONT)
    with pytest.raises(Ended):
        first.event("never")


def test_a_lease_that_is_over_ends_even_the_deaf_with_all_their_children(host: Host) -> None:
    connection, welcome = host.welcomed()
    obedient = ["sh", "-c", "echo up; exec sleep 100000"]
    submit(connection, 1, plan(host, {WORKER: python(STUBBORN), PS: obedient}))
    until_output(connection, WORKER, "up")
    until_output(connection, PS, "up")
    pids = pids_told(output_of(connection.frames, WORKER))
    assert len(pids) == 4
    told = newest(connection)
    connection.drop()
    connection, _ = host.welcomed(
        lease_seconds=0.5, grace_seconds=0.5, acknowledged=told, instance=welcome["instance"]
    )
    connection.drop()
    wait_until(lambda: not any(map(alive, (*pids, welcome["pid"]))), "the tasks and the agent are gone")
    assert not processes_of_run(host.run_dir)
    assert (host.run_dir / "tasks" / "worker-0" / "exit.json").exists()
    # The launcher comes back in the end, and is told everything that it has missed.
    connection, late = host.welcomed(acknowledged=told, instance=welcome["instance"])
    assert late["ending"]
    exits = {h["task"]: h["record"] for h, _ in (connection.event("exited"), connection.event("exited"))}
    assert (exits["worker-0"]["signal"], exits["worker-0"]["requested"]) == (signal.SIGKILL, True)
    assert exits["ps-0"]["signal"] == signal.SIGTERM
    assert any("nothing was heard" in h["text"] for h, _ in connection.frames if h.get("event") == "note")
    connection.send({"do": "submit", "number": 2, "request": 2, "plan": {}})
    assert connection.event("refused", request=2)[0]["kind"] == "start"
    connection.send({"do": "close", "number": 3})
    connection.event("closed")
    wait_until(lambda: not host.run_dir.exists(), "the run directory is removed")


def test_heartbeats_that_lay_in_a_buffer_do_not_keep_the_lease(host: Host) -> None:
    connection, welcome = host.welcomed(lease_seconds=1.0, grace_seconds=0.0)
    beat = {"do": "heartbeat", "echo": welcome["clock"]}
    with suppress(Ended):
        while not any("nothing was heard" in header.get("text", "") for header, _ in connection.frames):
            connection.send(beat)
            connection.receive(0.1)
    assert any("nothing was heard" in header.get("text", "") for header, _ in connection.frames)


def test_a_host_whose_lease_was_over_can_be_used_anew(host: Host) -> None:
    connection, welcome = host.welcomed(lease_seconds=0.5)
    connection.drop()
    wait_until(lambda: not alive(welcome["pid"]), "the agent is gone")
    assert (host.run_dir / "unsent").exists()
    connection, anew = host.welcomed()
    assert (anew["ending"], anew["received"]) == (False, 0)
    assert anew["instance"] != welcome["instance"]
    submit(connection, 1, plan(host, {WORKER: ["true"]}))
    assert connection.event("exited")[0]["record"]["code"] == 0
    assert not any("nothing was heard" in header.get("text", "") for header, _ in connection.frames)


def test_tasks_end_with_an_agent_that_is_killed_and_a_new_one_knows_nothing_of_them(host: Host) -> None:
    connection, welcome = host.welcomed()
    submit(connection, 1, plan(host, {WORKER: python(STUBBORN)}))
    until_output(connection, WORKER, "up")
    pids = pids_told(output_of(connection.frames, WORKER))
    os.kill(welcome["pid"], signal.SIGKILL)
    wait_until(lambda: not any(map(alive, pids)), "the tasks are gone")
    with pytest.raises(Ended):
        connection.event("never")
    other = host.connect(instance=welcome["instance"], acknowledged=1)
    failed, _ = other.event("failed")
    assert failed["kind"] == "lost"
    assert not processes_of_run(host.run_dir)
    fresh, anew = host.welcomed()
    assert (anew["received"], anew["ending"]) == (0, False)
    assert anew["instance"] != welcome["instance"]
    submit(fresh, 1, plan(host, {WORKER: ["true"]}))
    fresh.event("exited")


def test_a_whole_session_that_is_killed_leaves_nothing(host: Host) -> None:
    """As by a system that ends all processes of a user who has logged out."""
    connection, welcome = host.welcomed()
    submit(connection, 1, plan(host, {WORKER: python(STUBBORN)}))
    until_output(connection, WORKER, "up")
    parent = next(
        e.parent for e in processes_of_run(host.run_dir) if e.pid in pids_told(all_output(connection))
    )
    found = [read_entry(pid) for pid in (connection.process.pid, welcome["pid"], parent)]
    for entry in [*filter(None, found), *processes_of_run(host.run_dir)]:
        kill(entry)
    wait_until(lambda: not processes_of_run(host.run_dir), "nothing is left")
    failed, _ = host.connect(instance=welcome["instance"]).event("failed")
    assert failed["kind"] == "lost"


def all_output(connection: Connection) -> str:
    return output_of(connection.frames, WORKER)


def test_an_agent_that_is_asked_to_end_stops_its_tasks_first(host: Host) -> None:
    connection, welcome = host.welcomed(grace_seconds=600.0)
    program = "trap 'echo saved; exit 143' TERM; echo up; while :; do sleep 0.05; done"
    submit(connection, 1, plan(host, {WORKER: ["sh", "-c", program]}))
    until_output(connection, WORKER, "up")
    os.kill(welcome["pid"], signal.SIGTERM)
    header, _ = connection.event("exited")
    assert (header["record"]["code"], header["record"]["requested"]) == (143, True)
    assert "saved\n" in all_output(connection)
    with pytest.raises(Ended):
        connection.event("never")
    wait_until(lambda: not alive(welcome["pid"]), "the agent is gone")


def test_close_ends_everything_and_removes_the_run(host: Host) -> None:
    connection, welcome = host.welcomed()
    submit(connection, 1, plan(host, {WORKER: python(STUBBORN)}))
    until_output(connection, WORKER, "up")
    pids = pids_told(all_output(connection))
    connection.send({"do": "close", "number": 2})
    connection.event("closed")
    with pytest.raises(Ended):
        connection.event("never")
    wait_until(lambda: not any(map(alive, (*pids, welcome["pid"]))), "everything has ended")
    assert not host.run_dir.exists()
    assert (host.root / "packages").is_dir()


def test_heartbeats_are_answered_while_a_stuck_parent_is_ended(host: Host) -> None:
    connection, _ = host.welcomed()
    submit(connection, 1, plan(host, {WORKER: python(STUBBORN)}))
    until_output(connection, WORKER, "up")
    (pid,) = [header["pid"] for header, _ in connection.frames if header.get("event") == "started"]
    task = read_entry(pid)
    assert task is not None
    os.kill(task.parent, signal.SIGSTOP)
    connection.send({"do": "close", "number": 2})
    first, _ = connection.event("alive", received=2)
    connection.until(lambda h: h.get("event") == "alive" and h["clock"] > first["clock"] + 1)
    os.kill(task.parent, signal.SIGCONT)
    connection.event("closed")
    wait_until(lambda: not host.run_dir.exists(), "the run directory is removed")


def test_tasks_inherit_nothing_of_the_connection(host: Host) -> None:
    connection, _ = host.welcomed()
    show = "import os; print(sorted(os.listdir('/proc/self/fd')), os.getppid() != 1, os.read(0, 1))"
    submit(connection, 1, plan(host, {WORKER: [sys.executable, "-c", show]}))
    connection.event("exited")
    descriptors, sane, read = all_output(connection).rsplit(maxsplit=2)
    assert (sane, read) == ("True", "b''")
    assert len(json.loads(descriptors.replace("'", '"'))) == 5  # three, the control pipe, the listing itself
