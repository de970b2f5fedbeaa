"""The table of times: `python -m tests.integration.faults.times TIMES [--write docs/reliability.md]`."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

VARIABLE = "FAULT_TIMES"
"""Names the file to which a test run adds its rows; `make test-faults` sets it."""
_STRATEGIES = ("none", "mirrored", "multi_worker", "parameter_server", "coordinator")
_TASKS = ("chief", "worker", "ps", "evaluator", "launcher")
_FAULTS = ("kill", "preempt", "stop", "hang", "exception", "exit", "loop", "SIGINT", "SIGTERM", "SIGKILL")
BEGIN, END = "<!-- times of faults: written by `make test-faults` -->", "<!-- end of times -->"


@dataclass(frozen=True)
class Row:
    """One fault, in seconds from the fault on; None where there was no such thing."""

    strategy: str
    task: str
    fault: str
    decided: float | None
    """Until the launcher had decided what to do about it."""
    outcome: str
    run: float
    """The whole run, from the command to its end."""


def event_time(event: dict[str, Any]) -> float:
    """Seconds since the epoch of a line in events.jsonl."""
    return datetime.fromisoformat(event["time"]).timestamp()


def record(row: Row) -> None:
    """Adds a row where the test run keeps times."""
    path = os.environ.get(VARIABLE)
    if path:
        with Path(path).open("a") as stream:
            stream.write(json.dumps(asdict(row)) + "\n")


def table(rows: list[Row]) -> str:
    """Markdown: a block for each strategy, in it one for each task, the launcher's last."""
    rows = sorted(rows, key=_place)
    lines = [
        "| strategy | task | fault | decided after | what followed | whole run |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        decided = "" if row.decided is None else f"{row.decided:.1f} s"
        cells = (row.strategy, row.task, row.fault, decided, row.outcome, f"{row.run:.0f} s")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _place(row: Row) -> tuple[int, int, int, str]:
    """Where a row stands; strategies and tasks that are not known stand at the end."""
    strategy = _index(_STRATEGIES, row.strategy)
    return (strategy, _index(_TASKS, row.task.partition("-")[0]), _index(_FAULTS, row.fault), row.fault)


def _index(names: Sequence[str], name: str) -> int:
    return names.index(name) if name in names else len(names)


def written_into(text: str, part: str) -> str:
    """`text` with what stands between the marks replaced; ValueError where there are none."""
    before, rest = text.split(BEGIN, 1)
    _, after = rest.split(END, 1)
    return f"{before}{BEGIN}\n\n{part}\n\n{END}{after}"


def main() -> None:
    """Prints the table, or writes it into a page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("times", type=Path)
    parser.add_argument("--write", type=Path, help="a page with the marks of the table")
    arguments = parser.parse_args()
    read = [Row(**json.loads(line)) for line in arguments.times.read_text().splitlines()]
    rows = list({(row.strategy, row.task, row.fault): row for row in read}.values())  # the last of each
    if arguments.write is None:
        print(table(rows))
    else:
        arguments.write.write_text(written_into(arguments.write.read_text(), table(rows)))


if __name__ == "__main__":
    main()
