"""`verdict.json`: what ended a run, what was restarted on the way, and where to look."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

from orchestrator.cluster.files import write_json_atomically
from orchestrator.launch.job import Job
from orchestrator.launch.root_cause import SHOWN_LOG_LINES, RootCause
from orchestrator.launch.run_dir import RunDir
from orchestrator.launch.run_result import Restart, RunResult

FORMAT = 1
MOST_RESTARTS_SHOWN = 10


def restart_lines(restarts: tuple[Restart, ...]) -> Iterator[str]:
    """What was restarted, for people; of many, the last ones."""
    if not restarts:
        return
    left_out = len(restarts) - MOST_RESTARTS_SHOWN
    yield "Restarted before:" if left_out <= 0 else f"Restarted before ({left_out} earlier ones left out):"
    for restart in restarts[-MOST_RESTARTS_SHOWN:]:
        yield f"  {restart.describe()}"


def render(result: RunResult) -> str | None:
    """The verdict for people; None where nothing failed."""
    if result.root_cause is None:
        return None
    return "\n".join([result.root_cause.render(), *restart_lines(result.history)])


def verdict_as_json(job: Job, result: RunResult, now: float) -> dict[str, Any]:
    """Content of `verdict.json`; `now` is seconds since the epoch.

    `first_failure` of a run that got over its failures is the first of those.
    """
    first = result.root_cause or next((r.cause for r in result.history if r.cause is not None), None)
    return {
        "format": FORMAT,
        "name": job.name,
        "state": result.phase.value,
        "exit_code": result.exit_code,
        "why": result.why or None,
        "time": _timestamp(now),
        "strategy": job.strategy.value,
        "attempts": result.attempts,
        "global_step": result.global_step,
        "checkpoint_step": result.checkpoint_step,
        "first_failure": None if first is None else _failure(first),
        "restarts": [
            {
                "time": _timestamp(restart.time),
                "task": str(restart.task),
                "restarted": "attempt" if restart.whole_attempt else "task",
                "reason": restart.reason,
                "from_checkpoint_step": restart.checkpoint_step,
                "delay_seconds": round(restart.delay_seconds, 3),
            }
            for restart in result.history
        ],
        "steps": {
            str(view.task): view.progress.step if view.progress is not None else None
            for view in result.snapshot.tasks
            if view.task.trains
        },
        "text": render(result),
    }


def write_verdict(job: Job, result: RunResult, now: float) -> None:
    """Writes `verdict.json`; OSError as the file system raises it."""
    value = job.masker().plain(verdict_as_json(job, result, now))
    write_json_atomically(RunDir(job.run_dir).verdict, value)


def _failure(cause: RootCause) -> dict[str, Any]:
    end, record, found = cause.end, cause.end.exit, cause.end.exception
    return {
        "task": None if end.label else str(end.task),
        "what": end.label or None,
        "kind": cause.kind.value,
        "headline": cause.headline(),
        "hint": cause.hint(),
        "time": None if end.time == float("inf") else _timestamp(end.time),
        "host": end.host or None,
        "pid": record.pid if record is not None else None,
        "exit_code": record.code if record is not None else None,
        "signal": record.signal if record is not None else None,
        "step": end.step,
        "exception": None if found is None else {"type": found.type, "message": found.message},
        "traceback": None if found is None else found.traceback,
        "last_lines": list(end.log_tail[-SHOWN_LOG_LINES:]),
        "log": end.log_path or None,
        "victims": [str(task) for task in cause.victims],
        "same_failure": [str(task) for task in cause.same],
        "also_failed": [str(task) for task in cause.also_failed],
    }


def _timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="milliseconds")
