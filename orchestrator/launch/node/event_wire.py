"""What a launcher's `poll` tells, as a header and a payload, and back. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from orchestrator.cluster.records import ExitRecord
from orchestrator.cluster.task import TaskId
from orchestrator.launch.job import StartMethod
from orchestrator.launch.launcher import (
    LauncherNote,
    PeakUsage,
    PreparationExited,
    PreparationOutput,
    TaskEvent,
    TaskExited,
    TaskOutput,
    TaskStarted,
    TaskSuspended,
)
from orchestrator.launch.node.frames import Header


def encode_event(event: TaskEvent) -> tuple[Header, bytes]:
    """The header, `event` among its keys, and the payload.

    Raises TypeError for what is never told of a single machine.
    """
    if isinstance(event, TaskStarted):
        how = {"pid": event.pid, "method": str(event.start_method), "why": event.why}
        return {"event": "started", "task": str(event.task), **how}, b""
    if isinstance(event, TaskOutput):
        return {"event": "output", "task": str(event.task)}, event.text.encode()
    if isinstance(event, TaskExited):
        return {"event": "exited", "task": str(event.task), "record": asdict(event.record)}, b""
    if isinstance(event, LauncherNote):
        return {"event": "note", "text": event.text, "passing": event.passing}, b""
    if isinstance(event, PreparationOutput):
        return {"event": "prep_output"}, event.text.encode()
    if isinstance(event, PreparationExited | TaskSuspended):
        return _encode_rare(event), b""
    raise TypeError(f"{type(event).__name__} is told by no host")


def _encode_rare(event: PreparationExited | TaskSuspended) -> Header:
    if isinstance(event, TaskSuspended):
        return {"event": "suspended", "task": str(event.task), "suspended": event.suspended}
    return {"event": "prep_exited", "record": asdict(event.record)}


def decode_event(header: Header, payload: bytes) -> TaskEvent | None:
    """What `encode_event` was given; None for a frame that says something else.

    Raises KeyError, TypeError, ValueError or ConfigError where a part is missing or wrong.
    """
    decode = _DECODERS.get(header.get("event", ""))
    return None if decode is None else decode(header, payload)


_DECODERS: Mapping[str, Callable[[Header, bytes], TaskEvent]] = {
    "started": lambda header, _: TaskStarted(
        TaskId.parse(header["task"]), header["pid"], StartMethod(header["method"]), header["why"]
    ),
    "output": lambda header, payload: TaskOutput(TaskId.parse(header["task"]), payload.decode()),
    "exited": lambda header, _: TaskExited(TaskId.parse(header["task"]), ExitRecord(**header["record"])),
    "suspended": lambda header, _: TaskSuspended(TaskId.parse(header["task"]), header["suspended"]),
    "note": lambda header, _: LauncherNote(header["text"], header["passing"]),
    "prep_output": lambda _, payload: PreparationOutput(payload.decode()),
    "prep_exited": lambda header, _: PreparationExited(ExitRecord(**header["record"])),
}


def encode_peaks(peaks: Mapping[TaskId, PeakUsage]) -> dict[str, Any]:
    """The peaks of tasks as plain JSON."""
    return {str(task): asdict(peak) for task, peak in peaks.items()}


def decode_peaks(value: Mapping[str, Any]) -> dict[TaskId, PeakUsage]:
    """The peaks that `encode_peaks` was given."""
    return {TaskId.parse(task): PeakUsage(**peak) for task, peak in value.items()}
