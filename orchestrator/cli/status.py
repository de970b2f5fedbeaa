"""`status`: how far a run is, from its directory alone."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Annotated, Any

import typer

from orchestrator.cli import progress_text
from orchestrator.cli.run_argument import RunArgument
from orchestrator.cluster.files import read_json
from orchestrator.launch.log_stream import prefix_width
from orchestrator.launch.run_dir import RunDir
from orchestrator.launch.run_state import RunState, find_run
from orchestrator.launch.snapshot import Snapshot, TaskView
from orchestrator.launch.summary import format_seconds, shown_path

CRASHED = "crashed"
"""State of a run whose launcher is gone without having said how it ended."""


def status(
    run: RunArgument,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, for machines.")] = False,
) -> None:
    """Show how far a run is: from any terminal, while it runs or afterwards."""
    run_dir = find_run(run)
    state = RunState.read(run_dir)
    snapshot = state.snapshot(run_dir)
    if as_json:
        typer.echo(json.dumps(as_plain(run_dir, state, snapshot), indent=2))
        return
    for line in describe(run_dir, state, snapshot, time.time()):
        typer.echo(line)


def as_plain(run_dir: RunDir, state: RunState, snapshot: Snapshot) -> dict[str, Any]:
    """Everything that is known, as JSON; `summary` is null until the run has ended."""
    evaluation = snapshot.evaluation
    return {
        "name": state.name,
        "state": CRASHED if state.crashed else state.phase.value,
        "launcher_alive": state.alive,
        "pid": state.process.pid,
        "host": state.host,
        "started": _timestamp(state.started),
        "updated": _timestamp(state.updated),
        "attempt": state.attempt,
        "restarts": state.restarts,
        "exit_code": state.exit_code,
        "strategy": state.strategy,
        "model_dir": state.model_dir,
        "run_dir": str(run_dir.path),
        "global_step": snapshot.step,
        "evaluation": dataclasses.asdict(evaluation) if evaluation is not None else None,
        "tasks": {
            str(view.task): {
                "state": _state(state, view),
                "pid": view.pid,
                "starts": view.starts,
                "exit": view.code,
                "address": view.address,
                "host": view.host,
                "progress": dataclasses.asdict(view.progress) if view.progress is not None else None,
                "evaluation": dataclasses.asdict(view.evaluation) if view.evaluation is not None else None,
            }
            for view in snapshot.tasks
        },
        "summary": read_json(run_dir.summary),
    }


def describe(run_dir: RunDir, state: RunState, snapshot: Snapshot, now: float) -> Iterator[str]:
    """The report for people; `now` is seconds since the epoch."""
    yield f"{state.name}: {_headline(state, now)}"
    if state.crashed:
        yield f"  its launcher (process {state.process.pid}) is gone, and its tasks with it;"
        yield "  the same command again goes on from the last checkpoint, if there is any"
    yield f"  run     {shown_path(str(run_dir.path))}"
    yield f"  model   {shown_path(state.model_dir)}"
    if not state.crashed or snapshot.step is not None:
        yield f"  so far  {progress_text.progress_line(snapshot)}"
    width = prefix_width([view.task for view in snapshot.tasks])
    hosts = progress_text.host_width(snapshot.tasks)
    for view in snapshot.tasks:
        shown = dataclasses.replace(view, state=_state(state, view))
        yield f"  {progress_text.task_line(shown, width, hosts)}"
    summary = read_json(run_dir.summary)
    if state.phase.final and isinstance(summary, dict):
        for line in str(summary.get("verdict") or "").splitlines():
            yield f"  {line}"


def _state(state: RunState, view: TaskView) -> str:
    """That of a task: what ran under a launcher that is gone is lost."""
    return "lost" if state.crashed and view.state == "running" else view.state


def _headline(state: RunState, now: float) -> str:
    again = f", {state.restarts} restart{'s' * (state.restarts > 1)}" if state.restarts else ""
    if state.crashed:
        return CRASHED + again
    if state.phase.final:
        return f"{state.phase} after {format_seconds(state.updated - state.started)}{again}"
    return f"{state.phase} for {format_seconds(max(0.0, now - state.started))}{again}"


def _timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")
