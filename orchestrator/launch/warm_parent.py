"""The warm parent: imports TensorFlow once, forks the tasks, reports how they ended.

A process of its own on the node side, started by the launcher and never
imported by it. It obeys the launcher through a ControlChannel and never
outlives it: at the end of the channel it kills everything that is left and
leaves. It never runs a user's code and never uses TensorFlow, since a process
that has used TensorFlow cannot fork.

Messages to it:
  start   id, task, command, env, working_dir, fork, own_temporary; descriptors: output, control
  signal  id, number
  kill    id
Messages from it:
  ready   seconds, unfit (why it will not fork, or null)
  import_failed  reason
  not_isolated   reason (there is no private network, although asked for; it leaves)
  no_way_out     reason (the private network has no connection to the outside, or has lost it)
  other_way_out  relay, reason (why it is not the one that is preferred)
  no_temporary   reason (a task uses the machine's temporary directory)
  started id, pid, fork, why (why it was not forked although asked, or null)
  failed  id, reason
  exited  id, pid, status (as os.waitstatus_to_exitcode), time
"""

from __future__ import annotations

import argparse
import gc
import importlib
import os
import select
import signal
import socket
import subprocess
import sys
import time
import traceback
import warnings
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from orchestrator.cluster.records import ENV_CONTROL_FD, ENV_RUN_DIR
from orchestrator.launch import outbound_relay, private_network
from orchestrator.launch.control_channel import ControlChannel, Message
from orchestrator.launch.fork_fitness import python_threads, thread_names, why_unfit
from orchestrator.launch.forked_task import ForkedTask, become
from orchestrator.launch.outbound_relay import WayOut
from orchestrator.launch.process_tree import (
    ProcessEntry,
    adopt_orphans,
    descendants,
    die_with_parent,
    kill_until_gone,
    processes_of_run,
    processes_of_task,
)
from orchestrator.launch.python_command import parse_python_command
from orchestrator.launch.temporary_directory import VARIABLE as TEMPORARY_DIRECTORY
from orchestrator.launch.temporary_directory import TaskDirectories

_TASK_RUNNER = Path(__file__).with_name("task_runner.py")
_SWEEP_SECONDS = 10.0


@dataclass
class _Child:
    id: int
    task: str
    pid: int


