"""What happens in a run: events for the display and for `events.jsonl`."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from enum import Enum
from pathlib import Path
from typing import IO, Any

from orchestrator.cluster.task import TaskId


class EventKind(str, Enum):
    """The kinds of event; the value stands in `events.jsonl`."""

    RUN_STARTED = "run_started"
    PREPARING = "preparing"
    PREPARED = "prepared"
    ATTEMPT_STARTED = "attempt_started"
    TASK_STARTED = "task_started"
    TASK_EXITED = "task_exited"
    TASK_RESTARTING = "task_restarting"
    ATTEMPT_RESTARTING = "attempt_restarting"
    TASK_LEFT = "task_left"
    """A side-car that is not restarted any more."""
    TASK_HUNG = "task_hung"
    """A limit without progress has passed; every task is asked for its stacks."""
    TRAINING_OVER = "training_over"
    STOPPING = "stopping"
    NOTE = "note"
    FINISHED = "finished"

    def __str__(self) -> str:
        return self.value


IMPORTANT = frozenset({
    EventKind.PREPARING, EventKind.TASK_RESTARTING, EventKind.ATTEMPT_RESTARTING, EventKind.TASK_LEFT,
    EventKind.TASK_HUNG, EventKind.TRAINING_OVER, EventKind.STOPPING, EventKind.NOTE,
})  # fmt: skip
"""Events that people are told of as they happen."""


@dataclass(frozen=True)
class RunEvent:
    """One thing that happened. `time` is seconds since the epoch."""

    time: float
    kind: EventKind
    text: str
    """For people: one sentence or clause."""
    task: TaskId | None = None
    data: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The object that stands in `events.jsonl`."""
        when = datetime.fromtimestamp(self.time, timezone.utc).isoformat(timespec="milliseconds")
        value: dict[str, Any] = {"time": when, "event": self.kind.value}
        if self.task is not None:
            value["task"] = str(self.task)
        return {**value, "text": self.text, **self.data}


class EventLog:
    """Appends events to a file, one JSON object a line.

    A file that cannot be written (disk full) never ends a run: `write` returns
    the error the first time, and stays silent afterwards.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stream: IO[str] | None = None
        self._failed = False

    def write(self, event: RunEvent) -> OSError | None:
        """Appends one event; the error of the first write that failed, else None."""
        try:
            if self._stream is None:
                self._stream = self._path.open("a", encoding="utf-8")
            self._stream.write(json.dumps(event.as_json()) + "\n")
            self._stream.flush()
        except OSError as error:
            self.close()
            if self._failed:
                return None
            self._failed = True
            return error
        return None

    def close(self) -> None:
        """Closes the file; may be called twice."""
        stream, self._stream = self._stream, None
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()
