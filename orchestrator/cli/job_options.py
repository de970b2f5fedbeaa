"""From a cluster file and command-line options to a Job: pure, but for reading files."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from orchestrator.cluster.config import ClusterConfig
from orchestrator.launch.job import Job


@dataclass(frozen=True)
class JobOptions:
    """What was given on the command line of `run`, `render` or `check`."""

    config: Path
    experiment: str | None = None
    model_dir: str | None = None
    run_dir: str | None = None
    data_dir: str | None = None
    overrides: tuple[str, ...] = ()
    """`--set KEY=VALUE`, in order."""
    command: tuple[str, ...] = ()
    """The words after `--`; empty for an experiment."""


@dataclass(frozen=True)
class ResolvedJob:
    """A job, the file it came from, and what its experiment program is to read."""

    job: Job
    config: ClusterConfig
    experiment: dict[str, Any] | None
    """Content of `RunDir.experiment`, to be written by `run`; None for a command."""
    notes: tuple[str, ...] = ()
    """One line each, to be shown to the user before the start."""


def resolve(
    options: JobOptions,
    *,
    working_dir: Path | None = None,
    now: datetime | None = None,
    need_packages: bool = True,
) -> ResolvedJob:
    """Reads the cluster file and the options, and checks all that can be checked without starting anything.

    `working_dir` and `now` (aware, UTC) are injected by tests. Without
    `need_packages` a missing package of the embedded default is no error.
    Raises ClusterConfigError, ExperimentError, ConfigError and
    EnvironmentProblem.
    """
