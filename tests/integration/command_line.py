"""`python launch.py run`, as a user of a checkout types it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]
LIMIT = 280
"""Seconds that one job may take; generous, since machines are shared."""


@dataclass(frozen=True)
class FinishedJob:
    """A job that has ended, and what it left."""

    code: int
    output: str
    run_dir: Path

    @property
    def summary(self) -> dict[str, Any]:
        return dict(json.loads((self.run_dir / "summary.json").read_text()))

    @property
    def exits(self) -> dict[str, int]:
        return {name: task["exit"] for name, task in self.summary["tasks"].items()}

    def log(self, task: str) -> str:
        return (self.run_dir / "logs" / f"{task}.log").read_text()


def run_job(place: Path, config: str, *words: str, run: str = "run") -> FinishedJob:
    """Runs a cluster file in `place` to its end, with `place/model` as model directory.

    `python` in the words is the tests' own, as in an activated virtual environment.
    """
    options, command = (
        (words[: words.index("--")], words[words.index("--") :]) if "--" in words else (words, ())
    )
    where = ["--run-dir", str(place / run), "--model-dir", str(place / "model")]
    done = subprocess.run(
        [
            sys.executable,
            str(REPOSITORY / "launch.py"),
            "run",
            str(REPOSITORY / config),
            *where,
            *options,
            *command,
        ],
        cwd=place,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    return FinishedJob(done.returncode, done.stdout, place / run)
