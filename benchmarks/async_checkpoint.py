"""Checkpoints of a 1 GB model written beside training against a training that waits, in one run.

    python -m benchmarks.async_checkpoint [--repeats 2] [--megabytes 1024]

Each saver trains in its own process, in turn. Every step updates every
variable. Reported from the second save on: how much longer the step with the
save takes than the median quiet step, how the steps during a write compare
with quiet ones, and the memory at its highest.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SAVERS = ("none", "blocking", "beside")
ROWS = 4096
VARIABLES = 8
SAVES = 5
ALLOWED_STALL = 0.15


class StepTimes:
    """How long each step took, told apart by what was going on. Quiet ones are those without any write."""

    def __init__(self) -> None:
        self.quiet: list[float] = []
        self.during_write: list[float] = []
        self.with_save: list[float] = []

    def result(self) -> dict[str, float]:
        """Seconds; savings of the first checkpoint left out."""
        quiet = statistics.median(self.quiet)
        stalls = [seconds - quiet for seconds in self.with_save[1:]]
        return {
            "step": quiet,
            "step_during_write": statistics.median(self.during_write or [quiet]),
            "stall": statistics.median(stalls) if stalls else 0.0,
            "longest_stall": max(stalls, default=0.0),
        }


def train(saver: str, megabytes: int, model_dir: str) -> dict[str, float]:
    """Trains with one kind of saver; what `StepTimes.result` returns and the highest memory in megabytes."""
    import tensorflow as tf

    from orchestrator.estimator.estimator import Estimator
    from orchestrator.estimator.run_config import RunConfig
    from orchestrator.estimator.specs import EstimatorSpec

    v1 = tf.compat.v1
    columns = megabytes * 2**20 // 4 // VARIABLES // ROWS
    times = StepTimes()
    watch = _Watch(times, saver)

    def model_fn(features: Any, labels: Any, mode: str) -> Any:
        zeros = v1.zeros_initializer()
        tables = [v1.get_variable(f"table_{n}", [ROWS, columns], initializer=zeros) for n in range(VARIABLES)]
        train_op = tf.no_op()
        for variable in (*tables, v1.train.get_global_step()):  # one after the other: steady memory
            with tf.control_dependencies([train_op]):
                train_op = variable.assign_add(tf.ones(variable.shape, variable.dtype)).op
        return EstimatorSpec(mode, loss=tf.reduce_sum(features), train_op=train_op)

    class Listener(v1.train.CheckpointSaverListener):
        def before_save(self, session: Any, global_step_value: int) -> None:
            watch.saving()

        def after_save(self, session: Any, global_step_value: int) -> None:
            watch.saved()

    class Hook(v1.train.SessionRunHook):
        def before_run(self, run_context: Any) -> None:
            watch.step_starts()

        def after_run(self, run_context: Any, run_values: Any) -> None:
            if watch.is_done():
                run_context.request_stop()

    period = {"save_checkpoints_secs": None} if saver == "none" else {"save_checkpoints_steps": 80}
    config = RunConfig(
        keep_checkpoint_max=1,
        save_checkpoints_async=saver == "beside",
        save_summary_steps=None,
        log_step_count_steps=None,
        **period,
    )
    listeners = [] if saver == "none" else [Listener()]
    input_fn: Callable[[], Any] = lambda: tf.data.Dataset.from_tensors([1.0]).repeat()  # noqa: E731
    Estimator(model_fn, model_dir, config).train(input_fn, hooks=[Hook()], saving_listeners=listeners)
    return {**times.result(), "memory": _highest_memory()}


class _Watch:
    """Sorts the time between the starts of two steps by what happened in between."""

    def __init__(self, times: StepTimes, saver: str) -> None:
        self._times = times
        self._saver = saver
        self._started: float | None = None
        self._save_began = False
        self._writing = False
        self._saves = 0

    def saving(self) -> None:
        self._save_began = self._writing = True
        self._saves += 1

    def saved(self) -> None:
        self._writing = False

    def step_starts(self) -> None:
        now = time.perf_counter()
        if self._started is not None:
            kind = self._times.quiet
            if self._save_began:
                kind = self._times.with_save
            elif self._writing:
                kind = self._times.during_write
            kind.append(now - self._started)
        self._started, self._save_began = now, False

    def is_done(self) -> bool:
        """Also the last save is followed by steps."""
        steps = len(self._times.quiet) + len(self._times.during_write)
        return steps >= 40 if self._saver == "none" else self._saves > SAVES


def _highest_memory() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def measure(saver: str, megabytes: int) -> dict[str, float]:
    """Runs one training in a process of its own."""
    model_dir = tempfile.mkdtemp(prefix="async-checkpoint-")
    command = [sys.executable, "-m", "benchmarks.async_checkpoint", "--train", saver, model_dir]
    try:
        done = subprocess.run(
            [*command, "--megabytes", str(megabytes)], capture_output=True, text=True, timeout=1800
        )
    finally:
        shutil.rmtree(model_dir, ignore_errors=True)
    if done.returncode != 0:
        sys.exit(f"{saver} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def report(rows: dict[str, list[dict[str, float]]], megabytes: int) -> str:
    """The table and the ratios."""
    middle = {
        saver: {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        for saver, runs in rows.items()
    }
    lines = ["| saver | step | step during a write | stall of a save | longest | memory at most |"]
    lines.append("|---|---:|---:|---:|---:|---:|")
    for saver, row in middle.items():
        lines.append(
            f"| {saver} | {row['step']:.3f} s | {row['step_during_write']:.3f} s | {row['stall']:.3f} s"
            f" | {row['longest_stall']:.3f} s | {row['memory']:,.0f} MB |"
        )
    stall = middle["beside"]["stall"] / middle["blocking"]["stall"]
    added = (middle["beside"]["memory"] - middle["blocking"]["memory"]) / megabytes
    slower = middle["beside"]["step_during_write"] / middle["beside"]["step"]
    lines += [
        "",
        f"Stall beside / blocking: {stall:.2f} (allowed: {ALLOWED_STALL}).",
        f"Memory added by writing beside: {added:.2f} of the model.",
        f"A step during a write takes {slower:.2f} times a quiet one.",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--megabytes", type=int, default=1024)
    parser.add_argument("--train", nargs=2, metavar=("SAVER", "MODEL_DIR"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train:
        print(json.dumps(train(options.train[0], options.megabytes, options.train[1])))
        return
    rows: dict[str, list[dict[str, float]]] = {saver: [] for saver in SAVERS}
    for repeat in range(options.repeats):
        for saver in SAVERS:
            rows[saver].append(measure(saver, options.megabytes))
            print(f"{repeat + 1}/{options.repeats} {saver}: {rows[saver][-1]}", flush=True)
    print(report(rows, options.megabytes))


if __name__ == "__main__":
    main()
