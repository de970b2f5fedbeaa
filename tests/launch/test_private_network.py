"""Tasks in a private network: they reach each other, and nobody else reaches them."""

from __future__ import annotations

import dataclasses
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.errors import StartError
from orchestrator.launch import private_network
from orchestrator.launch.job import Job
from orchestrator.launch.local import LocalLauncher
from orchestrator.launch.ports import FIRST_PRIVATE, PrivatePorts
from tests.launch.local_runs import CHIEF, LIMIT, WORKER, Watch, launcher, local_job, python, write_program

REFUSED = private_network.why_refused()
needs_network = pytest.mark.skipif(REFUSED is not None, reason=f"no private network here: {REFUSED}")

PROGRAM = """
    import json, os, socket, sys, time
    config = json.loads(os.environ["TF_CONFIG"])
    own = config["cluster"][config["task"]["type"]][config["task"]["index"]]
    server = socket.create_server(("", int(own.rsplit(":", 1)[1])), reuse_port=True)
    print("listens", flush=True)
    if config["task"]["type"] == "worker":
        host, port = config["cluster"]["chief"][0].rsplit(":", 1)
        end = time.monotonic() + 240
        while True:
            try:
                peer = socket.create_connection((host, int(port)), timeout=240)
                break
            except ConnectionRefusedError:
                assert time.monotonic() < end
                time.sleep(0.02)
        peer.recv(1)
    else:
        peer, _ = server.accept()
        print("met", flush=True)
        while not os.path.exists("may-end"):
            time.sleep(0.02)
        peer.send(b"x")
"""


def cluster(folder: Path, *, isolated: bool, method: str = "fork") -> Job:
    program = write_program(folder, PROGRAM)
    job = local_job(folder, python(program), options={"start_method": method}, chief=1, worker=1)
    return dataclasses.replace(job, isolated=isolated)


def stranger_connects(address: str) -> bool:
    """Whether this process, which belongs to no task, gets a connection."""
    host, port = address.rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), timeout=LIMIT).close()
    except ConnectionRefusedError:
        return False
    return True


@needs_network
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_stranger_cannot_connect_while_the_tasks_work(tmp_path: Path, method: str) -> None:
    job = cluster(tmp_path, isolated=True, method=method)
    with launcher(job) as made:
        plan = made.plan(job, 0)
        watch = Watch(made)
        made.submit(plan)
        for task in (CHIEF, WORKER):
            watch.until_output(task, "listens")
        watch.until_output(CHIEF, "met")
        addresses = [str(task.address) for task in plan.tasks]
        assert addresses == [f"127.0.0.1:{FIRST_PRIVATE}", f"127.0.0.1:{FIRST_PRIVATE + 1}"]
        assert [stranger_connects(address) for address in addresses] == [False, False]
        (tmp_path / "may-end").touch()
        watch.until_exited([CHIEF, WORKER])
    assert [watch.exits(task)[0].code for task in (CHIEF, WORKER)] == [0, 0]


def test_without_it_a_stranger_does_connect(tmp_path: Path) -> None:
    job = cluster(tmp_path, isolated=False)
    with launcher(job) as made:
        plan = made.plan(job, 0)
        watch = Watch(made)
        made.submit(plan)
        watch.until_output(WORKER, "listens")
        assert stranger_connects(str(plan.task(WORKER).address))
        (tmp_path / "may-end").touch()
        watch.until_exited([CHIEF, WORKER])


@needs_network
def test_an_attempt_after_the_parent_was_lost_has_a_network_again(tmp_path: Path) -> None:
    job = cluster(tmp_path, isolated=True)
    with launcher(job) as made:
        plan = made.plan(job, 0)
        watch = Watch(made)
        made.submit(plan)
        watch.until_output(CHIEF, "met")
        assert made.parent_pid is not None
        os.kill(made.parent_pid, 9)
        watch.until_exited([CHIEF, WORKER])
        (tmp_path / "may-end").touch()
        again = made.plan(job, 1)
        assert [task.address for task in again.tasks] == [task.address for task in plan.tasks]
        made.submit(again)
        watch.until_exited([CHIEF, WORKER], times=2)
    assert [watch.exits(task)[1].code for task in (CHIEF, WORKER)] == [0, 0]


def test_a_refusing_kernel_is_one_clear_error() -> None:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("a kernel that refuses is made by root, with unshare")
    # In a user namespace of its own, root may say that there are no further ones.
    limits = "for f in net user; do echo 0 > /proc/sys/user/max_${f}_namespaces || exit 77; done"
    probe = [sys.executable, "-I", "-S", str(private_network.__file__)]
    tried = subprocess.run(
        ["unshare", "-Ur", "sh", "-c", f'{limits}; exec "$@"', "sh", *probe],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    if tried.returncode == 77 or "unshare" in tried.stderr:
        pytest.skip(f"the limits cannot be set here: {tried.stderr.strip()}")
    assert tried.returncode == 1
    assert "the kernel refuses one (No space left on device)" in tried.stdout
    assert "user.max_user_namespaces" in tried.stdout


def test_a_launcher_without_the_network_starts_nothing(tmp_path: Path) -> None:
    wrapper = tmp_path / "python"  # the warm parent's interpreter, in which the kernel refuses
    wrapper.write_text(
        f"""#!{sys.executable}
import runpy, sys
from orchestrator.launch import private_network
def refuse(*_):
    raise PermissionError(1, "Operation not permitted")
private_network._call = refuse
sys.argv[:] = ["-c", *sys.argv[3:]]
from orchestrator.launch.warm_parent import main
sys.exit(main(sys.argv[2:], tuple(sys.path)))
"""
    )
    wrapper.chmod(0o700)
    job = cluster(tmp_path, isolated=True)
    with launcher(job, interpreter=str(wrapper)) as made:
        made.submit(made.plan(job, 0))
        with pytest.raises(StartError, match=r"security is isolated.*the kernel refuses one \(Operation not"):
            poll_for_ever(made)


def poll_for_ever(made: LocalLauncher) -> None:
    while True:
        made.poll(1.0)


def test_private_ports_keep_what_is_declared_and_share_none() -> None:
    ports = PrivatePorts()
    assert ports.hold(WORKER, FIRST_PRIVATE) == FIRST_PRIVATE
    assert ports.hold(CHIEF) == FIRST_PRIVATE + 1
    assert ports.hold(CHIEF) == FIRST_PRIVATE + 1
    assert ports.taken([CHIEF, WORKER]) == {}
    ports.give_up(WORKER)
    assert ports.hold(WORKER) == FIRST_PRIVATE
