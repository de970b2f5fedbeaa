"""docs/performance.md and its picture, made of measured rows."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

Rows = Mapping[str, Sequence[Mapping[str, float]]]
RATE = "steps_per_second"
STEPS = {
    "genuine": "tf.estimator 2.15.1",
    "ours": "ours, defaults",
    "ours, loop 100": "ours, `steps_per_loop=100`",
    "ours, loop auto": 'ours, `steps_per_loop="auto"`',
    "bare callable": "bare callable: a session and a Python loop",
    "bare in-graph loop 100": "bare loop of 100 steps in the graph",
    "Keras fit": "Keras `fit`",
    "Keras fit, 50 steps an execution": "Keras `fit`, `steps_per_execution=50`",
}
"""Subjects and their names on the page."""
GENUINE, OURS, BARE = "#c0392b", "#2471a3", "#95a5a6"


def middle(rows: Rows, name: str, key: str) -> float:
    """The median over rounds."""
    return statistics.median(row[key] for row in rows[name])


def ratio(rows: Rows, name: str, other: str, key: str) -> float:
    """The median over rounds of `name` divided by `other`, each measured in the same round."""
    pairs = zip(rows[name], rows[other], strict=True)
    return statistics.median(one[key] / two[key] for one, two in pairs)


PAGE = """# Performance

What the engine costs, beside TensorFlow 2.15.1's Estimator, Keras and loops written by hand: an MLP
64-64-64-10, batch 64, Adam, data in memory, small enough for everything around a step to show. The figures
are medians of {rounds} rounds in which every subject ran in turn, each in a process of its own; ratios were
taken within a round. `make bench` measures again and rewrites this page.

Machine: {machine}

## Steps per second

![steps per second](performance.png)

{steps}

On a CPU a step whose operations are all this small computes in one thread and takes its batch itself: waking
other threads would cost more than the work. Numbers of threads in `RunConfig(session_config=...)` stay, and
`TF_OVERRIDE_GLOBAL_THREADPOOL=0` leaves all sessions with the process's common threads.

`steps_per_loop` runs many steps in one session call and keeps the step of every hook, checkpoint and
summary. Beside the bare loop in the graph it reaches {of_bare:.2f}.

## Whole runs

{whole_runs}

train_and_evaluate takes 2,000 steps and evaluates 16 batches every 100 steps. The graph for evaluation and
its session are made once, and only variables are read again. Start and memory are counted from after
`import tensorflow` to the first step.

## Checkpoints written beside training

A model of 1 GB whose variables all change at every step; from the second save on, with
`save_checkpoints_async` (beside) and without (blocking).

{savers}
"""


def page(rows: Rows, savers: str, machine: str) -> str:
    """The whole page as Markdown; `savers` is the table of checkpoints written beside training."""
    return PAGE.format(
        rounds=len(rows["genuine"]),
        machine=machine,
        steps="\n".join(_steps(rows)),
        of_bare=ratio(rows, "ours, loop 100", "bare in-graph loop 100", RATE),
        whole_runs="\n".join(_whole_runs(rows)),
        savers=savers,
    )


def _steps(rows: Rows) -> list[str]:
    lines = ["| | steps/s | beside tf.estimator 2.15.1 |", "|---|---:|---:|"]
    for name, shown in STEPS.items():
        times = ratio(rows, name, "genuine", RATE)
        lines.append(f"| {shown} | {middle(rows, name, RATE):,.0f} | {times:.2f} |")
    return lines


def _whole_runs(rows: Rows) -> list[str]:
    kinds = (
        ("train_and_evaluate", "seconds", "train_and_evaluate", "{:.2f} s"),
        ("start", "first_step_seconds", "start: train_and_evaluate to the first step", "{:.2f} s"),
        ("start", "added_megabytes", "memory added until then", "{:.0f} MB"),
    )
    lines = ["| | tf.estimator 2.15.1 | ours | theirs / ours |", "|---|---:|---:|---:|"]
    for subject, key, shown, form in kinds:
        theirs, ours = f"{subject} genuine", f"{subject} ours"
        cells = [form.format(middle(rows, name, key)) for name in (theirs, ours)]
        lines.append(f"| {shown} | {cells[0]} | {cells[1]} | {ratio(rows, theirs, ours, key):.2f} |")
    return lines


def draw(rows: Rows, path: Path) -> None:
    """Bars of steps per second."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    names = list(reversed(STEPS))
    rates = [middle(rows, name, RATE) for name in names]
    colours = [GENUINE if n == "genuine" else OURS if n.startswith("ours") else BARE for n in names]
    figure, axes = pyplot.subplots(figsize=(8, 3.6))
    bars = axes.barh([STEPS[name].replace("`", "") for name in names], rates, color=colours)
    axes.bar_label(bars, [f"{rate:,.0f}" for rate in rates], padding=3)
    axes.set_xlabel("steps per second (MLP 64-64-64-10, batch 64, Adam, CPU)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlim(0, max(rates) * 1.12)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
