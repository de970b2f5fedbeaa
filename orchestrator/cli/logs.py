"""`logs`: what the tasks of a run wrote, from its directory alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.run_argument import RunArgument
from orchestrator.cluster.task import TaskId
from orchestrator.errors import ConfigError, near_miss
from orchestrator.launch.log_stream import part_of, prefixed, read_logs
from orchestrator.launch.run_dir import RunDir
from orchestrator.launch.run_state import RunState, find_run


def logs(
    run: RunArgument,
    task: Annotated[
        str | None,
        typer.Argument(
            metavar="[TASK]", help="One task, for example worker-1. Default: all.", show_default=False
        ),
    ] = None,
    *,
    start: Annotated[
        int | None,
        typer.Option(
            "--start",
            metavar="N",
            min=1,
            help="Only what was written during the N-th start of each task.",
            show_default=False,
        ),
    ] = None,
    attempt: Annotated[
        int | None,
        typer.Option(
            "--attempt",
            metavar="N",
            min=1,
            help="Only what was written during the N-th attempt at the job.",
            show_default=False,
        ),
    ] = None,
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="Go on with what is being written, to the run's end.")
    ] = False,
) -> None:
    """Print what the tasks wrote; several logs have each line's task in front."""
    run_dir = find_run(run)
    state = RunState.read(run_dir)
    names = log_names(run_dir, state)
    if task is not None:
        task = task.replace(":", "-")
        if task not in names:
            hint = f"{near_miss(task, names)} It has: {', '.join(names)}."
            raise ConfigError(f"run {run_dir.path.name} has no log '{task}'.{hint}")
        names = [task]
    width = max(map(len, names), default=0)

    def finished() -> bool:
        now = RunState.read(run_dir)
        return now.phase.final or now.crashed

    paths = {name: run_dir.logs / f"{name}.log" for name in names}
    try:
        lines = read_logs(paths, finished if follow else None)
        for name, line in lines if start is attempt is None else part_of(lines, start=start, attempt=attempt):
            typer.echo(line if task is not None else prefixed(name, line, width))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def log_names(run_dir: RunDir, state: RunState) -> list[str]:
    """The logs there are: of what ran before and beside the tasks, then one a task (also an empty one)."""
    paths = (run_dir.preparation_log, run_dir.warm_parent_log, run_dir.tensorboard_log)
    others = [path for path in paths if _has_text(path)]
    return [*(path.stem for path in others), *map(str, sorted(map(TaskId.parse, state.tasks)))]


def _has_text(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except OSError:
        return False
