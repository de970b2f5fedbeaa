"""A host for tests: the real bootstrap, relay and agent on this machine, behind a shell instead of ssh."""

from __future__ import annotations

import itertools
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from orchestrator.launch.node import delivery
from orchestrator.launch.node.frames import FrameReader, Header, encode
from orchestrator.launch.process_tree import (
    descendants,
    kill,
    kill_until_gone,
    process_table,
    processes_of_run,
)

PATIENCE = 240.0
"""Seconds after which a state that should come counts as missing."""
Frame = tuple[Header, bytes]
_numbers = itertools.count(1)


class Ended(Exception):
    """The connection has ended."""


class Connection:
    """One connection: a shell that runs the fixed command, as sshd has the login shell do."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.process = subprocess.Popen(
            ["sh", "-c", delivery.remote_command(host.python)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=host.environ,
            cwd=host.home,
            start_new_session=True,
        )
        self._reader = FrameReader(marker=delivery.MARKER)
        self.frames: list[Frame] = []
        self._looked = 0
        self.write(delivery.opening())

    def write(self, data: bytes) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(data)
            self.process.stdin.flush()
        except BrokenPipeError as error:
            while self.receive(1.0):
                pass
            raise Ended(self.frames) from error

    def send(self, header: Header, payload: bytes = b"") -> None:
        self.write(encode(header, payload))

    def receive(self, seconds: float) -> bool:
        """Takes what arrives; False at the end."""
        assert self.process.stdout is not None
        fd = self.process.stdout.fileno()
        if not select.select([fd], [], [], seconds)[0]:
            return True
        data = os.read(fd, 1 << 16)
        self.frames += self._reader.feed(data)
        return bool(data)

    def until(self, fits: Callable[[Header], bool]) -> Frame:
        """The next frame that fits; what comes before it is kept in `frames`. Heartbeats go on meanwhile."""
        end = time.monotonic() + PATIENCE
        beat_at = 0.0
        while True:
            while self._looked < len(self.frames):
                frame = self.frames[self._looked]
                self._looked += 1
                if fits(frame[0]):
                    return frame
            assert time.monotonic() < end, f"waited in vain; came last: {self.frames[-20:]}"
            if time.monotonic() > beat_at:
                beat_at = time.monotonic() + 0.5
                with suppress(Ended):
                    self.send({"do": "heartbeat"})
            if not self.receive(0.2):
                while self._looked < len(self.frames):
                    frame = self.frames[self._looked]
                    self._looked += 1
                    if fits(frame[0]):
                        return frame
                raise Ended(self.frames)

    def event(self, name: str, /, **values: Any) -> Frame:
        """The next event of that name with these values."""
        return self.until(
            lambda h: h.get("event") == name and all(h.get(key) == value for key, value in values.items())
        )

    def drop(self) -> None:
        """Ends as when a cable was cut and all have noticed: SIGKILL to every process of the connection."""
        for entry in (*descendants(self.process.pid), *_entry(self.process.pid)):
            kill(entry)
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            with suppress(OSError):
                stream.close()


class Host:
    """One run on one host. Its root is in `home`, unless runs share one, and its package, to be quick."""

    def __init__(self, home: Path, root: Path | None = None, python: str = sys.executable) -> None:
        self.home = home
        self.python = python
        # `close` kills all at once, so that nobody is left to remove temporary files.
        self._temporary = tempfile.mkdtemp(prefix="host-")
        self.environ = {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8"}
        self.environ["TMPDIR"] = self._temporary
        self.run_id = f"run-{next(_numbers)}-h1"
        self.root = home / ".cache" / "tf-orchestrator" if root is None else root
        self.run_dir = self.root / "runs" / self.run_id
        self.hello: Header = {
            "do": "hello",
            "protocol": delivery.PROTOCOL,
            "run_id": self.run_id,
            "root": None if root is None else str(root),
            "package": delivery.package().digest,
            "lease_seconds": 600.0,
            "grace_seconds": 5.0,
            "acknowledged": 0,
            "instance": None,
        }
        self.connections: list[Connection] = []
        self.agents: set[int] = set()

    def connect(self, **changed: Any) -> Connection:
        """A connection that has said hello."""
        connection = Connection(self)
        self.connections.append(connection)
        connection.send({**self.hello, **changed})
        return connection

    def welcomed(self, **changed: Any) -> tuple[Connection, Header]:
        """A connection that was welcomed, the package sent where it was asked for."""
        connection = self.connect(**changed)
        header, _ = connection.until(lambda h: h.get("event") in ("need_package", "welcome", "failed"))
        if header["event"] == "need_package":
            connection.send({"do": "package"}, delivery.package().data)
            header, _ = connection.until(lambda h: h.get("event") in ("welcome", "failed"))
        assert header["event"] == "welcome", header
        self.agents.add(header["pid"])
        return connection, header

    def close(self) -> None:
        """Leaves nothing behind, whatever the test has left."""
        for connection in self.connections:
            connection.drop()
        for pid in self.agents:
            for entry in _entry(pid):
                kill(entry)
        kill_until_gone(lambda: processes_of_run(self.run_dir), PATIENCE)
        shutil.rmtree(self._temporary, ignore_errors=True)


def _entry(pid: int) -> list[Any]:
    return [entry for entry in process_table() if entry.pid == pid and entry.alive]


def alive(pid: int) -> bool:
    return bool(_entry(pid))


def wait_until(true: Callable[[], object], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, f"waited in vain: {what}"
        time.sleep(0.02)


@contextmanager
def host_at(home: Path, root: Path | None = None, python: str = sys.executable) -> Iterator[Host]:
    host = Host(home, root, python)
    try:
        yield host
    finally:
        host.close()
