"""The node agent: runs the tasks of one run on this host, and outlives its connection for a lease.

A process of its own session, started by the relay in the run directory. It
owns a LocalLauncher, so tasks live and die here as they do on one machine:
when the agent is killed, the kernel and the warm parent end them. What happens
is kept in the outbox until the launcher has acknowledged it; what the launcher
asks for is numbered, so that nothing is lost or done twice when a connection
breaks. Without a word from the launcher for the time of the lease, the tasks
are asked to end, killed after the grace period, and the agent leaves; what the
launcher has not heard stays in a file for one who comes later.
"""

from __future__ import annotations

import os
import queue
import selectors
import shutil
import signal
import socket
import sys
import time
import uuid
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from orchestrator.launch.local import LocalLauncher
from orchestrator.launch.node.agent_connection import AgentConnection
from orchestrator.launch.node.agent_telling import AgentTelling
from orchestrator.launch.node.commands import Commands
from orchestrator.launch.node.frames import FrameError, FrameReader, Header, encode
from orchestrator.launch.node.lease import Lease, seconds_since_boot
from orchestrator.launch.node.outbox import Outbox
from orchestrator.launch.node.places import LOCK, SOCKET, Places, take_lock
from orchestrator.launch.node.relay import connect_here
from orchestrator.launch.node.welcome import describe_host
from orchestrator.launch.process_tree import kill_until_gone, processes_of_run
from orchestrator.launch.stopping import StopSequence

TICK_SECONDS = 0.2
FIRST_WORD_SECONDS = 60.0
"""How long a new agent, or a new connection, waits for `hello`."""
_LOCK_SECONDS = 40.0
_FLUSH_SECONDS = 5.0
_SWEEP_SECONDS = 10.0
_FRESHEN_SECONDS = 3600.0
_UNNUMBERED = ("hello", "package", "heartbeat", "acknowledge")


