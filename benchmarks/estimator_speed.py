"""Estimator speed against tf.estimator 2.15.1, Keras and bare loops, side by side in one run.

    python -m benchmarks.estimator_speed [--rounds 3] [--only SUBJECT ...] [--fresh]

Every subject runs in a process of its own, all of them in turn, round after
round, so that a machine that gets slower slows all alike. Ratios are taken
within a round; their medians are reported. What is measured is kept under
.cache: a run that was broken off goes on where it stopped, `--fresh` begins
anew. A whole run replaces docs/performance.md and docs/performance.png.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from benchmarks import async_checkpoint, performance_page
from benchmarks.genuine_environment import genuine_python
from benchmarks.machine import description, source_state
from benchmarks.measurements import Measurements, Row
from benchmarks.subjects import GENUINE, SUBJECTS

ROOT = Path(__file__).parent.parent
KEPT = ROOT / ".cache" / "benchmark.json"
SECONDS_PER_SUBJECT = 600
MEGABYTES = 1024


def measure(name: str, genuine: str) -> Row:
    """One run of a subject in a process of its own."""
    python = genuine if name in GENUINE else sys.executable
    command = [python, str(ROOT / "benchmarks" / "subjects.py"), name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_PER_SUBJECT, cwd=ROOT)
    if done.returncode != 0:
        sys.exit(f"{name} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def run_rounds(names: list[str], rounds: int, kept: Measurements, genuine: str) -> dict[str, list[Row]]:
    """The rows of every subject, one a round."""
    rows: dict[str, list[Row]] = {name: [] for name in names}
    for number in range(1, rounds + 1):
        for name in names:
            row = kept.get(f"{number} {name}", lambda name=name: measure(name, genuine))
            rows[name].append(row)
            print(f"{number}/{rounds} {name}: {row}", flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--only", nargs="*", choices=list(SUBJECTS), help="measure these alone, write nothing"
    )
    parser.add_argument("--fresh", action="store_true", help="keep nothing of an earlier run")
    options = parser.parse_args()
    genuine = genuine_python()
    started = time.monotonic()
    kept = Measurements(KEPT, source_state(ROOT, genuine), options.fresh)
    rows = run_rounds(options.only or list(SUBJECTS), options.rounds, kept, genuine)
    if options.only:
        return
    savers: dict[str, list[Row]] = {}
    for saver in ("blocking", "beside"):
        row = kept.get(f"saver {saver}", lambda saver=saver: async_checkpoint.measure(saver, MEGABYTES))
        savers[saver] = [row]
        print(f"1 GB, {saver}: {row}", flush=True)
    text = performance_page.page(rows, async_checkpoint.report(savers, MEGABYTES), description(genuine))
    (ROOT / "docs" / "performance.md").write_text(text)
    performance_page.draw(rows, ROOT / "docs" / "performance.png")
    print(f"{text}\nMeasured and written in {time.monotonic() - started:.0f} s.")


if __name__ == "__main__":
    main()
