"""What carries the connections of tasks out of a private network, and lets nobody in."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from orchestrator.launch import outbound_relay, private_network
from orchestrator.launch.job import Job
from orchestrator.launch.local import LocalLauncher
from orchestrator.launch.outbound_relay import PASTA, SLIRP4NETNS, Relay
from orchestrator.launch.process_tree import descendants
from tests.launch.local_runs import (
    CHIEF,
    LIMIT,
    Watch,
    alive,
    environment,
    launcher,
    local_job,
    python,
    wait_until,
    write_program,
)

REFUSED = private_network.why_refused()
needs_network = pytest.mark.skipif(REFUSED is not None, reason=f"no private network here: {REFUSED}")
NO_TUN = None if os.access("/dev/net/tun", os.R_OK | os.W_OK) else "/dev/net/tun cannot be opened"
TRIES = 20
"""A tenth of a second apart: pasta looks once a second for ports to forward, where it is allowed to."""


def real(relay: Relay) -> Any:
    """A parameter that is left out, with the reason, where this machine does not have the program."""
    reason = NO_TUN or (None if shutil.which(relay.program) else f"{relay.program} is not installed")
    return pytest.param(
        relay, id=relay.program, marks=pytest.mark.skipif(reason is not None, reason=reason or "")
    )


REAL = [real(PASTA), real(SLIRP4NETNS)]


def isolated_job(place: Path, command: Sequence[str]) -> Job:
    return dataclasses.replace(local_job(place, command), isolated=True)


@contextmanager
def with_relays(job: Job, place: Path, *relays: Relay, **broken: str) -> Iterator[LocalLauncher]:
    """A launcher on whose PATH are these relays alone, and programs of the texts given."""
    place = place / "bin"
    place.mkdir()
    for relay in relays:
        program = shutil.which(relay.program)
        assert program is not None
        (place / relay.program).symlink_to(program)
    for name, text in broken.items():
        (place / name).write_text(text)
        (place / name).chmod(0o700)
    with launcher(job, environ=environment(PATH=str(place))) as made:
        yield made


def own_address() -> str:
    """An address of this machine that others would use; no packet is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        try:
            asked.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no way to the outside")
        found = str(asked.getsockname()[0])
    if found.startswith("127."):
        pytest.skip("this machine has no address but localhost")
    if found.startswith("10.0.2."):
        pytest.skip(f"{found} is an address of the network within, too")
    return found


def relay_of(made: LocalLauncher, relay: Relay) -> int:
    """The process of a relay that runs."""
    assert made.parent_pid is not None
    below = [entry.pid for entry in descendants(made.parent_pid)]
    (found,) = [pid for pid in below if words_of(pid)[:1] == [relay.program]]
    return found


def words_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")


def told(watch: Watch) -> list[str]:
    """What was said about connections."""
    return [note for note in watch.notes() if "outbound" in note]


OUTWARD = """
    import socket, sys
    address, outside, inside, local = sys.argv[1], *map(int, sys.argv[2:])
    server = socket.create_server(("", inside), reuse_port=True)
    for name in ("127.0.0.1", "10.0.2.2"):
        try:
            socket.create_connection((name, local), 5).close()
            print("reached", name, flush=True)
        except OSError:
            print("refused", name, flush=True)
    peer = socket.create_connection((address, outside), 240)
    peer.send(b"hello")
    peer.recv(1)
"""


@needs_network
@pytest.mark.parametrize("relay", REAL)
def test_tasks_reach_the_outside_and_nobody_reaches_them(tmp_path: Path, relay: Relay) -> None:
    address = own_address()
    with (
        socket.create_server(("0.0.0.0", 0)) as outside,
        socket.create_server(("127.0.0.1", 0)) as local,
        socket.socket() as unused,
    ):
        unused.bind(("", 0))
        inside = unused.getsockname()[1]
        ports = [server.getsockname()[1] for server in (outside, local)]
        outside.settimeout(LIMIT)
        program = write_program(tmp_path, OUTWARD)
        job = isolated_job(tmp_path, python(program, address, str(ports[0]), str(inside), str(ports[1])))
        unused.close()
        with with_relays(job, tmp_path, relay) as made:
            watch = Watch(made)
            made.submit(made.plan(job, 0))
            watch.until_output(CHIEF, " 10.0.2.2")
            watch.until(lambda: bool(watch.starts(CHIEF)), "its start")
            heard, _ = outside.accept()
            with heard:
                heard.settimeout(LIMIT)
                assert heard.recv(5) == b"hello"
                for _ in range(TRIES):
                    watch.events += made.poll(0.1)
                    assert [connects(name, inside) for name in ("127.0.0.1", address)] == [False, False]
                heard.send(b"x")
            watch.until_exited([CHIEF])
        assert watch.exits(CHIEF)[0].code == 0, watch.output(CHIEF)
        assert "reached" not in watch.output(CHIEF)
        assert told(watch) == []


