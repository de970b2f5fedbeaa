"""How a run is asked to end, and how it ended."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestrator.cluster.records import EvaluationRecord
from orchestrator.cluster.task import TaskId
from orchestrator.launch.launcher import PeakUsage
from orchestrator.launch.root_cause import RootCause
from orchestrator.launch.snapshot import RunPhase, Snapshot


@dataclass(frozen=True)
class StopRequest:
    """Somebody wants the run to end: with which exit code, and why in words."""

    exit_code: int
    why: str


@dataclass(frozen=True)
class Restart:
    """One thing that was started again."""

    time: float
    """Seconds since the epoch."""
    task: TaskId
    """Whose failure was the reason."""
    whole_attempt: bool
    reason: str
    checkpoint_step: int | None
    """Step of the newest checkpoint at that time: training went on from there, or from 0."""
    delay_seconds: float = 0.0
    cause: RootCause | None = None
    """All that is known of that failure."""

    def describe(self) -> str:
        """`all tasks, from the checkpoint of step 20: worker-0 ended with SIGKILL`."""
        what = "all tasks" if self.whole_attempt else str(self.task)
        start = (
            "the start" if self.checkpoint_step is None else f"the checkpoint of step {self.checkpoint_step}"
        )
        return f"{what}, from {start}: {self.reason.split('; ', 1)[0]}"


@dataclass(frozen=True)
class RunResult:
    """How a run ended. Durations are seconds."""

    phase: RunPhase
    exit_code: int
    seconds: float
    attempts: int
    restarts: int
    snapshot: Snapshot
    global_step: int | None = None
    checkpoint_step: int | None = None
    evaluation: EvaluationRecord | None = None
    root_cause: RootCause | None = None
    why: str = ""
    """Why it did not succeed, in words."""
    peaks: Mapping[TaskId, PeakUsage] = field(default_factory=dict)
    history: tuple[Restart, ...] = ()
    """What was started again, in order."""
    notes: tuple[str, ...] = ()
    """What people should still know at the end."""

    @property
    def notes_beside_verdict(self) -> tuple[str, ...]:
        """The notes, but of one that shows the same exception as the verdict its first line only."""
        found = self.root_cause.end.exception if self.root_cause is not None else None
        if found is None or not found.traceback.strip():
            return self.notes
        shown = textwrap.indent(found.traceback.rstrip(), "  ")
        return tuple(note.splitlines()[0] if shown in note else note for note in self.notes)