class Agent:
    """The process's state. To be used from the main thread, whose end is the end of every task."""

    def __init__(self, places: Places, package: Path, environ: Mapping[str, str]) -> None:
        self._places = places
        self._package = package
        self._environ = with_package(environ, package)
        self._instance = uuid.uuid4().hex
        self._received = 0
        self._grace = 0.0
        self._lease = Lease(FIRST_WORD_SECONDS, seconds_since_boot())
        self._outbox = Outbox()
        self._launcher = LocalLauncher(places.run_dir, environ=self._environ, meanwhile=self._stay_in_touch)
        self._answers: queue.SimpleQueue[tuple[Header, bytes]] = queue.SimpleQueue()
        self._telling = AgentTelling(places, self._launcher, self._outbox)
        self._commands = Commands(
            places, self._launcher, self._outbox, package=package, answer_later=self._answers.put
        )
        self._connection: AgentConnection | None = None
        self._strangers: list[AgentConnection] = []
        self._selector = selectors.DefaultSelector()
        self._ending: StopSequence | None = None
        self._awaited = False
        """A launcher has come since the tasks were ended, or is about to."""
        self._later: deque[tuple[AgentConnection, Header, bytes]] = deque()
        """What was said while something took long."""
        self._terminated = False
        self._closed = False
        self._fresh_at = float("-inf")

    def run(self, listener: socket.socket) -> None:
        """Serves until the run is closed, or the lease is over and every task has ended."""
        self._restore()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._terminate)
        signal.signal(signal.SIGHUP, lambda *_: None)  # a handler, since what is ignored would be inherited
        self._selector.register(listener, selectors.EVENT_READ, "listener")
        self._selector.register(self._launcher, selectors.EVENT_READ, "launcher")
        while not self._closed:
            self._turn(listener)
            if self._ending is None or self._launcher.running:
                continue
            if self._terminated or not self._awaited or self._lease.over(seconds_since_boot()):
                break
        self._leave(listener)

    def _turn(self, listener: socket.socket) -> None:
        while self._later:
            connection, header, payload = self._later.popleft()
            if connection is self._connection:
                self._carefully(connection, [(header, payload)])
        for key, events in self._selector.select(TICK_SECONDS):
            if key.data == "listener":
                self._accept(listener)
            elif isinstance(key.fileobj, AgentConnection):
                if events & selectors.EVENT_WRITE:
                    key.fileobj.flush()
                if events & selectors.EVENT_READ:
                    self._take(key.fileobj)
        if self._closed:
            return
        self._telling.tell()
        while not self._answers.empty():
            self._outbox.add(*self._answers.get())
        self._keep_lease(seconds_since_boot())
        self._pass_on()
        self._keep_fresh()

    def _accept(self, listener: socket.socket) -> None:
        end, _ = listener.accept()
        stranger = AgentConnection(end, seconds_since_boot())
        self._strangers.append(stranger)
        self._selector.register(stranger, selectors.EVENT_READ)

    def _take(self, connection: AgentConnection) -> None:
        self._carefully(connection, connection.receive())

    def _stay_in_touch(self) -> None:
        """Answers heartbeats while something takes long; everything else has to wait."""
        connection = self._connection
        if connection is None or connection.ended:
            return
        frames = connection.receive()
        self._carefully(connection, [frame for frame in frames if frame[0].get("do") == "heartbeat"])
        self._later += [(connection, *frame) for frame in frames if frame[0].get("do") != "heartbeat"]
        connection.flush()

    def _carefully(self, connection: AgentConnection, frames: list[tuple[Header, bytes]]) -> None:
        """Does what frames say; ends a connection where they make no sense."""
        try:
            for header, payload in frames:
                if connection is self._connection:
                    self._obey(header, payload)
                elif header.get("do") == "hello" and not connection.ended:
                    self._greet(connection, header)
                else:
                    connection.ended = True
        except (KeyError, TypeError, ValueError) as error:
            print(f"a connection that speaks another language is ended: {error!r}", file=sys.stderr)
            connection.ended = True

    def _greet(self, connection: AgentConnection, hello: Header) -> None:
        """A launcher has come: it is welcome, or told why not; a connection before it is given up."""
        if hello["instance"] not in (None, self._instance):
            text = "the agent that ran the tasks was killed; its tasks have ended with it"
            connection.send({"event": "failed", "kind": "lost", "message": text})
            connection.ended = True
            return
        self._strangers.remove(connection)
        self._awaited = self._ending is not None
        if self._connection is not None:
            self._drop(self._connection)
        self._connection = connection
        now = seconds_since_boot()
        if hello["instance"] is None and self._ending is not None and not self._launcher.running:
            self._begin_anew(now)
        if self._ending is None:
            self._grace = float(hello["grace_seconds"])
            self._lease.seconds = float(hello["lease_seconds"])
        self._lease.heard(float(hello.get("echo") or now), now)
        self._outbox.rewind(int(hello["acknowledged"]))
        connection.send(
            {
                "event": "welcome",
                "instance": self._instance,
                "received": self._received,
                "ending": self._ending is not None,
                "clock": now,
                **describe_host(self._places, self._package, self._environ),
            }
        )

    def _begin_anew(self, now: float) -> None:
        """A launcher that knows of nothing before gets an agent that knows of nothing either."""
        self._instance, self._received = uuid.uuid4().hex, 0
        self._ending, self._awaited = None, False
        self._outbox.clear()
        self._lease = Lease(FIRST_WORD_SECONDS, now)
        self._places.unsent.unlink(missing_ok=True)

    def _obey(self, header: Header, payload: bytes) -> None:
        now = seconds_since_boot()
        do = header.get("do")
        self._awaited |= self._ending is not None
        self._lease.heard(float(header.get("echo") or now), now)
        number = header.get("number")
        if number is not None and number <= self._received:
            return  # was done before the connection broke
        if do == "heartbeat" and self._connection is not None:
            self._connection.send(
                {"event": "alive", "received": self._received, "time": time.time(), "clock": now}
            )
        elif do == "acknowledge":
            self._outbox.acknowledge(int(header["sequence"]))
        elif do == "close":
            self._closed = True
        elif do not in _UNNUMBERED:
            self._commands.obey(header, payload, ending=self._ending is not None)
        self._received = number or self._received

    def _terminate(self, *_: object) -> None:
        self._terminated = True

    def _keep_lease(self, now: float) -> None:
        """Ends the tasks when the launcher counts as gone, or this process is asked to go."""
        if self._ending is None and (self._terminated or self._lease.over(now)):
            why = "the agent was asked to end" if self._terminated else "nothing was heard from the launcher"
            if not self._terminated:
                why += f" for {self._lease.seconds:g} s"
            self._say(why)
            self._ending = StopSequence(self._launcher.running, now, self._grace)
            # From now on it is how long what was left is kept ready for a launcher that comes back.
            self._lease = Lease(self._lease.seconds, now)
        if self._ending is not None:
            for order in self._ending.advance(now, self._launcher.running):
                self._launcher.stop(order.tasks, order.kind)

    def _say(self, why: str) -> None:
        host = socket.gethostname()
        tasks = ", ".join(map(str, sorted(self._launcher.running))) or "no task"
        print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {why}: stopping {tasks}", file=sys.stderr, flush=True)
        text = f"{host}: {why}; stopped there: {tasks}"
        self._outbox.add({"event": "note", "text": text, "passing": False})

    def _pass_on(self) -> None:
        """Hands the outbox to the connection as far as it takes it, and forgets connections that ended."""
        connection = self._connection
        if connection is not None and not connection.ended:
            connection.send_frames(self._outbox.next_frames())
            wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if connection.pending else 0)
            self._selector.modify(connection, wanted)
        if connection is not None and connection.ended:
            self._connection = None
            self._drop(connection)
        late = seconds_since_boot() - FIRST_WORD_SECONDS
        for stranger in [s for s in self._strangers if s.ended or s.accepted_at < late]:
            self._strangers.remove(stranger)
            self._drop(stranger)

    def _drop(self, connection: AgentConnection) -> None:
        self._selector.unregister(connection)
        connection.close()

    def _keep_fresh(self) -> None:
        now = seconds_since_boot()
        if now - self._fresh_at >= _FRESHEN_SECONDS:
            self._fresh_at = now
            self._places.keep_fresh(self._package)

    def _leave(self, listener: socket.socket) -> None:
        """Ends what is left. Nothing stays of a closed run; of another, what the launcher has not heard."""
        self._launcher.close()
        self._commands.close()
        if self._closed and self._connection is not None:
            self._connection.send({"event": "closed"})
        self._flush()
        if self._closed:
            shutil.rmtree(self._places.run_dir, ignore_errors=True)
        else:
            self._save()
            Path(SOCKET).unlink(missing_ok=True)
        listener.close()

    def _flush(self) -> None:
        connection, end = self._connection, time.monotonic() + _FLUSH_SECONDS
        while connection is not None and not connection.ended and time.monotonic() < end:
            connection.flush()
            if not connection.pending:
                connection.close()
                return
            time.sleep(0.01)

    def _save(self) -> None:
        state = {"instance": self._instance, "received": self._received}
        temporary = self._places.unsent.with_suffix(".new")
        try:
            with temporary.open("wb") as stream:
                stream.write(encode(state) + self._outbox.everything())
            temporary.replace(self._places.unsent)
        except OSError as error:
            print(f"what the launcher has not heard is lost: {error}", file=sys.stderr)

    def _restore(self) -> None:
        """Takes the place of an agent that ended before the launcher had heard everything."""
        kill_until_gone(lambda: processes_of_run(self._places.run_dir), _SWEEP_SECONDS)
        try:
            data = self._places.unsent.read_bytes()
            (state, _), *_ = FrameReader().feed(data)
        except (OSError, ValueError, FrameError):
            return
        self._instance, self._received = state["instance"], state["received"]
        self._outbox.restore(data[len(encode(state)) :])
        self._ending, self._awaited = StopSequence((), seconds_since_boot(), 0.0), True


