"""Tests for orchestrator.launch.node.agent_telling."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from orchestrator.cluster.records import ExitRecord
from orchestrator.cluster.task import TaskId, TaskType
from orchestrator.errors import StartError
from orchestrator.launch.launcher import PreparationOutput, TaskEvent, TaskExited, TaskOutput
from orchestrator.launch.local import LocalLauncher
from orchestrator.launch.node.agent_telling import AgentTelling
from orchestrator.launch.node.frames import FrameReader
from orchestrator.launch.node.outbox import Outbox
from orchestrator.launch.node.places import Places

TASK = TaskId(TaskType.WORKER, 0)


class Script:
    """A launcher that tells what it was given."""

    def __init__(self) -> None:
        self.running: frozenset[TaskId] = frozenset()
        self.events: list[TaskEvent] = []
        self.error: StartError | None = None

    def poll(self, timeout: float) -> list[TaskEvent]:
        assert timeout == 0
        if self.error is not None:
            raise self.error
        events, self.events = self.events, []
        return events

    def sample(self, now: float) -> None:
        pass


def told(outbox: Outbox) -> list[tuple[dict[str, Any], bytes]]:
    return FrameReader().feed(outbox.everything())


@pytest.fixture
def places(tmp_path: Path) -> Places:
    made = Places.of(tmp_path, "run-1-h1")
    made.create()
    return made


def test_output_that_is_too_much_is_told_with_the_log_that_has_it(places: Places) -> None:
    script, outbox = Script(), Outbox(output_limit=10)
    telling = AgentTelling(places, cast(LocalLauncher, script), outbox)
    script.events = [
        TaskOutput(TASK, "1234567\n"),
        TaskOutput(TASK, "lost\n"),
        PreparationOutput("gone too\n"),
    ]
    telling.tell()
    assert [payload for _, payload in told(outbox)] == [b"1234567\n"]
    outbox.acknowledge(1)
    script.events = [TaskOutput(TASK, "again\n"), TaskExited(TASK, ExitRecord(1.0, 0, 0, 7, 0))]
    telling.tell()
    (output, text), (note, _), (exited, _) = told(outbox)
    assert (output["event"], text, exited["event"]) == ("output", b"again\n", "exited")
    assert "5 bytes" in note["text"]
    assert str(places.run_dir / "logs" / "worker-0.log") in note["text"]


def test_output_that_was_left_out_last_is_told_before_the_end(places: Places) -> None:
    script, outbox = Script(), Outbox(output_limit=1)
    telling = AgentTelling(places, cast(LocalLauncher, script), outbox)
    script.events = [TaskOutput(TASK, "lost\n"), TaskExited(TASK, ExitRecord(1.0, 0, 0, 7, 0))]
    telling.tell()
    assert [header["event"] for header, _ in told(outbox)] == ["note", "exited"]


def test_a_record_is_told_before_the_end_of_its_task(places: Places) -> None:
    script, outbox = Script(), Outbox()
    telling = AgentTelling(places, cast(LocalLauncher, script), outbox)
    (places.run_dir / "tasks" / str(TASK)).mkdir()
    (places.run_dir / "tasks" / str(TASK) / "failure.json").write_bytes(b"{}")
    script.events = [TaskExited(TASK, ExitRecord(1.0, 0, 0, 7, 1))]
    telling.tell()
    assert [(header["event"], payload) for header, payload in told(outbox)] == [
        ("record", b"{}"),
        ("exited", b""),
    ]


def test_a_start_that_failed_is_told(places: Places) -> None:
    script, outbox = Script(), Outbox()
    script.error = StartError("no TensorFlow here.")
    AgentTelling(places, cast(LocalLauncher, script), outbox).tell()
    assert [header["message"] for header, _ in told(outbox)] == ["no TensorFlow here."]
