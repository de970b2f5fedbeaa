"""An experiment that travels: with `brake.py` beside it, it is sent to hosts that have none of our tests."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

from brake import Brake

from orchestrator.estimator import RunConfig
from orchestrator.experiments import digits
from orchestrator.experiments.experiment import Experiment

prepare_data = digits.prepare_data


def experiment(config: RunConfig, max_steps: int, shared: str, held: bool = False) -> Experiment:
    """Digits that tell where they run; with `held` they do not end before `SHARED/release` exists."""
    place = Path(shared)
    if "ORCHESTRATOR_TASK" in os.environ:
        files = [str(path) for path in Path().rglob("*") if path.is_file() and path.suffix != ".pyc"]
        found = {"host": os.uname().nodename, "directory": str(Path.cwd()), "files": sorted(files)}
        found["note"] = os.environ.get("NOTE", "")
        (place / f"ran-{os.environ['ORCHESTRATOR_TASK']}.json").write_text(json.dumps(found))
    made = digits.experiment(config, max_steps=max_steps)
    if not held:
        return made
    hooks = (*made.train_spec.hooks, Brake(place / "release"))
    return replace(made, train_spec=made.train_spec._replace(hooks=hooks))
