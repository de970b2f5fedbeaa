"""Jobs for tests of the launching side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from orchestrator.cluster.task import TaskId, TaskType
from orchestrator.launch.job import Job, RunPolicy, StrategyKind, TaskRequest
from orchestrator.launch.run_dir import RunDir


def task(text: str) -> TaskId:
    return TaskId.parse(text)


def make_job(
    run_dir: Path,
    strategy: StrategyKind = StrategyKind.ASYNCHRONOUS,
    policy: RunPolicy | None = None,
    *,
    is_experiment: bool = True,
    prepare_command: tuple[str, ...] | None = None,
    **replicas: int,
) -> Job:
    """A job with so many tasks of each type; makes its run directory."""
    run = RunDir(run_dir)
    if not run.path.exists():
        run.create()
    options: dict[str, Any] = {"prepare_command": prepare_command}
    return Job(
        name="test",
        tasks={TaskType(name): TaskRequest(count) for name, count in replicas.items()},
        command=("true",),
        strategy=strategy,
        run_dir=run_dir,
        working_dir=run_dir,
        model_dir=str(run_dir / "model"),
        is_experiment=is_experiment,
        policy=policy or RunPolicy(),
        **options,
    )
