"""The relay: carries frames between a connection and the agent of the run, which it starts where needed.

It lives as long as its connection. All state is in the agent, which goes on
when the relay is gone.
"""

from __future__ import annotations

import os
import re
import select
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from orchestrator.launch.log_stream import tail
from orchestrator.launch.node.frames import encode
from orchestrator.launch.node.places import AGENT_LOG, SOCKET, Places
from orchestrator.launch.process_tree import read_entry

START_SECONDS = 60.0
"""How long an agent may take until it listens."""
_FLUSH_SECONDS = 5.0
_ROOM = 1 << 20
_CHUNK = 1 << 16
_RUN_ID = re.compile(r"[A-Za-z0-9@_][A-Za-z0-9@._-]{0,200}")
_AGENT = (
    "import sys; sys.path.insert(0, sys.argv[1]); from orchestrator.launch.node.agent import main;"
    " sys.exit(main(sys.argv[1]))"
)


class AgentNotStarted(Exception):
    """Why the agent does not listen, for people."""


def relay(hello: dict[str, Any], root: str, package: str) -> int:
    """Passes on what comes on standard input and from the agent until one of them ends."""
    try:
        with _connect(hello["run_id"], Path(root), package) as agent:
            agent.sendall(encode(hello))
            carry(agent)
    except (AgentNotStarted, OSError) as error:
        message = (
            str(error) if isinstance(error, AgentNotStarted) else f"the agent cannot be reached: {error}"
        )
        with open(1, "wb", closefd=False) as out:
            out.write(encode({"event": "failed", "kind": "host", "message": message}))
        return 3
    return 0


def _connect(run_id: str, root: Path, package: str) -> socket.socket:
    """A connection to the agent of the run, which is started unless it listens."""
    if not _RUN_ID.fullmatch(run_id):
        raise AgentNotStarted(f"{run_id!r} cannot be the name of a run")
    places = Places.of(root, run_id)
    places.create()
    os.chdir(places.run_dir)  # the name of a socket must be short
    agent: int | None = None
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            return connect_here()
        except (FileNotFoundError, ConnectionRefusedError):
            pass
        agent = _start_agent(package) if agent is None else agent
        if not _lives(agent) or time.monotonic() > end:
            with suppress(OSError):
                return connect_here()  # another relay was quicker with its own
            words = " ".join(tail(places.run_dir / AGENT_LOG, 3)) or "it wrote nothing"
            raise AgentNotStarted(f"the agent does not start in {places.run_dir}: {words}")
        time.sleep(0.02)


def connect_here() -> socket.socket:
    """A connection to the agent whose run directory is the current directory; OSError where none listens."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(SOCKET)
    except OSError:
        connection.close()
        raise
    return connection


def _start_agent(package: str) -> int:
    """Process id of a new agent: a session of its own, no child of ours, nothing of this connection."""
    read_end, write_end = os.pipe()
    between = os.fork()
    if between == 0:
        code = 1
        try:
            os.write(write_end, str(_execute_agent(package)).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(write_end)
    with open(read_end, "rb") as stream:
        told = stream.read()
    os.waitpid(between, 0)
    if not told:
        raise AgentNotStarted(f"{sys.executable} cannot be started")
    return int(told)


def _execute_agent(package: str) -> int:
    log = os.open(AGENT_LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    return subprocess.Popen(
        [sys.executable, "-I", "-c", _AGENT, package],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
    ).pid


def _lives(pid: int) -> bool:
    entry = read_entry(pid)
    return entry is not None and entry.alive


def carry(agent: socket.socket, source: int = 0, sink: int = 1) -> None:
    """Passes bytes on in both directions; a direction that is stuck does not hold up the other."""
    agent.setblocking(False)
    os.set_blocking(sink, False)
    there, back = bytearray(), bytearray()
    leave_at: float | None = None
    while leave_at is None or (back and time.monotonic() < leave_at):
        waiting = select.poll()
        wanted = (select.POLLIN if len(back) < _ROOM else 0) | (select.POLLOUT if there else 0)
        if leave_at is None:
            waiting.register(agent, wanted)
            if len(there) < _ROOM:
                waiting.register(source, select.POLLIN)
        waiting.register(sink, select.POLLOUT if back else 0)
        ready = dict(waiting.poll(200 if leave_at is not None else None))
        if ready.get(sink, 0) & (select.POLLERR | select.POLLNVAL):
            return  # nobody reads any more
        if back and sink in ready:
            del back[: _write(sink, back)]
        if ready.get(source):
            data = os.read(source, _CHUNK)
            if not data:
                _send_rest(agent, there)
                return
            there += data
        events = ready.get(agent.fileno(), 0)
        if there and events & select.POLLOUT:
            del there[: _send(agent, there)]
        if events & (select.POLLIN | select.POLLHUP | select.POLLERR):
            ended = _receive(agent, back) if len(back) < _ROOM or not events & select.POLLIN else False
            if ended or (events & select.POLLHUP and not events & select.POLLIN):
                leave_at = time.monotonic() + _FLUSH_SECONDS


def _send_rest(agent: socket.socket, data: bytearray) -> None:
    agent.settimeout(_FLUSH_SECONDS)
    with suppress(OSError):  # the agent is gone, or stuck: it will see the end of this connection
        agent.sendall(data)


def _send(agent: socket.socket, data: bytearray) -> int:
    try:
        return agent.send(data)
    except BlockingIOError:
        return 0
    except OSError:
        return len(data)  # it has left: its last words are still to be read


def _receive(agent: socket.socket, back: bytearray) -> bool:
    """Adds what the agent has sent; True at its end."""
    try:
        data = agent.recv(_CHUNK)
    except BlockingIOError:
        return False
    except OSError:
        return True
    back += data
    return not data


def _write(sink: int, data: bytearray) -> int:
    try:
        return os.write(sink, data[:_CHUNK])
    except BlockingIOError:
        return 0
    except OSError:
        return len(data)  # nobody reads any more: the next look at it ends the relay
