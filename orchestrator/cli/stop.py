"""`stop`: ends a run from another terminal, with a checkpoint; from its directory alone."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.run_argument import RunArgument
from orchestrator.cluster.files import read_json
from orchestrator.errors import EnvironmentProblem, WaitTimeout
from orchestrator.launch.job import RunPolicy
from orchestrator.launch.process_record import left_over, recorded
from orchestrator.launch.process_tree import kill_until_gone, processes_of_run
from orchestrator.launch.run_dir import RunDir
from orchestrator.launch.run_state import RunState, find_run
from orchestrator.launch.summary import format_seconds

SWEEP_SECONDS = 10.0
"""How long killed processes may take to be gone."""
EXTRA_SECONDS = 30.0
"""What a launcher may take beyond the grace period of its tasks."""
_POLL_SECONDS = 0.1


def stop(
    run: RunArgument,
    *,
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout",
            metavar="SECONDS",
            help="How long to wait for the launcher. Default: the run's grace period and 30 s.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Ask a run for a checkpoint and its end, and wait for it; clears up after a launcher that crashed."""
    run_dir = find_run(run)
    state = RunState.read(run_dir)
    if state.host != os.uname().nodename:
        raise EnvironmentProblem(f"{run_dir.path.name} runs on {state.host}; stop it there.")
    if state.alive and not state.phase.final:
        ask_launcher(run_dir, state, timeout if timeout is not None else _grace(run_dir) + EXTRA_SECONDS)
        ended = RunState.read(run_dir)
        if ended.phase.final:
            typer.echo(f"{state.name}: {ended.phase}")
            return
    sweep(run_dir, state)


def ask_launcher(
    run_dir: RunDir,
    state: RunState,
    limit: float,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Sends SIGTERM to the launcher of a run and waits until it has ended.

    Raises WaitTimeout after `limit` seconds.
    """
    typer.echo(
        f"asked {state.name} (process {state.process.pid}) to end, with a checkpoint where it writes them;"
        f" waiting up to {format_seconds(limit)} for its launcher to end"
    )
    try:
        if state.process.alive():
            os.kill(state.process.pid, signal.SIGTERM)
    except ProcessLookupError:
        return
    except PermissionError as error:
        pid = state.process.pid
        raise EnvironmentProblem(
            f"process {pid} of run {run_dir.path.name} belongs to another user."
        ) from error
    pid, end = state.process.pid, time.monotonic() + limit
    while state.process.alive():
        if time.monotonic() > end:
            raise WaitTimeout(
                f"the launcher of {run_dir.path.name} (process {pid}) did not end within"
                f" {format_seconds(limit)}; see `status`, or kill -9 {pid}: its tasks die with it."
            )
        sleep(_POLL_SECONDS)


def sweep(run_dir: RunDir, state: RunState) -> None:
    """Kills what a crashed launcher left: processes that are still those of the run's record, and theirs.

    Raises WaitTimeout when one survives, and EnvironmentProblem that names
    processes which carry the run in their environment but are not in its record.
    """
    mark, processes = Path(state.run_dir), recorded(run_dir.processes)
    found = left_over(processes, mark)
    left = kill_until_gone(lambda: left_over(processes, mark), SWEEP_SECONDS)
    if left:
        pids = ", ".join(str(entry.pid) for entry in left)
        raise WaitTimeout(f"still running {format_seconds(SWEEP_SECONDS)} after SIGKILL: {pids}.")
    strangers = processes_of_run(mark)
    if strangers:
        pids = " ".join(str(entry.pid) for entry in strangers)
        raise EnvironmentProblem(
            f"{state.name}: killed {_count(len(found))}. Left alone, since the run's record does not know"
            f" them although their environment names the run: {pids}. To end them: kill -9 {pids}"
        )
    if found:
        typer.echo(f"{state.name}: its launcher was gone; killed {_count(len(found))} that it left")
    else:
        typer.echo(f"{state.name}: nothing of it is running" + (" here" if state.launcher == "ssh" else ""))
    if state.launcher == "ssh":
        typer.echo(
            "  its hosts end what ran there by themselves: after ssh.lease_seconds without the launcher, and"
            " run_policy.grace_seconds"
        )


def _count(number: int) -> str:
    return f"{number} process{'es' * (number != 1)}"


def _grace(run_dir: RunDir) -> float:
    """The grace period of the run's policy; that of a run without a readable plan is the default."""
    plan = read_json(run_dir.plan)
    try:
        return float(plan["policy"]["grace_seconds"]) if isinstance(plan, dict) else RunPolicy().grace_seconds
    except (KeyError, TypeError, ValueError):
        return RunPolicy().grace_seconds
