"""An observer that keeps what it is told."""

from __future__ import annotations

from orchestrator.launch.events import EventKind, RunEvent
from orchestrator.launch.snapshot import Snapshot


class RecordingObserver:
    """Keeps events, output and the snapshots of a run, in order."""

    def __init__(self) -> None:
        self.events: list[RunEvent] = []
        self.lines: list[tuple[str, str]] = []
        self.snapshots: list[Snapshot] = []

    def event(self, event: RunEvent) -> None:
        """Keeps an event."""
        self.events.append(event)

    def output(self, source: str, text: str) -> None:
        """Keeps what a task wrote."""
        self.lines.append((source, text))

    def progress(self, snapshot: Snapshot) -> None:
        """Keeps a snapshot."""
        self.snapshots.append(snapshot)

    def texts(self, kind: EventKind) -> list[str]:
        """The texts of all events of one kind."""
        return [event.text for event in self.events if event.kind is kind]
