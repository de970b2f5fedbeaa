"""Estimator speed against tf.estimator 2.15.1, Keras and bare loops, side by side in one run.

    python -m benchmarks.estimator_speed [--repeats 3] [--write]

Every subject runs in its own process, all of them in turn, so that a machine
that gets slower slows all alike; medians and ratios are reported. `--write`
replaces the table and the picture under docs/.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.genuine_environment import genuine_python
from benchmarks.subjects import GENUINE, SUBJECTS

COLOURS = {"genuine": "#c0392b", "ours": "#2471a3"}
ROOT = Path(__file__).parent.parent
STEP_SUBJECTS = [name for name in SUBJECTS if not name.startswith(("train_and_evaluate", "start"))]


def measure(name: str, genuine: str) -> dict[str, float]:
    python = genuine if name in GENUINE else sys.executable
    command = [python, str(ROOT / "benchmarks" / "subjects.py"), name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if done.returncode != 0:
        sys.exit(f"{name} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def medians(names: Sequence[str], repeats: int) -> dict[str, dict[str, float]]:
    genuine = genuine_python()
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for repeat in range(repeats):
        for name in names:
            rows[name].append(measure(name, genuine))
            print(f"{repeat + 1}/{repeats} {name}: {rows[name][-1]}", flush=True)
    return {
        name: {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        for name, runs in rows.items()
    }


def tables(result: dict[str, dict[str, float]], repeats: int) -> str:
    genuine = result["genuine"]["steps_per_second"]
    lines = ["| subject | steps/s | ratio to tf.estimator 2.15.1 |", "|---|---:|---:|"]
    for name in STEP_SUBJECTS:
        rate = result[name]["steps_per_second"]
        lines.append(f"| {name} | {rate:,.0f} | {rate / genuine:.2f} |")
    old, new = result["train_and_evaluate genuine"]["seconds"], result["train_and_evaluate ours"]["seconds"]
    a, b = result["start genuine"], result["start ours"]
    lines += [
        "",
        "| | tf.estimator 2.15.1 | ours | ratio |",
        "|---|---:|---:|---:|",
        f"| train_and_evaluate, 2,000 steps, evaluation every 100 | {old:.2f} s | {new:.2f} s"
        f" | {old / new:.1f} times faster |",
        f"| train_and_evaluate to the first step | {a['first_step_seconds']:.2f} s"
        f" | {b['first_step_seconds']:.2f} s | {b['first_step_seconds'] / a['first_step_seconds']:.2f} |",
        f"| memory added by it | {a['added_megabytes']:.0f} MB | {b['added_megabytes']:.0f} MB"
        f" | {b['added_megabytes'] / a['added_megabytes']:.2f} |",
        "",
        f"Medians of {repeats} runs a subject, each in its own process, in turn; "
        f"{platform.machine()}, {platform.python_implementation()} {platform.python_version()}.",
    ]
    return "\n".join(lines) + "\n"


def draw(result: dict[str, dict[str, float]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = list(reversed(STEP_SUBJECTS))
    rates = [result[name]["steps_per_second"] for name in names]
    colours = [
        "#c0392b" if n == "genuine" else "#2471a3" if n.startswith("ours") else "#95a5a6" for n in names
    ]
    figure, axes = pyplot.subplots(figsize=(8, 3.6))
    bars = axes.barh([n.replace("genuine", "tf.estimator 2.15.1") for n in names], rates, color=colours)
    axes.bar_label(bars, [f"{rate:,.0f}" for rate in rates], padding=3)
    axes.set_xlabel("steps per second (MLP 64-64-64-10, batch 64, Adam, CPU)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlim(0, max(rates) * 1.12)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=list(SUBJECTS), help="measure these alone")
    parser.add_argument("--write", action="store_true", help="replace table and picture under docs/")
    options = parser.parse_args()
    if options.only:
        for name, row in medians(options.only, options.repeats).items():
            print(f"{name}: {row}")
        return
    result = medians(list(SUBJECTS), options.repeats)
    text = tables(result, options.repeats)
    print(text)
    if options.write:
        (ROOT / "docs" / "performance_table.md").write_text(
            "# Estimator speed\n\n![steps per second](performance.png)\n\n" + text
        )
        draw(result, ROOT / "docs" / "performance.png")


if __name__ == "__main__":
    main()