def with_package(environ: Mapping[str, str], package: Path) -> dict[str, str]:
    """`environ` with the package found by every Python, after what the user has set."""
    before = environ.get("PYTHONPATH")
    return {**environ, "PYTHONPATH": f"{before}{os.pathsep}{package}" if before else str(package)}


def listen() -> tuple[int, socket.socket] | None:
    """The run's lock and a listening socket in the current directory; None where another agent has them."""
    end = time.monotonic() + _LOCK_SECONDS
    while True:
        lock = take_lock(Path(LOCK))
        if lock is not None:
            break
        with suppress(OSError):
            connect_here().close()
            return None
        if time.monotonic() > end:
            raise TimeoutError(f"another agent held {LOCK} for {_LOCK_SECONDS:g} s without listening")
        time.sleep(0.05)
    Path(SOCKET).unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(SOCKET)
    Path(SOCKET).chmod(0o600)
    listener.listen(8)
    listener.setblocking(False)
    return lock, listener


def main(package: str) -> int:
    """Runs the agent of the run whose directory is the current one, to its end."""
    run_dir = Path.cwd()
    places = Places(run_dir.parent.parent, run_dir)
    try:
        listening = listen()
    except OSError as error:
        print(error, file=sys.stderr)
        return 1
    if listening is None:
        return 0
    lock, listener = listening
    places.keep_fresh(Path(package))
    places.clean()
    Agent(places, Path(package), os.environ).run(listener)
    os.close(lock)
    return 0
