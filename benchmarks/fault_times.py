"""How long a run takes to notice a fault, to end, and to step again.

    python -m benchmarks.fault_times [--repeats 3]

Medians of real runs on this machine. Of the time from a SIGKILL to the next
step it is told apart what the launcher takes (until the new process exists)
and what the program takes from there (TensorFlow's session, and the input).
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from orchestrator.cluster.records import ProgressRecord
from orchestrator.cluster.task import TaskId
from orchestrator.launch.process_tree import processes_of_run
from orchestrator.launch.run_dir import RunDir

LIMIT = 240.0
CLUSTERS = {
    "none": ("tasks: {chief: {}}", "chief-0"),
    "multi_worker_mirrored": ("strategy: multi_worker_mirrored\ntasks: {chief: {}, worker: {}}", "worker-0"),
    "parameter_server": ("strategy: parameter_server\ntasks: {chief: {}, worker: {}, ps: {}}", "worker-0"),
}
GRACE_SECONDS = 2.0
DEAF = """
import signal, subprocess, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen(["sleep", "1000"], start_new_session=True)
print("ready", flush=True)
time.sleep(1000)
"""
Times = dict[str, list[float]]


class Run:
    """`orchestrator run`, with its run directory below `place`."""

    def __init__(self, place: Path, cluster: str, *words: str) -> None:
        self.run_dir = RunDir(place / "run")
        (place / "cluster.yaml").write_text(f"name: measured\n{cluster}\n")
        command = [sys.executable, "-m", "orchestrator.cli.main", "run", str(place / "cluster.yaml")]
        split = words.index("--") if "--" in words else len(words)
        where = ["--run-dir", str(self.run_dir.path), "--model-dir", str(place / "model")]
        with (place / "output.txt").open("wb") as output:
            self.process = subprocess.Popen(
                [*command, *words[:split], *where, *words[split:]],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=Path(__file__).parents[1],
            )
        self._place = place

    def wait_for(self, what: str, found: Callable[[], Any]) -> Any:
        """What `found` returns, once it is something; TimeoutError after LIMIT seconds."""
        end = time.monotonic() + LIMIT
        while not (value := found()):
            if time.monotonic() > end or self.process.poll() is not None:
                output = (self._place / "output.txt").read_text(errors="replace")
                raise TimeoutError(f"no {what}:\n{output[-3000:]}")
            time.sleep(0.01)
        return value

    def pids(self) -> set[int]:
        return {entry.pid for entry in processes_of_run(self.run_dir.path)} - {self.process.pid}

    def event(self, kind: str, task: str, after: float) -> float | None:
        """Time of the first event of that kind later than `after`."""
        path = self.run_dir.events
        for line in path.read_text().splitlines() if path.exists() else []:
            value = json.loads(line)
            at = datetime.fromisoformat(value["time"]).timestamp()
            if value["event"] == kind and value.get("task") == task and at >= after - 0.001:
                return at
        return None

    def pid_of(self, task: str) -> int | None:
        try:
            value = json.loads(self.run_dir.launcher.read_text())["tasks"][task]["pid"]
        except (OSError, KeyError, ValueError):
            return None
        return int(value) if value in self.pids() else None

    def checkpoint(self) -> int:
        record = self.run_dir.records(TaskId.parse("chief-0")).read(ProgressRecord)
        return record.checkpoint_step or 0 if record is not None else 0

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        end = time.monotonic() + LIMIT
        while self.pids() and time.monotonic() < end:
            time.sleep(0.05)


def kills(name: str, repeats: int, data: Path, times: Times) -> None:
    """Kills a task again and again, each time after a new checkpoint."""
    cluster, victim = CLUSTERS[name]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        stamps = place / victim
        words = ["--experiment", "benchmarks.stamped_digits:experiment", "--data-dir", str(data)]
        words += ["--set", f"params.place={place}", "--set", "run_config.save_checkpoints_steps=20"]
        run = Run(place, cluster, *words)
        try:
            for _ in range(repeats):
                before, steps = run.checkpoint(), _lines(stamps)
                run.wait_for("a checkpoint", lambda before=before: run.checkpoint() > before)
                run.wait_for("ten steps", lambda steps=steps: len(_lines(stamps)) > len(steps) + 10)
                pid = run.wait_for("the process", lambda: run.pid_of(victim))
                killed = time.time()
                os.kill(pid, signal.SIGKILL)

                def told(kind: str, killed: float = killed) -> float:
                    at = run.wait_for(kind, lambda: run.event(kind, victim, killed))
                    return float(at) - killed

                noticed, started = told("task_exited"), told("task_started")
                stepped = run.wait_for("a step", lambda at=killed + started: _after(stamps, at)) - killed
                _add(times, f"{name}: SIGKILL of {victim} to its notice", noticed)
                _add(times, f"{name}: SIGKILL of {victim} to the next process", started)
                _add(times, f"{name}: from there to its first step", stepped - started)
                _add(times, f"{name}: SIGKILL of {victim} to the next step", stepped)
        finally:
            run.end()


def _lines(path: Path) -> list[float]:
    return [float(line) for line in path.read_text().split()] if path.exists() else []


def _after(path: Path, at: float) -> float | None:
    return next((stamp for stamp in _lines(path) if stamp > at), None)


def ends(repeats: int, times: Times) -> None:
    """Tasks that ignore every request, with a child in a session of its own."""
    cluster = (
        f"tasks: {{worker: {{replicas: 2}}}}\nrun_policy: {{grace_seconds: {GRACE_SECONDS}}}\n"
        "local: {start_method: spawn}"
    )
    for number in (signal.SIGTERM, signal.SIGKILL):
        for _ in range(repeats):
            with tempfile.TemporaryDirectory() as folder:
                place = Path(folder)
                (place / "deaf.py").write_text(DEAF)
                run = Run(place, cluster, "--", sys.executable, str(place / "deaf.py"))
                output = place / "output.txt"
                try:
                    run.wait_for("two tasks", lambda output=output: output.read_text().count("| ready") == 2)
                    pids, asked = run.pids(), time.monotonic()
                    run.process.send_signal(number)
                    while any(Path(f"/proc/{pid}/cmdline").exists() for pid in pids) and run.pids():
                        time.sleep(0.01)
                    took = time.monotonic() - asked
                finally:
                    run.end()
            if number == signal.SIGTERM:
                _add(times, "deaf tasks gone after the grace period", took - GRACE_SECONDS)
            else:
                _add(times, "deaf tasks gone after a SIGKILL of the launcher", took)


def _add(times: Times, name: str, seconds: float) -> None:
    times.setdefault(name, []).append(seconds)
    print(f"{name}: {seconds:.2f} s", flush=True)


def main() -> None:
    """Measures, and prints the medians as a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    times: Times = {}
    ends(arguments.repeats, times)
    with tempfile.TemporaryDirectory() as data:
        for name in CLUSTERS:
            kills(name, arguments.repeats, Path(data), times)
    print("\n| what | median | worst of |\n|---|---|---|")
    for name, values in times.items():
        print(f"| {name} | {statistics.median(values):.2f} s | {max(values):.2f} s of {len(values)} |")


if __name__ == "__main__":
    main()
