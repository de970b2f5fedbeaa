"""What happens on a host, put into the outbox: events, records, samples."""

from __future__ import annotations

import time

from orchestrator.cluster.task import TaskId
from orchestrator.errors import StartError
from orchestrator.launch.launcher import PreparationOutput, TaskEvent, TaskExited, TaskOutput
from orchestrator.launch.local import LocalLauncher
from orchestrator.launch.log_stream import LineReader
from orchestrator.launch.node.event_wire import encode_event, encode_peaks
from orchestrator.launch.node.outbox import Outbox
from orchestrator.launch.node.places import Places
from orchestrator.launch.node.record_mirror import RecordMirror
from orchestrator.launch.run_dir import RunDir

LOOK_SECONDS = 0.2
"""From one look at the records to the next."""
SAMPLE_SECONDS = 1.0


class AgentTelling:
    """Asks the launcher and the run directory what is new."""

    def __init__(self, places: Places, launcher: LocalLauncher, outbox: Outbox) -> None:
        self._paths = RunDir(places.run_dir)
        self._launcher = launcher
        self._outbox = outbox
        self._mirror = RecordMirror(places.run_dir)
        self._samples = LineReader(self._paths.resources)
        self._looked_at = self._sampled_at = float("-inf")

    def tell(self) -> None:
        """Tells what has happened since the last call; never waits."""
        try:
            events = self._launcher.poll(0)
        except StartError as error:
            self._outbox.add({"event": "start_failed", "message": str(error)})
            return
        for event in events:
            self._tell_event(event)
        now = time.monotonic()
        if now - self._looked_at >= LOOK_SECONDS:
            self._looked_at = now
            for task in self._launcher.running:
                self.tell_records(task)
        self._sample(now)

    def tell_records(self, task: TaskId) -> None:
        """Tells which records of a task are new."""
        for change in self._mirror.changes(task):
            header = {"event": "record", "task": str(task), "name": change.name}
            if change.data is None:
                self._outbox.add({**header, "gone": True})
            else:
                self._outbox.add(header, change.data)

    def _tell_event(self, event: TaskEvent) -> None:
        header, payload = encode_event(event)
        if isinstance(event, TaskOutput):
            self._tell_output(str(event.task), header, payload)
        elif isinstance(event, PreparationOutput):
            self._tell_output("prepare", header, payload)
        else:
            if isinstance(event, TaskExited):
                self.tell_records(event.task)
                self._tell_left_out(str(event.task))
            self._outbox.add(header, payload)

    def _tell_output(self, source: str, header: dict[str, object], payload: bytes) -> None:
        if self._outbox.add_output(source, header, payload):
            self._tell_left_out(source)

    def _tell_left_out(self, source: str) -> None:
        size = self._outbox.take_left_out(source)
        if size:
            text = (
                f"{size} bytes of output of {source} came faster than the connection takes them;"
                f" they stand in {self._paths.logs / source}.log on the host alone"
            )
            self._outbox.add({"event": "note", "text": text, "passing": False})

    def _sample(self, now: float) -> None:
        self._launcher.sample(now)
        if now - self._sampled_at < SAMPLE_SECONDS:
            return
        self._sampled_at = now
        lines = self._samples.read()
        if lines:
            self._outbox.add({"event": "sample"}, "".join(f"{line}\n" for line in lines).encode())
            self._outbox.add({"event": "usage", "peaks": encode_peaks(self._launcher.peaks())})
