"""How a run is asked to end, and how it ended."""

from __future__ import annotations

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
    notes: tuple[str, ...] = ()
    """What people should still know at the end."""
