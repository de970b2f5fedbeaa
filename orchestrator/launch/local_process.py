"""What the launcher knows of one process that it has started: a task, or the preparation."""

from __future__ import annotations

import os
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from orchestrator.cluster.records import CONTROL_STOP, ExitRecord, TaskRecords
from orchestrator.launch.control_channel import Message
from orchestrator.launch.job import LogLimits, StartMethod, TaskPlan
from orchestrator.launch.launcher import (
    LauncherNote,
    PreparationExited,
    PreparationOutput,
    TaskEvent,
    TaskExited,
    TaskOutput,
    TaskStarted,
)
from orchestrator.launch.log_stream import start_mark
from orchestrator.launch.task_output import LogFile, OutputPipe
from orchestrator.launch.warm_parent_link import WarmParentLink

DRAIN_SECONDS = 2.0
"""How long output is still read after the end of a process, where something else holds its pipe open."""
_CANNOT_START = 127


class LocalProcess(ABC):
    """One process from the request to its end.

    `id` is its number in the conversation with the warm parent, `label` its
    name there and in texts for people.
    """

    def __init__(
        self,
        id: int,
        label: str,
        command: tuple[str, ...],
        method: StartMethod,
        log: LogFile,
        *,
        secrets: Collection[str] = (),
    ) -> None:
        self.id = id
        self.label = label
        self.command = command
        self.method = method
        self.request: Message = {}
        self.output = OutputPipe(log, secrets)
        self.pid = 0
        """0 until it exists."""
        self.sent = False
        self.requested = False
        self.exit: ExitRecord | None = None
        self.drain_until: float | None = None
        try:
            self._control_read, self._control_write = os.pipe()
        except OSError:
            self.output.finish()
            raise
        self._log_trouble_told = False
        self._early: list[TaskEvent] = []
        """What it wrote before its start was told."""
        self.kill_asked_at: float | None = None

    def send(self, link: WarmParentLink) -> None:
        """Has the warm parent start it."""
        self.sent = True
        link.send(self.request, (self.output.write_fd, self._control_read))
        self.request = {}  # the whole environment: not needed again
        self._release_far_ends()

    def cancel(self, now: float, number: signal.Signals) -> None:
        """Ends it before it was started, as that signal would have."""
        if self.exit is None:
            self._release_far_ends()
            self.ended(-int(number), now)

    def ask_to_stop(self) -> None:
        """Writes the request to the control pipe."""
        with suppress(BrokenPipeError, ValueError):
            os.write(self._control_write, CONTROL_STOP)

    def tell(self, message: Message, now: float) -> list[TaskEvent]:
        """Takes what the warm parent says about it."""
        if message["event"] == "started":
            self.pid = message["pid"]
            method = StartMethod.FORK if message["fork"] else StartMethod.EXEC
            early, self._early = self._early, []
            return [*self._started(method, message["why"]), *early]
        if message["event"] == "failed":
            reason = f"orchestrator: {self.label} cannot be started: {message['reason']}\n"
            self.output.log.append(reason.encode())
            self.ended(_CANNOT_START, now)
            return [self._output_event(reason)]
        self.ended(message["status"], message["time"])
        return []

    def ended(self, status: int, at: float) -> None:
        """Notes the end: `status` is the exit code, or minus the signal's number."""
        number = -status if status < 0 else None
        code = 128 + number if number is not None else status
        self.exit = self._exit_record(code, number, at)
        self.drain_until = time.monotonic() + DRAIN_SECONDS

    def drain_over(self) -> bool:
        """Whether output was waited for long enough after the end."""
        return self.drain_until is not None and time.monotonic() >= self.drain_until

    def take_output(self) -> list[TaskEvent]:
        """Reads what has arrived."""
        events = self._with_trouble(self.output.read())
        if self.pid:
            return events
        self._early += events
        return []

    def finish(self) -> list[TaskEvent]:
        """The last output and the end, once `exit` is known; everything is closed."""
        assert self.exit is not None
        # What is in the pipe by now is the task's, however late it is read.
        text = self.output.read()
        events = [*self._early, *self._with_trouble(text + self.output.finish())]
        log = self.output.log
        if log.error is not None:
            events.append(
                LauncherNote(
                    f"log of {self.label} is incomplete: {log.lost_bytes} bytes could not be written to"
                    f" {log.path}: {log.error}"
                )
            )
        events += self._keep_record(self.exit)
        self.discard()
        return [*events, self._exit_event(self.exit)]

    def discard(self) -> None:
        """Closes everything, reports nothing."""
        self.output.finish()
        self._release_far_ends()
        if self._control_write >= 0:
            os.close(self._control_write)
            self._control_write = -1

    def _release_far_ends(self) -> None:
        self.output.release_write_end()
        if self._control_read >= 0:
            os.close(self._control_read)
            self._control_read = -1

    def _with_trouble(self, text: str) -> list[TaskEvent]:
        events: list[TaskEvent] = [self._output_event(text)] if text else []
        if self.output.log.error is not None and not self._log_trouble_told:
            self._log_trouble_told = True
            events.append(
                LauncherNote(
                    f"log of {self.label} cannot be written: {self.output.log.error};"
                    " training goes on, output stays on the terminal"
                )
            )
        return events

    @abstractmethod
    def _started(self, method: StartMethod, why: str | None) -> list[TaskEvent]: ...

    @abstractmethod
    def _output_event(self, text: str) -> TaskEvent: ...

    @abstractmethod
    def _exit_record(self, code: int, number: int | None, at: float) -> ExitRecord: ...

    @abstractmethod
    def _exit_event(self, record: ExitRecord) -> TaskEvent: ...

    def _keep_record(self, record: ExitRecord) -> list[TaskEvent]:
        return []


