"""`list`: the runs there are, from their directories alone."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from orchestrator.cli.status import CRASHED
from orchestrator.errors import RunDirectoryError
from orchestrator.launch.run_dir import RunDir
from orchestrator.launch.run_state import RunState, runs_under
from orchestrator.launch.summary import format_seconds

MOST_RUNS = 20


@dataclass(frozen=True)
class ListedRun:
    """One line of the list. Times are seconds since the epoch."""

    run_dir: RunDir
    state: str
    name: str
    started: float
    ended: float | None
    step: int | None
    restarts: int

    @staticmethod
    def of(run_dir: RunDir) -> ListedRun:
        """What the run's records say; RunDirectoryError where they cannot be read."""
        state = RunState.read(run_dir)
        over = state.phase.final or state.crashed
        return ListedRun(
            run_dir=run_dir,
            state=CRASHED if state.crashed else state.phase.value,
            name=state.name,
            started=state.started,
            ended=state.updated if over else None,
            step=state.snapshot(run_dir).step,
            restarts=state.restarts,
        )

    def as_plain(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        return {
            "run": self.run_dir.path.name,
            "run_dir": str(self.run_dir.path),
            "name": self.name,
            "state": self.state,
            "started": self.started,
            "ended": self.ended,
            "global_step": self.step,
            "restarts": self.restarts,
        }


def list_runs(
    place: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where runs lie.", show_default=True)] = Path(
        "runs"
    ),
    *,
    everything: Annotated[
        bool, typer.Option("--all", help=f"All runs, not only the newest {MOST_RUNS}.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON list, for machines.")] = False,
) -> None:
    """List runs, the newest first: state, how long, how far."""
    found = find(place)
    shown = found if everything else found[:MOST_RUNS]
    if as_json:
        typer.echo(json.dumps([run.as_plain() for run in shown], indent=2))
        return
    for line in describe(shown, len(found), place, time.time()):
        typer.echo(line)


def find(place: Path) -> list[ListedRun]:
    """The runs under a directory, the newest first; what is damaged is left out."""
    listed = []
    for path in runs_under(place):
        try:
            listed.append(ListedRun.of(RunDir(path.absolute())))
        except RunDirectoryError:
            continue
    return sorted(listed, key=lambda run: run.started, reverse=True)


def describe(runs: Sequence[ListedRun], total: int, place: Path, now: float) -> Iterator[str]:
    """The list for people; `now` is seconds since the epoch."""
    if not runs:
        yield f"no runs under {place}"
        return
    width = max(len(run.run_dir.path.name) for run in runs)
    for run in runs:
        took = format_seconds(max(0.0, (run.ended if run.ended is not None else now) - run.started))
        step = "" if run.step is None else f"  step {run.step}"
        again = "" if not run.restarts else f"  {run.restarts} restart{'s' * (run.restarts > 1)}"
        yield f"{run.run_dir.path.name:<{width}}  {run.state:<10}  {took:>11}{step}{again}"
    if total > len(runs):
        yield f"and {total - len(runs)} older ones (--all)"
