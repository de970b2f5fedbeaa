"""What hosts tell, as the events of a launcher; copies of records and logs are kept on the way."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator.cluster.records import ExitRecord
from orchestrator.cluster.task import TaskId
from orchestrator.errors import ConfigError, StartError
from orchestrator.launch.job import Job, LaunchPlan, LogLimits
from orchestrator.launch.launcher import (
    LauncherNote,
    PeakUsage,
    PreparationExited,
    PreparationOutput,
    TaskEvent,
    TaskExited,
    TaskOutput,
    TasksOutOfReach,
    TaskStarted,
    TaskSuspended,
)
from orchestrator.launch.node.event_wire import decode_event, decode_peaks
from orchestrator.launch.node.frames import Header
from orchestrator.launch.run_dir import RunDir
from orchestrator.launch.ssh.conversation import Signpost
from orchestrator.launch.ssh.mirror import Mirror, highest
from orchestrator.launch.ssh.remote_hosts import RemoteHosts

LOST_CODE = 137
"""What a shell makes of SIGKILL: nobody saw how the task really ended."""
_BROKEN_RECORD = (KeyError, TypeError, ValueError, ConfigError)


@dataclass
class _Run:
    """A task that was begun and has not ended."""

    host: str
    log: Path
    attempt: int
    start: int
    pid: int = 0
    asked_to_end: bool = False


class Reports:
    """Takes what hosts say and makes events of it. To be used from one thread."""

    def __init__(
        self, paths: RunDir, hosts: RemoteHosts, share: Callable[[TaskId, str, bytes | None], None]
    ) -> None:
        """`share` is given each record, for hosts whose tasks read it."""
        self._paths = paths
        self._hosts = hosts
        self._share = share
        self._mirror = Mirror(paths, LogLimits())
        self._runs: dict[TaskId, _Run] = {}
        self._starts: dict[TaskId, int] = {}
        self._events: list[TaskEvent] = []
        self._unheard: dict[str, float] = {}
        """When each host that cannot be reached was last heard, in seconds since the epoch."""
        self._preparing: deque[str] = deque()
        self._start_preparation: Callable[[str], None] | None = None
        self.prepared: set[str] = set()
        """Hosts on which the preparation has ended well."""
        self.peaks: Mapping[TaskId, PeakUsage] = {}

    @property
    def running(self) -> Collection[TaskId]:
        """The tasks that were begun and have not ended, as far as is known."""
        return self._runs.keys()

    @property
    def places(self) -> Mapping[TaskId, str]:
        """The host of each of them."""
        return {task: run.host for task, run in self._runs.items()}

    def begin(self, job: Job) -> None:
        """Takes over how the job wants its logs kept."""
        self._mirror.limits = job.log_limits

    def starting(self, plan: LaunchPlan, task: TaskId) -> None:
        """A task is about to be started: what its earlier starts left is forgotten."""
        part = plan.task(task)
        start = self._starts[task] = self._starts.get(task, -1) + 1
        self._mirror.forget(task)
        self._runs[task] = _Run(part.host, part.log_path, plan.attempt, start)

    def not_started(self, tasks: Collection[TaskId]) -> None:
        """The host refused to start these tasks."""
        for task in tasks:
            del self._runs[task]
            self._starts[task] -= 1

    def asked_to_end(self, tasks: Collection[TaskId]) -> None:
        """The launcher has asked these tasks to end."""
        for task in tasks:
            if task in self._runs:
                self._runs[task].asked_to_end = True

    def prepare_on(self, names: Sequence[str], start: Callable[[str], None]) -> None:
        """Has `start` begin the preparation on these hosts, on each when that on the one before has ended."""
        self._preparing, self._start_preparation = deque(names), start
        start(names[0])

    def prepare_late(self, name: str, start: Callable[[str], None], seconds: float) -> ExitRecord | None:
        """Has `start` begin the preparation on one more host; its end, or None where it takes longer.

        Its output is for the next `take`. Raises Abandoned.
        """
        self._preparing.clear()
        start(name)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._hosts.wait(0)
            self._read(0.5)
            ended = [event for event in self._events if isinstance(event, PreparationExited)]
            if ended:
                self._events = [event for event in self._events if event not in ended]
                return ended[0].record
        return None

    def take(self, timeout: float) -> list[TaskEvent]:
        """As `Launcher.poll`."""
        if not self._events:
            self._read(timeout)
        self._read(0)
        events, self._events = self._events, []
        return events

    def keep_up(self, seconds: float) -> None:
        """Serves the hosts for so long; what happens is for the next `take`."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._read(left)

    def swallow(self, tasks: Collection[TaskId], seconds: float) -> None:
        """Waits until these tasks have ended, so long at most, and says nothing of them. Raises Abandoned."""
        end = time.monotonic() + seconds
        while any(task in self._runs for task in tasks) and time.monotonic() < end:
            self._hosts.wait(0)
            self._read(0.5)
        told = (TaskStarted, TaskOutput, TaskExited)
        self._events = [e for e in self._events if not (isinstance(e, told) and e.task in tasks)]

    def close(self) -> None:
        """Closes the copies."""
        self._mirror.close()

    def _read(self, timeout: float) -> None:
        arrivals = deque(self._hosts.news(timeout))
        while arrivals:
            name, header, payload = arrivals.popleft()
            try:
                self._events += [event for event in self._understand(name, header, payload) if event]
            except _BROKEN_RECORD as error:
                self._note(f"{name} said something that is not understood: {error!r}")

    def _understand(self, name: str, header: Header, payload: bytes) -> Iterator[TaskEvent | None]:
        event = header.get("event")
        if event == "record":
            yield self._record(name, header, payload)
        elif event == "sample":
            yield _noted(self._mirror.samples(payload))
        elif event == "usage":
            self.peaks = highest(self.peaks, decode_peaks(header["peaks"]))
        elif event == "start_failed":
            raise StartError(f"host {name}: {header['message']}")
        elif event == "refused":
            yield LauncherNote(f"{name}: {header.get('message')}")
        elif event == Signpost.BROKEN.value:
            yield from self._broken(name, str(header["message"]))
        elif event == Signpost.WELCOME.value:
            yield from self._back(name)
        elif event in (Signpost.GIVEN_UP.value, Signpost.REFUSED.value):
            yield from self._lost(name)
        else:
            told = decode_event(header, payload)
            if told is not None:
                yield from self._tell(name, told)

    def _record(self, name: str, header: Header, payload: bytes) -> LauncherNote | None:
        task = TaskId.parse(header["task"])
        data = None if header.get("gone") else payload
        self._share(task, header["name"], data)
        return _noted(self._mirror.record(task, header["name"], data, self._hosts[name].skew))

    def _tell(self, name: str, event: TaskEvent) -> Iterator[TaskEvent | None]:
        if isinstance(event, TaskOutput):
            run = self._runs.get(event.task)
            if run is not None:
                yield _noted(self._mirror.output(run.log, event.text))
            yield event
        elif isinstance(event, PreparationOutput):
            yield _noted(self._mirror.output(self._paths.preparation_log, event.text))
            yield event
        elif isinstance(event, TaskStarted):
            if event.task in self._runs:  # not one that was taken back
                self._runs[event.task].pid = event.pid
                yield event
        elif isinstance(event, TaskExited):
            yield self._exited(name, event)
        elif isinstance(event, PreparationExited):
            yield self._prepared(name, event)
        elif isinstance(event, TaskSuspended):
            if event.task in self._runs:
                yield event
        elif isinstance(event, LauncherNote):
            yield replace(event, text=f"{name}: {event.text}")

    def _exited(self, name: str, event: TaskExited) -> TaskExited | None:
        run = self._runs.pop(event.task, None)
        if run is None:
            return None  # told as lost before
        host, record = self._hosts[name], event.record
        record = replace(record, attempt=run.attempt, start=run.start, time=record.time - host.skew)
        if host.welcome.get("ending") and record.requested and not run.asked_to_end:
            since = _clock_time(self._unheard.get(name, host.heard_at))
            what = f"it did not hear from the launcher from {since} on, and ended its tasks"
            lost = f"host {name} was lost: {what}"
            record = replace(record, requested=False, host_lost=lost)
        return self._ended(event.task, run, record)

    def _ended(self, task: TaskId, run: _Run, record: ExitRecord) -> TaskExited:
        self._mirror.end_of_output(run.log)
        try:
            self._paths.records(task).write(record)
        except OSError as error:
            self._note(f"cannot write the exit record of {task}: {error.strerror}")
        return TaskExited(task, record)

    def _prepared(self, name: str, event: PreparationExited) -> PreparationExited | None:
        if event.record.code == 0:
            self.prepared.add(name)
        if self._preparing:
            self._preparing.popleft()
        if event.record.code == 0 and self._preparing and self._start_preparation is not None:
            self._start_preparation(self._preparing[0])
            return None
        self._preparing.clear()
        self._mirror.end_of_output(self._paths.preparation_log)
        return event

    # Connections

    def _on(self, name: str) -> frozenset[TaskId]:
        return frozenset(task for task, run in self._runs.items() if run.host == name)

    def _broken(self, name: str, reason: str) -> Iterator[TaskEvent]:
        host = self._hosts[name]
        if name in self._unheard or host.over or not host.welcomed:
            return
        self._unheard[name] = host.heard_at
        yield LauncherNote(f"{name}: the connection is lost ({reason}); connecting again", passing=True)
        if self._on(name):
            yield TasksOutOfReach(self._on(name), True)

    def _back(self, name: str) -> Iterator[TaskEvent]:
        since = self._unheard.get(name)
        if since is None:
            return
        if self._hosts[name].welcome.get("ending"):
            yield LauncherNote(f"{name}: connected again, too late: it has ended its tasks")
            return
        del self._unheard[name]
        away = max(0.0, self._hosts[name].heard_at - since)
        yield LauncherNote(f"{name}: connected again after {away:.1f} s; nothing was lost", passing=True)
        yield TasksOutOfReach(self._on(name), False)

    def _lost(self, name: str) -> Iterator[TaskEvent]:
        """Whatever ran on a host has ended, and nobody will tell how."""
        host, tasks = self._hosts[name], sorted(self._on(name))
        if not host.welcomed:
            return  # it was only tried
        since = _clock_time(self._unheard.pop(name, host.heard_at))
        had = f"; on it: {', '.join(map(str, tasks))}" if tasks else ""
        why = f" ({host.reason})" if host.reason else ""
        text = f"host {name} was lost: nothing was heard from it from {since} on{why}{had}"
        for task in tasks:
            run = self._runs.pop(task)
            record = ExitRecord(time.time(), run.attempt, run.start, run.pid, LOST_CODE, host_lost=text)
            yield self._ended(task, run, record)
        if self._preparing and self._preparing[0] == name:
            self._preparing.clear()
            yield PreparationExited(ExitRecord(time.time(), 0, 0, 0, LOST_CODE, host_lost=text))
        if not tasks:
            yield LauncherNote(text)

    def _note(self, text: str) -> None:
        self._events.append(LauncherNote(text))


def _noted(text: str | None) -> LauncherNote | None:
    return None if text is None else LauncherNote(text)


def _clock_time(seconds: float) -> str:
    """A time of day as people of one time zone can compare it with their logs."""
    return time.strftime("%H:%M:%S UTC", time.gmtime(seconds))
