"""Ports that are held from the plan of a job to its end, so that nobody takes them in between.

A held port is a bound socket that does not listen, with SO_REUSEPORT.
TensorFlow's servers set that option too when TF_GRPC_REUSE_PORT is 1 and can
then listen on the port, again and again; processes of other users, and
servers that do not set it, cannot.
"""

from __future__ import annotations

import errno
import itertools
import socket
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from orchestrator.cluster.task import TaskId
from orchestrator.errors import PortError

REUSE_PORT_VARIABLE = "TF_GRPC_REUSE_PORT"
"""Set to 1 for every task whose port is held."""
FIRST_PRIVATE = 20000
"""The first port that is given in a private network."""
_LISTEN = "0A"
_ATTEMPTS = 20


def listened_ports(
    tables: Collection[Path] = (Path("/proc/net/tcp"), Path("/proc/net/tcp6")),
) -> frozenset[int]:
    """TCP ports of this machine on which some process listens now."""
    ports = set()
    for table in tables:
        try:
            lines = table.read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue  # no IPv6 here
        for line in lines:
            fields = line.split()
            if fields[3] == _LISTEN:
                ports.add(int(fields[1].rsplit(":", 1)[1], 16))
    return frozenset(ports)


class PortHolder:
    """The ports of one job's tasks; a task keeps its port until it is given up."""

    def __init__(self, listened: Callable[[], Collection[int]] = listened_ports) -> None:
        self._listened = listened
        self._held: dict[TaskId, socket.socket] = {}

    def hold(self, task: TaskId, declared: int | None = None) -> int:
        """The port of `task`: the one it has, `declared`, or a free one.

        Raises PortError when a declared port is taken or no port can be held.
        """
        if task in self._held:
            port = _port(self._held[task])
            if declared in (None, port):
                return port
            self.give_up(task)
        held = _bind_declared(task, declared, self._listened()) if declared else self._bind_free(task)
        self._held[task] = held
        return _port(held)

    def taken(self, tasks: Collection[TaskId]) -> Mapping[TaskId, int]:
        """Those of `tasks` on whose port somebody listens, although none of them runs."""
        listened = self._listened()
        ports = {task: _port(self._held[task]) for task in tasks if task in self._held}
        return {task: port for task, port in ports.items() if port in listened}

    def give_up(self, task: TaskId) -> None:
        """Lets go of a task's port; the next `hold` finds another one."""
        held = self._held.pop(task, None)
        if held is not None:
            held.close()

    def close(self) -> None:
        """Lets go of every port."""
        for task in list(self._held):
            self.give_up(task)

    def _bind_free(self, task: TaskId) -> socket.socket:
        for _ in range(_ATTEMPTS):
            try:
                held = _bind(0)
            except OSError as error:
                raise PortError(
                    f"no port can be held for {task}: {error.strerror}. {_remedy(error)}"
                ) from error
            if _port(held) not in self._listened():
                return held
            held.close()
        raise PortError(
            f"no port can be held for {task}: {_ATTEMPTS} ports in a row turned out to be listened on."
            " Stop what listens there, or declare the task's host as 127.0.0.1:PORT."
        )


class PrivatePorts:
    """Ports in a private network: nobody else is there, so that none needs to be held.

    Numbers below those that the kernel gives to outgoing connections.
    """

    def __init__(self) -> None:
        self._given: dict[TaskId, int] = {}

    def hold(self, task: TaskId, declared: int | None = None) -> int:
        """The port of `task`: `declared`, the one it has, or the first that no other task has."""
        if declared is not None:
            self._given[task] = declared
        elif task not in self._given:
            taken = set(self._given.values())
            self._given[task] = next(port for port in itertools.count(FIRST_PRIVATE) if port not in taken)
        return self._given[task]

    def taken(self, tasks: Collection[TaskId]) -> Mapping[TaskId, int]:
        """None ever is."""
        return {}

    def give_up(self, task: TaskId) -> None:
        """The next `hold` finds another port."""
        self._given.pop(task, None)

    def close(self) -> None:
        """Nothing needs to be closed."""


def _bind_declared(task: TaskId, port: int, listened: Collection[int]) -> socket.socket:
    fix = "Stop the process that has it, or declare another one."
    if port in listened:
        raise PortError(f"port {port}, declared for {task}, is taken: a process listens on it. {fix}")
    try:
        return _bind(port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortError(f"port {port}, declared for {task}, is taken. {fix}") from error
        raise PortError(f"port {port}, declared for {task}, cannot be held: {error.strerror}.") from error


def _bind(port: int) -> socket.socket:
    """A bound socket on every interface, as TensorFlow's servers listen on every interface."""
    if socket.has_dualstack_ipv6():
        try:
            return _bind_family(socket.AF_INET6, port)
        except OSError as error:
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                raise
    return _bind_family(socket.AF_INET, port)


def _bind_family(family: socket.AddressFamily, port: int) -> socket.socket:
    held = socket.socket(family, socket.SOCK_STREAM)
    try:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            held.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        held.bind(("", port))
    except OSError:
        held.close()
        raise
    return held


def _port(held: socket.socket) -> int:
    return int(held.getsockname()[1])


def _remedy(error: OSError) -> str:
    if error.errno == errno.EMFILE:
        return "Too many files are open: raise the limit (ulimit -n)."
    return "All ports may be in use; see net.ipv4.ip_local_port_range."