class WarmParent:
    """The process's state: its children and the way to its launcher."""

    def __init__(
        self,
        channel: ControlChannel,
        run_dir: Path,
        launcher: int,
        module_path: tuple[str, ...],
        *,
        temporary: Path | None = None,
        way_out: WayOut | None = None,
    ) -> None:
        self._channel = channel
        self._run_dir = run_dir
        self._temporary = None if temporary is None else TaskDirectories(temporary)
        self._launcher = launcher
        self._module_path = module_path
        self._way_out = way_out or WayOut()
        self._children: dict[int, _Child] = {}
        self._threads_at_start: list[str] = []
        self._leaving = False
        self._inbox: deque[tuple[Message, list[int]]] = deque()
        self._wakeup_read, self._wakeup_write = os.pipe()
        os.set_blocking(self._wakeup_read, False)
        os.set_blocking(self._wakeup_write, False)

    def warm_up(self, modules: list[str]) -> bool:
        """Imports `modules` and reports; False when one cannot be imported."""
        begin = time.monotonic()
        try:
            for name in modules:
                importlib.import_module(name)
        except BaseException as error:
            traceback.print_exc()
            last = traceback.format_exception_only(type(error), error)[-1].strip()
            self._channel.send({"event": "import_failed", "reason": f"cannot import {name}: {last}"})
            return False
        gc.collect()
        gc.freeze()  # the collector of a child must not write to, and so copy, what is shared
        self._threads_at_start = thread_names()
        self._channel.send(
            {
                "event": "ready",
                "seconds": time.monotonic() - begin,
                "unfit": self._why_unfit(),
                "pid": os.getpid(),
            }
        )
        return True

    def serve(self) -> None:
        """Obeys until the launcher is gone or SIGTERM comes, then leaves nothing behind."""
        self._watch_signals()
        waiting = select.poll()
        waiting.register(self._channel.fileno(), select.POLLIN)
        waiting.register(self._wakeup_read, select.POLLIN)
        try:
            while not self._leaving:
                waiting.poll()
                with suppress(BlockingIOError):
                    while os.read(self._wakeup_read, 4096):
                        pass
                messages, closed = self._channel.receive()
                self._inbox.extend(messages)
                while self._inbox:
                    self._obey(*self._inbox.popleft())
                self._reap()
                self._leaving |= closed
        except (BrokenPipeError, ConnectionResetError):
            pass  # the launcher is gone
        finally:
            self._kill_everything()

    def _watch_signals(self) -> None:
        signal.set_wakeup_fd(self._wakeup_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._leave)

    def _leave(self, *_: object) -> None:
        self._leaving = True

    def _why_unfit(self) -> str | None:
        return why_unfit(thread_names(), self._threads_at_start, python_threads())

    def _obey(self, message: Message, fds: list[int]) -> None:
        if message["do"] == "start":
            self._start(message, fds)
            return
        child = next((c for c in self._children.values() if c.id == message["id"]), None)
        if child is None:
            return  # has ended meanwhile
        if message["do"] == "signal":
            with suppress(PermissionError):
                os.kill(child.pid, message["number"])  # not reaped yet, so the id is still its own
        elif message["do"] == "kill":
            self._kill_processes_of(child)

    def _start(self, message: Message, fds: list[int]) -> None:
        output, control = fds
        message["env"][ENV_CONTROL_FD] = str(control)
        if message.get("own_temporary"):
            self._give_temporary(message)
        why = self._why_unfit() if message["fork"] else None
        forked = message["fork"] and why is None
        try:
            pid = self._fork(message, output) if forked else self._execute(message, output, control)
        except OSError as error:
            at = f" ({error.filename})" if error.filename else ""
            self._channel.send({"event": "failed", "id": message["id"], "reason": f"{error.strerror}{at}"})
        else:
            self._children[pid] = _Child(message["id"], message["task"], pid)
            self._channel.send(
                {"event": "started", "id": message["id"], "pid": pid, "fork": forked, "why": why}
            )
        finally:
            os.close(output)
            os.close(control)

    def _give_temporary(self, message: Message) -> None:
        if self._temporary is None:
            return
        try:
            message["env"][TEMPORARY_DIRECTORY] = str(self._temporary.make(message["task"]))
        except OSError as error:
            self._channel.send({"event": "no_temporary", "reason": str(error)})

    def _fork(self, message: Message, output: int) -> int:
        program = parse_python_command(message["command"])
        assert program is not None
        task = ForkedTask(
            task=message["task"],
            command=tuple(message["command"]),
            program=program,
            env=message["env"],
            working_dir=message["working_dir"],
            output_fd=output,
            parent=os.getpid(),
            module_path=self._module_path,
        )
        sys.stdout.flush()
        sys.stderr.flush()
        # A signal that reached the child before it is itself would run the handlers of the parent.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            with warnings.catch_warnings():
                # Python 3.12 warns of every thread; which ones are harmless was decided above.
                warnings.simplefilter("ignore", DeprecationWarning)
                pid = os.fork()
            if pid == 0:
                become(task, close=self._private_fds())
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, [])
        return pid

    def _private_fds(self) -> list[int]:
        """What a forked child must close, the descriptors of tasks that are yet to be started among it."""
        waiting = [fd for _, fds in self._inbox for fd in fds]
        held = () if self._temporary is None else self._temporary.fds
        return [*self._channel.fds(), self._wakeup_read, self._wakeup_write, *waiting, *held]

    def _execute(self, message: Message, output: int, control: int) -> int:
        runner = [sys.executable, "-I", "-S", str(_TASK_RUNNER), str(os.getpid()), "--", *message["command"]]
        process = subprocess.Popen(
            runner,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=message["env"],
            cwd=message["working_dir"],
            start_new_session=True,
            pass_fds=(control,),
        )
        process.returncode = 0  # reaped by us: keeps Popen from waiting for it, or warning that nobody did
        return process.pid

    def _reap(self) -> None:
        """Reports children that have ended, after everything they had started is gone."""
        while True:
            try:
                # Left as a zombie for now, so that its id, which names its session, is not given away.
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            child = self._children.get(ended.si_pid)
            if child is not None:
                self._kill_processes_of(child)
                del self._children[child.pid]
            _, status = os.waitpid(ended.si_pid, 0)
            if ended.si_pid == self._way_out.pid:
                reason = f"{self._way_out.program} has ended"
                self._channel.send({"event": "no_way_out", "reason": reason})
            if child is not None:
                code = os.waitstatus_to_exitcode(status)
                self._channel.send(
                    {"event": "exited", "id": child.id, "pid": child.pid, "status": code, "time": time.time()}
                )
                if self._temporary is not None:
                    self._temporary.remove(child.task)

    def _kill_processes_of(self, child: _Child) -> None:
        spare = {c.pid for c in self._children.values() if c is not child}
        spare.add(self._launcher)
        with suppress(PermissionError):
            os.kill(child.pid, signal.SIGKILL)

        def find() -> list[ProcessEntry]:
            marked = processes_of_task(self._run_dir, child.task, child.pid, spare)
            below = descendants(child.pid)
            return list({entry.pid: entry for entry in (*marked, *below)}.values())

        kill_until_gone(find, _SWEEP_SECONDS)

    def _kill_everything(self) -> None:
        spare = (self._launcher,)

        def find() -> list[ProcessEntry]:
            found = (*descendants(os.getpid()), *processes_of_run(self._run_dir, spare))
            return list({entry.pid: entry for entry in found}.values())

        def reap_all() -> None:
            with suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass

        left = kill_until_gone(find, _SWEEP_SECONDS, reap_all)
        reap_all()
        if self._temporary is not None:
            self._temporary.close()
        for entry in left:
            print(f"process {entry.pid} does not die", file=sys.stderr)


