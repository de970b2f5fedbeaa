"""The processes of a run on this machine, and the warm parent that starts them."""

from __future__ import annotations

import itertools
import selectors
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from orchestrator.cluster.task import TaskId
from orchestrator.errors import StartError
from orchestrator.launch import process_record
from orchestrator.launch.job import Job, StartMethod
from orchestrator.launch.launcher import LauncherNote, StopKind, TaskEvent, TaskSuspended
from orchestrator.launch.local_process import LocalProcess, TaskProcess
from orchestrator.launch.process_tree import kill_until_gone, processes_of_run, read_entry
from orchestrator.launch.run_dir import RunDir
from orchestrator.launch.warm_parent_link import LinkState, WarmParentLink

_SWEEP_SECONDS = 10.0
_KILL_SECONDS = 30.0
"""How long the warm parent may take to kill a task before it is taken for stuck itself."""


class LocalProcesses:
    """Has processes started, waits for what they say, and sees each of them to its end.

    `interpreter` runs the warm parent, which may take `import_limit` seconds
    to import what it is to import; `meanwhile` is called again and again while
    it is ended. To be used from one thread.
    """

    def __init__(
        self,
        paths: RunDir,
        interpreter: str,
        import_limit: float,
        clock: Callable[[], float],
        meanwhile: Callable[[], None],
    ) -> None:
        self._paths = paths
        self._interpreter = interpreter
        self._import_limit = import_limit
        self._clock = clock
        self._meanwhile = meanwhile
        self._link: WarmParentLink | None = None
        self._selector = selectors.EpollSelector()
        self._processes: dict[int, LocalProcess] = {}
        self._running: dict[TaskId, TaskProcess] = {}
        self._starts: dict[TaskId, int] = {}
        self._ids = itertools.count()
        self._events: list[TaskEvent] = []

    @property
    def running(self) -> Mapping[TaskId, TaskProcess]:
        """The tasks that were begun and have not ended."""
        return self._running

    @property
    def parent_pid(self) -> int | None:
        """Process id of the warm parent; None while there is none."""
        return None if self._link is None else self._link.pid

    def fileno(self) -> int:
        """Readable when something has arrived."""
        return self._selector.fileno()

    def next_id(self) -> int:
        """The number of the next process in the conversation with the warm parent."""
        return next(self._ids)

    def starts(self, task: TaskId) -> int:
        """How often a task was begun so far."""
        return self._starts.get(task, 0)

    def note(self, text: str) -> None:
        """Something for the next `poll` to tell."""
        self._events.append(LauncherNote(text))

    def need_parent(self, job: Job, environ: Mapping[str, str], modules: Sequence[str]) -> None:
        """Starts a warm parent with this environment that imports `modules`, unless one will do that runs.

        Raises StartError.
        """
        link = self._link
        if link is not None and not link.modules and modules and not self._processes:
            self._end_parent()  # it was made for programs only
        if self._link is not None:
            return
        try:
            self._paths.logs.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StartError(f"cannot make {self._paths.logs}: {error.strerror}.") from error
        self._link = WarmParentLink(
            run_dir=self._paths.path,
            working_dir=job.working_dir,
            environ=environ,
            modules=modules,
            log_path=self._paths.warm_parent_log,
            interpreter=self._interpreter,
            isolated=job.isolated,
            secrets=job.masker(environ).values,
        )
        self._record("the parent of the tasks", self._link.pid)
        self._selector.register(self._link, selectors.EVENT_READ)
        self._selector.register(self._link.output.read_fd, selectors.EVENT_READ)
        if modules:
            names = ", ".join(modules)
            self._events.append(
                LauncherNote(f"importing {names} once, in process {self._link.pid}", passing=True)
            )

    def begin(
        self, process: LocalProcess, env: Mapping[str, str], working_dir: Path, *, own_temporary: bool
    ) -> None:
        """Has a process started as soon as the parent is ready; its end is told by `poll`.

        With `own_temporary` it is given a temporary directory that ends with it.
        """
        process.request = {
            "do": "start",
            "id": process.id,
            "task": process.label,
            "command": list(process.command),
            "env": dict(env),
            "working_dir": str(working_dir),
            "fork": process.method is StartMethod.FORK,
            "own_temporary": own_temporary,
        }
        self._processes[process.id] = process
        self._selector.register(process.output.read_fd, selectors.EVENT_READ, process)
        if isinstance(process, TaskProcess):
            self._running[process.task] = process
            self._starts[process.task] = process.start + 1

    def drop(self, process: LocalProcess) -> None:
        """Forgets a process that was never started."""
        if process.output.open:
            self._selector.unregister(process.output.read_fd)
        process.discard()
        del self._processes[process.id]
        if isinstance(process, TaskProcess):
            del self._running[process.task]
            self._starts[process.task] -= 1

    def poll(self, timeout: float) -> list[TaskEvent]:
        """As `Launcher.poll`."""
        end = time.monotonic() + timeout
        while True:
            self._settle()
            left = end - time.monotonic()
            if self._events or left <= 0:
                self._wait(0)
                self._settle()
                events, self._events = self._events, []
                return events
            self._wait(left)

    def stop(self, process: LocalProcess, kind: StopKind) -> None:
        """Asks a process to end, or ends it."""
        process.requested = True
        if not process.sent:
            process.cancel(self._clock(), signal.SIGKILL if kind is StopKind.KILL else signal.SIGTERM)
        elif self._link is not None and kind is StopKind.REQUEST:
            process.ask_to_stop()
            self._link.send({"do": "signal", "id": process.id, "number": int(signal.SIGTERM)})
        elif self._link is not None:
            process.kill_asked_at = process.kill_asked_at or time.monotonic()
            self._link.send({"do": "kill", "id": process.id})

    def signal(self, process: LocalProcess, number: int) -> None:
        """Signals a process, where it exists."""
        if process.pid and self._link is not None:
            self._link.send({"do": "signal", "id": process.id, "number": number})

    def look_for_suspended(self) -> None:
        """Has the next `poll` tell which tasks SIGSTOP holds now, and which go on."""
        for task, process in self._running.items():
            entry = read_entry(process.pid) if process.pid and process.exit is None else None
            suspended = entry is not None and entry.suspended
            if suspended != process.suspended:
                process.suspended = suspended
                self._events.append(TaskSuspended(task, suspended))

    def keep_up(self, seconds: float) -> None:
        """Serves the tasks for so long; what happens is for the next `poll` to tell."""
        end = time.monotonic() + seconds
        left = seconds
        while left >= 0:
            self._wait(left)
            self._settle()
            left = end - time.monotonic()

    def close(self) -> None:
        """Ends everything; nothing is told any more."""
        self._end_parent()
        for process in self._processes.values():
            process.output.read()
            process.discard()
        self._processes.clear()
        self._running.clear()
        self._selector.close()

    def _end_parent(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            self._selector.unregister(link)
            if link.output.open:
                self._selector.unregister(link.output.read_fd)
            link.end(self._meanwhile)

    def _wait(self, timeout: float) -> None:
        """Waits for the parent or for output, no longer than until the next limit, and takes what came."""
        for key, _ in self._selector.select(max(0.0, min(timeout, self._next_limit()))):
            if isinstance(key.data, LocalProcess):
                self._take_output(key.data)
            elif self._link is not None and key.fileobj is self._link:
                self._take_messages(self._link)
            elif self._link is not None:
                self._link.output.read()
                if not self._link.output.open:
                    self._selector.unregister(key.fd)

    def _next_limit(self) -> float:
        now = time.monotonic()
        processes = self._processes.values()
        limits = [p.drain_until for p in processes if p.drain_until is not None]
        limits += [p.kill_asked_at + _KILL_SECONDS for p in processes if p.kill_asked_at is not None]
        if self._link is not None and self._link.state is LinkState.STARTING:
            limits.append(self._link.started_at + self._import_limit)
        return min(limits, default=now + 3600.0) - now

    def _settle(self) -> None:
        """Acts on what is known: sends requests, ends what has ended, keeps the limits."""
        link = self._link
        if link is not None and self._kill_overdue():
            self._events.append(
                LauncherNote(f"process {link.pid}, which starts the tasks, is stuck: it is killed")
            )
            link.kill()
        if link is not None and link.state is LinkState.LOST:
            self._parent_lost(link)
        elif link is not None and link.state is LinkState.STARTING:
            if time.monotonic() > link.started_at + self._import_limit:
                self._refuse(
                    f"importing {', '.join(link.modules)} in process {link.pid} took more than"
                    f" {self._import_limit:g} s; see {link.log_path}"
                )
        elif link is not None:
            for process in self._processes.values():
                if not process.sent and process.exit is None:
                    process.send(link)
        for process in list(self._processes.values()):
            if process.exit is not None and (not process.output.open or process.drain_over()):
                self._report_exit(process)

    def _kill_overdue(self) -> bool:
        latest = time.monotonic() - _KILL_SECONDS
        asked = (p.kill_asked_at for p in self._processes.values() if p.exit is None)
        return any(at is not None and at < latest for at in asked)

    def _take_output(self, process: LocalProcess) -> None:
        fd = process.output.read_fd
        self._events += process.take_output()
        if not process.output.open:
            self._selector.unregister(fd)

    def _take_messages(self, link: WarmParentLink) -> None:
        for message in link.receive():
            event = message["event"]
            if event == "ready":
                self._note_ready(link, message["seconds"], message["unfit"])
            elif event == "import_failed":
                self._refuse(f"{message['reason']}. The whole output is in {link.log_path}")
            elif event == "not_isolated":
                self._refuse(f"security is isolated, which needs a private network, but {message['reason']}")
            elif event == "no_way_out":
                self.note(f"no outbound connections from the private network: {message['reason']}")
            elif event == "other_way_out":
                self.note(f"outbound connections go through {message['relay']}: {message['reason']}")
            elif event == "no_temporary":
                self.note(f"no temporary directory for a task alone: {message['reason']}")
            else:
                process = self._processes.get(message["id"])
                if process is not None:
                    if event == "started":
                        self._record(process.label, message["pid"])
                    self._events += process.tell(message, self._clock())

    def _record(self, label: str, pid: int) -> None:
        try:
            process_record.record(self._paths.processes, label, pid)
        except OSError as error:
            self.note(f"{label} cannot be noted in {self._paths.processes}: {error.strerror}")

    def _note_ready(self, link: WarmParentLink, seconds: float, unfit: str | None) -> None:
        if link.modules:
            text = f"imported {', '.join(link.modules)} in {seconds:.1f} s"
            self._events.append(LauncherNote(text, passing=True))
        if unfit is not None:
            self._events.append(LauncherNote(f"tasks are not forked: {unfit}"))

    def _refuse(self, reason: str) -> None:
        """Gives up on everything that waits for the parent; StartError."""
        for process in list(self._processes.values()):
            self.drop(process)
        self._end_parent()
        raise StartError(f"tasks cannot be started: {reason}.")

    def _parent_lost(self, link: WarmParentLink) -> None:
        """The parent has ended unasked; its tasks have died with it."""
        early = not link.was_ready
        self._end_parent()
        words = link.last_words()
        if early and self._processes:
            self._refuse(f"the process that starts them {words}")
        kill_until_gone(lambda: processes_of_run(self._paths.path), _SWEEP_SECONDS, self._meanwhile)
        if self._processes:
            self._events.append(
                LauncherNote(f"the process that starts the tasks {words}; its tasks ended with it")
            )
        for process in self._processes.values():
            if process.exit is None:
                process.ended(-int(signal.SIGKILL), self._clock())

    def _report_exit(self, process: LocalProcess) -> None:
        if process.output.open:
            self._selector.unregister(process.output.read_fd)
        self._events += process.finish()
        del self._processes[process.id]
        if isinstance(process, TaskProcess):
            del self._running[process.task]