def connects(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=LIMIT).close()
    except ConnectionRefusedError:
        return False
    return True


@contextmanager
def task_beside(relay: Relay, tmp_path: Path) -> Iterator[tuple[LocalLauncher, Watch]]:
    """A task that runs until it is ended, in a private network with the relay."""
    own_address()
    job = isolated_job(tmp_path, python("-c", "import time; print('runs'); time.sleep(1000)"))
    with with_relays(job, tmp_path, relay) as made:
        watch = Watch(made)
        made.submit(made.plan(job, 0))
        watch.until_output(CHIEF, "runs")
        yield made, watch


@needs_network
@pytest.mark.parametrize("relay", REAL)
def test_it_ends_with_the_parent_of_the_tasks_however_that_ends(tmp_path: Path, relay: Relay) -> None:
    with task_beside(relay, tmp_path) as (made, _):
        pid = relay_of(made, relay)
        assert made.parent_pid is not None
        os.kill(made.parent_pid, signal.SIGKILL)
        wait_until(lambda: not alive(pid), f"end of {relay.program}")


@needs_network
@pytest.mark.parametrize("relay", REAL)
def test_when_it_ends_too_early_that_is_said(tmp_path: Path, relay: Relay) -> None:
    with task_beside(relay, tmp_path) as (made, watch):
        os.kill(relay_of(made, relay), signal.SIGKILL)
        said = f"no outbound connections from the private network: {relay.program} has ended"
        watch.until(lambda: said in watch.notes(), said)
        assert watch.exits(CHIEF) == []


BROKEN = "#!/bin/sh\necho 'first line' >&2\necho 'No routable interface' >&2\nexit 1\n"


@needs_network
@pytest.mark.skipif(NO_TUN is not None, reason=NO_TUN or "")
def test_one_that_does_not_work_is_named_with_its_reason(tmp_path: Path) -> None:
    job = isolated_job(tmp_path, python("-c", "print('runs')"))
    with with_relays(job, tmp_path, pasta=BROKEN) as made:
        watch = Watch(made)
        made.submit(made.plan(job, 0))
        watch.until_exited([CHIEF])
    reason = "pasta ended at once (No routable interface)"
    assert told(watch) == [f"no outbound connections from the private network: {reason}"]
    assert watch.exits(CHIEF)[0].code == 0


@needs_network
@pytest.mark.parametrize("relay", [real(SLIRP4NETNS)])
def test_the_next_one_is_tried_where_the_first_does_not_work(tmp_path: Path, relay: Relay) -> None:
    address = own_address()
    with socket.create_server(("0.0.0.0", 0)) as outside:
        outside.settimeout(LIMIT)
        text = f"import socket; socket.create_connection(({address!r}, {outside.getsockname()[1]}), 240)"
        job = isolated_job(tmp_path, python(write_program(tmp_path, text)))
        with with_relays(job, tmp_path, relay, pasta=BROKEN) as made:
            watch = Watch(made)
            made.submit(made.plan(job, 0))
            watch.until_exited([CHIEF])
        outside.accept()[0].close()
    assert watch.exits(CHIEF)[0].code == 0, watch.output(CHIEF)
    reason = "pasta ended at once (No routable interface)"
    assert told(watch) == [f"outbound connections go through slirp4netns: {reason}"]


def test_without_any_there_is_no_way_out_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    job = isolated_job(tmp_path, python("-c", ""))
    with launcher(job) as made:
        (note,) = [note for note in made.plan(job, 0).notes if "network" in note]
    assert note.endswith("to the outside: none: neither pasta nor slirp4netns is installed")


def test_the_first_that_is_installed_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"pasta", "slirp4netns"}
    monkeypatch.setattr(shutil, "which", lambda name: name if name in there else None)
    monkeypatch.setattr(os, "access", lambda *_: True)
    assert outbound_relay.describe() == "through pasta"
    there.remove("pasta")
    assert outbound_relay.describe() == "through slirp4netns"
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert outbound_relay.describe() == "none: /dev/net/tun cannot be opened"


@pytest.mark.parametrize("root", [True, False])
def test_pasta_is_told_to_forward_nothing(root: bool) -> None:
    words = PASTA.command(4711, root=root)
    for option in ("--tcp-ports", "--udp-ports", "--tcp-ns", "--udp-ns"):
        assert words[words.index(option) + 1] == "none", "it is `auto` by default"
    assert "--no-map-gw" in words
    assert "--foreground" in words, "it would leave its parent"
    assert words[-1] == "4711"
    assert ("--runas" in words) is root


def test_slirp4netns_keeps_localhost_out_of_reach() -> None:
    words = SLIRP4NETNS.command(4711, root=True)
    assert words[0] == "slirp4netns"
    assert "--disable-host-loopback" in words
    assert words[-2:] == ["4711", "tap0"]
