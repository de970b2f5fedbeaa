"""Tests for orchestrator.launch.node.event_wire."""

from __future__ import annotations

from typing import get_args

import pytest

from orchestrator.cluster.records import ExitRecord
from orchestrator.cluster.task import TaskId, TaskType
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
from orchestrator.launch.node.event_wire import decode_event, decode_peaks, encode_event, encode_peaks
from orchestrator.launch.node.frames import FrameReader, encode

TASK = TaskId(TaskType.WORKER, 3)
EVENTS: list[TaskEvent] = [
    TaskStarted(TASK, 77, StartMethod.FORK, "no GPU is visible"),
    TaskOutput(TASK, "é\n\ufffd two\n"),
    TaskExited(TASK, ExitRecord(12.5, 1, 2, 77, 137, 9, True)),
    TaskSuspended(TASK, True),
    LauncherNote("text", passing=True),
    PreparationOutput("é\n"),
    PreparationExited(ExitRecord(12.5, 0, 0, 78, 0)),
]


def test_every_kind_of_event_is_tried() -> None:
    of_several_hosts = {"TasksOutOfReach"}
    kinds = {kind.__name__ for kind in get_args(TaskEvent)}
    assert {type(event).__name__ for event in EVENTS} == kinds - of_several_hosts


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_arrives_as_it_was(event: TaskEvent) -> None:
    (frame,) = FrameReader().feed(encode(*encode_event(event)))
    assert decode_event(*frame) == event


def test_other_frames_are_no_events() -> None:
    assert decode_event({"event": "held", "ports": {}}, b"") is None
    assert decode_event({"do": "close"}, b"") is None


def test_peaks_arrive_as_they_were() -> None:
    peaks = {TASK: PeakUsage(1 << 40, 99.5, 12.25, None), TaskId(TaskType.PS, 0): PeakUsage(1, 2.0, 3.0, 4)}
    assert decode_peaks(encode_peaks(peaks)) == peaks
