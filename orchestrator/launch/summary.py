"""`summary.json`, and the last words of a run."""

from __future__ import annotations

import dataclasses
import os
import textwrap
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from typing import Any

from orchestrator.cluster.files import write_json_atomically
from orchestrator.cluster.records import EvaluationRecord
from orchestrator.cluster.task import TaskId
from orchestrator.launch.completion import EXIT_BAD_INPUT, EXIT_INTERRUPTED
from orchestrator.launch.job import Job
from orchestrator.launch.launcher import PeakUsage
from orchestrator.launch.run_dir import RunDir
from orchestrator.launch.run_result import RunResult
from orchestrator.launch.snapshot import RunPhase
from orchestrator.launch.verdict import render

FORMAT = 1
MOST_TASKS = 8
"""So many have their use told one by one; `summary.json` has it for all."""


def summary_as_json(job: Job, result: RunResult, now: float) -> dict[str, Any]:
    """Content of `summary.json`; `now` is seconds since the epoch.

    `metrics` are those of the last evaluation; memory is in bytes.
    """
    evaluation = result.evaluation
    return {
        "format": FORMAT,
        "name": job.name,
        "state": result.phase.value,
        "exit_code": result.exit_code,
        "why": result.why or None,
        "metrics": dict(evaluation.metrics) if evaluation is not None else {},
        "evaluation": _without_metrics(evaluation),
        "global_step": global_step(result),
        "checkpoint_step": result.checkpoint_step,
        "wall_seconds": round(result.seconds, 3),
        "finished": datetime.fromtimestamp(now, timezone.utc).isoformat(timespec="seconds"),
        "attempts": result.attempts,
        "restarts": result.restarts,
        "strategy": job.strategy.value,
        "model_dir": job.model_dir,
        "run_dir": str(job.run_dir),
        "verdict": render(result),
        "notes": list(result.notes),
        "tasks": {
            str(view.task): {
                "exit": view.code,
                "state": view.state,
                "starts": view.starts,
                "peak_memory_bytes": peak.memory_bytes if peak is not None else None,
                "peak_cpu_percent": round(peak.cpu_percent, 1) if peak is not None else None,
                "cpu_seconds": round(peak.cpu_seconds, 2) if peak is not None else None,
                "peak_gpu_memory_bytes": peak.gpu_memory_bytes if peak is not None else None,
            }
            for view in result.snapshot.tasks
            for peak in [result.peaks.get(view.task)]
        },
    }


def write_summary(job: Job, result: RunResult, now: float) -> None:
    """Writes `summary.json`; OSError as the file system raises it."""
    value = summary_as_json(job, result, now)
    texts = {key: job.masker().plain(value[key]) for key in ("why", "verdict", "notes")}
    write_json_atomically(RunDir(job.run_dir).summary, {**value, **texts})


def global_step(result: RunResult) -> int | None:
    """The step that training reached: as reported, else that of the newest checkpoint that is known."""
    evaluated = result.evaluation.global_step if result.evaluation is not None else None
    known = [step for step in (result.global_step, result.checkpoint_step, evaluated) if step is not None]
    if result.global_step is not None:
        return result.global_step
    return max(known, default=None)


def format_metrics(metrics: dict[str, float]) -> str:
    """`accuracy 0.9667  loss 0.112`: accuracy first, loss last, the rest by name."""

    def rank(name: str) -> tuple[int, str]:
        return (0 if "accuracy" in name else 2 if "loss" in name else 1, name)

    return "  ".join(f"{name} {metrics[name]:.4g}" for name in sorted(metrics, key=rank))


def format_seconds(seconds: float) -> str:
    """`8.3 s`, `2:05 min`, `1:02:05 h`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}:{rest:02d} min"
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d} h"


def shown_path(path: str) -> str:
    """`path` as seen from here, where that is shorter."""
    if "://" in path:
        return path
    relative = os.path.relpath(path)
    return relative if len(relative) < len(path) and not relative.startswith("..") else path


def last_words(job: Job, result: RunResult, program: str) -> Iterator[str]:
    """What people read at the end: how it went, what came out, what to do next.

    `program` is how the command line was called (`orchestrator`, `python launch.py`).
    """
    yield _outcome(job, result)
    evaluation = result.evaluation
    if evaluation is not None:
        metrics = format_metrics(dict(evaluation.metrics))
        yield f"  {'result':8}{metrics}  (evaluated at step {evaluation.global_step})"
    elif job.is_experiment and result.phase is RunPhase.SUCCEEDED:
        yield f"  {'result':8}no evaluation was made"
    model, run = shown_path(job.model_dir), shown_path(str(job.run_dir))
    if result.phase is not RunPhase.FAILED or result.checkpoint_step is not None:
        at = "" if result.checkpoint_step is None else f"  (checkpoint at step {result.checkpoint_step})"
        yield f"  {'model':8}{model}{at}"
    yield f"  {'run':8}{run}  (summary.json, logs/)"
    memory = sum(peak.memory_bytes for peak in result.peaks.values())
    if memory:
        yield f"  {'memory':8}{memory / 2**20:,.0f} MiB at most, all tasks together"
    if 1 < len(result.peaks) <= MOST_TASKS:
        yield from _used_by_task(result.peaks)
    yield from _next_steps(job, result, program, model, run)


def _used_by_task(peaks: Mapping[TaskId, PeakUsage]) -> Iterator[str]:
    """The most memory and the processor time of each task, in lines of 80 columns; amounts stay whole."""
    used = [
        f"{task} {peak.memory_bytes / 2**20:,.0f} MiB {peak.cpu_seconds:.0f} s CPU"
        for task, peak in sorted(peaks.items())
    ]
    lines = textwrap.wrap(", ".join(used).replace(" ", "\0").replace(",\0", ", "), width=70)
    for number, line in enumerate(lines):
        yield f"  {'' if number else 'tasks':8}{line}".replace("\0", " ")


def _outcome(job: Job, result: RunResult) -> str:
    took = format_seconds(result.seconds)
    step = global_step(result)
    at = "" if step is None else f" at step {step}"
    again = "" if not result.restarts else f", {result.restarts} restart{'s' * (result.restarts > 1)}"
    if result.phase is RunPhase.SUCCEEDED:
        return f"{job.name}: done in {took}{at}{again}"
    if result.phase is RunPhase.STOPPED:
        return f"{job.name}: stopped by {result.why} after {took}{at}{again}"
    return f"{job.name}: failed after {took}{at}{again}"


def _next_steps(job: Job, result: RunResult, program: str, model: str, run: str) -> Iterator[str]:
    if result.phase is RunPhase.SUCCEEDED:
        if job.is_experiment:
            yield f"  {'next':8}tensorboard --logdir {model}"
            yield f"  {'':8}the same command again goes on from this checkpoint;"
            yield f"  {'':8}--set params.max_steps=N trains further, --model-dir NEW afresh"
        else:
            yield f"  {'next':8}{program} logs {run}"
        return
    yield f"  {'next':8}{program} logs {run}"
    if result.exit_code == EXIT_BAD_INPUT:
        return  # the same command would fail again
    if result.checkpoint_step is not None:
        yield f"  {'':8}the same command again goes on from step {result.checkpoint_step}"
    elif result.exit_code == EXIT_INTERRUPTED:
        yield f"  {'':8}the same command again goes on from the last checkpoint, if there is any"


def _without_metrics(evaluation: EvaluationRecord | None) -> dict[str, Any] | None:
    if evaluation is None:
        return None
    value = dataclasses.asdict(evaluation)
    del value["metrics"]
    return value