def _isolate(channel: ControlChannel) -> WayOut | None:
    """Enters a private network, and says how that went. To be called while there is one thread."""
    try:
        found = outbound_relay.enter_with_relay()
    except OSError as error:
        channel.send({"event": "not_isolated", "reason": private_network.refusal(error)})
        return None
    reason = "; ".join(found.failures)
    if found.pid is None:
        channel.send({"event": "no_way_out", "reason": reason})
    elif reason:
        channel.send({"event": "other_way_out", "relay": found.program, "reason": reason})
    return found


def main(arguments: list[str], module_path: tuple[str, ...]) -> int:
    """Runs the warm parent to its end; the exit code is 1 when the import failed."""
    parser = argparse.ArgumentParser(prog="warm_parent")
    parser.add_argument("--channel-fd", type=int, required=True)
    parser.add_argument("--launcher", type=int, required=True)
    parser.add_argument("--import", dest="modules", action="append", default=[])
    parser.add_argument("--isolated", action="store_true")
    parser.add_argument("--temporary", type=Path, help="where tasks have their temporary directories")
    parser.add_argument("room", nargs="?", help="blanks: room for the command lines of forked tasks")
    options = parser.parse_args(arguments)
    channel = ControlChannel(socket.socket(fileno=options.channel_fd))
    way_out = _isolate(channel) if options.isolated else WayOut()
    if way_out is None:
        return 1
    try:
        die_with_parent(options.launcher, signal.SIGTERM)
    except ProcessLookupError:
        return 1
    adopt_orphans()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    run_dir = Path(os.environ[ENV_RUN_DIR])
    parent = WarmParent(
        channel, run_dir, options.launcher, module_path, temporary=options.temporary, way_out=way_out
    )
    if not parent.warm_up(options.modules):
        return 1
    parent.serve()
    return 0
