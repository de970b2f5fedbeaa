"""Test doubles for people who build on orchestrator: a launcher that plays scripts, a clock that is set."""

from __future__ import annotations

from orchestrator.testing.fake_clock import FakeClock
from orchestrator.testing.fake_launcher import FakeLauncher
from orchestrator.testing.recording_observer import RecordingObserver
from orchestrator.testing.script import TaskScript, ends, evaluation, failure, output, progress

__all__ = [
    "FakeClock",
    "FakeLauncher",
    "RecordingObserver",
    "TaskScript",
    "ends",
    "evaluation",
    "failure",
    "output",
    "progress",
]
