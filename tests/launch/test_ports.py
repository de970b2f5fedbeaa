from __future__ import annotations

import errno
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Collection

import pytest

from orchestrator.cluster.task import TaskId, TaskType
from orchestrator.errors import PortError
from orchestrator.launch.ports import PortHolder, listened_ports

WORKERS = [TaskId(TaskType.WORKER, index) for index in range(200)]
FIRST, SECOND = WORKERS[:2]


@pytest.fixture
def holder() -> PortHolder:
    return PortHolder()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def test_a_task_keeps_its_port(holder: PortHolder) -> None:
    port = holder.hold(FIRST)
    assert holder.hold(SECOND) != port
    assert holder.hold(FIRST) == port
    holder.close()


def test_held_ports_differ_between_holders(holder: PortHolder) -> None:
    other = PortHolder()
    ports = [h.hold(task) for task in WORKERS for h in (holder, other)]
    assert len(set(ports)) == len(ports)
    holder.close()
    other.close()


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_nobody_else_can_take_a_held_port(holder: PortHolder, address: str) -> None:
    port = holder.hold(FIRST)
    with socket.socket() as stranger, pytest.raises(OSError, match="in use") as raised:
        stranger.bind((address, port))
    assert raised.value.errno == errno.EADDRINUSE
    holder.close()


def test_a_server_that_shares_ports_can_listen_on_a_held_port_again_and_again(holder: PortHolder) -> None:
    port = holder.hold(FIRST)
    for _ in range(3):
        with socket.socket() as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            server.bind(("0.0.0.0", port))
            server.listen()
            with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
                accepted, _ = server.accept()
                accepted.close()
                assert client.recv(1) == b""
    holder.close()


def test_a_port_is_free_once_it_is_given_up(holder: PortHolder) -> None:
    port = holder.hold(FIRST)
    holder.give_up(FIRST)
    holder.give_up(FIRST)
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        assert holder.hold(FIRST) != port
    holder.close()


def test_a_listener_on_a_held_port_is_seen(holder: PortHolder) -> None:
    port = holder.hold(FIRST)
    holder.hold(SECOND)
    assert holder.taken([FIRST, SECOND]) == {}
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        server.bind(("127.0.0.1", port))
        assert holder.taken([FIRST]) == {}, "bound is not listening"
        server.listen()
        assert port in listened_ports()
        assert holder.taken([FIRST, SECOND]) == {FIRST: port}
        assert holder.taken([SECOND]) == {}
    assert holder.taken([FIRST]) == {}
    holder.close()


def test_a_declared_port_is_held(holder: PortHolder) -> None:
    holder.hold(FIRST)
    port = free_port()
    assert holder.hold(FIRST, port) == port
    assert holder.hold(FIRST) == port
    holder.close()


def test_a_declared_port_that_is_taken_is_refused_with_the_fix(holder: PortHolder) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        with pytest.raises(PortError, match=f"port {port}, declared for worker-0, is taken.*declare another"):
            holder.hold(FIRST, port)
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        server.bind(("", 0))
        server.listen()
        port = server.getsockname()[1]
        with pytest.raises(PortError, match="a process listens on it"):
            holder.hold(FIRST, port)


@pytest.mark.skipif(os.getuid() == 0, reason="root may bind any port")
def test_a_privileged_port_is_refused(holder: PortHolder) -> None:
    with pytest.raises(PortError, match="Permission denied"):
        holder.hold(FIRST, 1)


def test_ports_that_are_listened_on_are_passed_over() -> None:
    seen: list[int] = []

    class Listened(Collection[int]):
        """The first three ports that are asked about."""

        def __contains__(self, port: object) -> bool:
            assert isinstance(port, int)
            seen.append(port)
            return len(seen) <= 3

        def __iter__(self):  # type: ignore[no-untyped-def]
            return iter(())

        def __len__(self) -> int:
            return 0

    holder = PortHolder(listened=Listened)
    assert holder.hold(FIRST) == seen[3]
    holder.close()


def test_a_machine_without_free_ports_is_an_error() -> None:
    holder = PortHolder(listened=lambda: range(65536))
    with pytest.raises(PortError, match="no port can be held for worker-0"):
        holder.hold(FIRST)


def test_too_many_open_files_are_named() -> None:
    code = f"""
import resource
from orchestrator.cluster.task import TaskId, TaskType
from orchestrator.launch.ports import PortHolder
resource.setrlimit(resource.RLIMIT_NOFILE, (20, {resource.getrlimit(resource.RLIMIT_NOFILE)[1]}))
holder = PortHolder()
try:
    for index in range(50):
        holder.hold(TaskId(TaskType.WORKER, index))
except Exception as error:
    print(type(error).__name__, error)
"""
    said = subprocess.check_output([sys.executable, "-c", code], text=True, timeout=100)
    assert said.startswith("PortError no port can be held for worker-")
    assert "ulimit -n" in said