class TaskProcess(LocalProcess):
    """One start of a task."""

    def __init__(
        self,
        id: int,
        plan: TaskPlan,
        attempt: int,
        start: int,
        records: TaskRecords,
        *,
        limits: LogLimits,
        secrets: Collection[str] = (),
    ) -> None:
        name = str(plan.task)
        log = LogFile(plan.log_path, limits, start_mark(name, attempt, start, goes_on=True))
        super().__init__(id, name, plan.command, plan.start_method, log, secrets=secrets)
        if start:
            log.append(start_mark(name, attempt, start).encode())
        self.task = plan.task
        self._why = plan.why
        self._attempt = attempt
        self.start = start
        """How often the task was begun before."""
        self._records = records
        self.suspended = False
        """SIGSTOP held it when it was last looked at."""

    def _started(self, method: StartMethod, why: str | None) -> list[TaskEvent]:
        return [TaskStarted(self.task, self.pid, method, f"not forked: {why}" if why else self._why)]

    def _output_event(self, text: str) -> TaskEvent:
        return TaskOutput(self.task, text)

    def _exit_record(self, code: int, number: int | None, at: float) -> ExitRecord:
        return ExitRecord(at, self._attempt, self.start, self.pid, code, number, self.requested)

    def _exit_event(self, record: ExitRecord) -> TaskEvent:
        return TaskExited(self.task, record)

    def _keep_record(self, record: ExitRecord) -> list[TaskEvent]:
        try:
            self._records.write(record)
        except OSError as error:
            return [LauncherNote(f"exit record of {self.label} cannot be written: {error.strerror}")]
        return []


class Preparation(LocalProcess):
    """The job's prepare command."""

    def __init__(
        self,
        id: int,
        log_path: Path,
        command: tuple[str, ...],
        method: StartMethod,
        why: str,
        *,
        secrets: Collection[str] = (),
    ) -> None:
        super().__init__(id, "prepare", command, method, LogFile(log_path), secrets=secrets)
        self.why = why

    def _started(self, method: StartMethod, why: str | None) -> list[TaskEvent]:
        return []

    def _output_event(self, text: str) -> TaskEvent:
        return PreparationOutput(text)

    def _exit_record(self, code: int, number: int | None, at: float) -> ExitRecord:
        return ExitRecord(at, 0, 0, self.pid, code, number, self.requested)

    def _exit_event(self, record: ExitRecord) -> TaskEvent:
        return PreparationExited(record)
