"""A host needs Python for the agent, and TensorFlow for the tasks; nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import orchestrator

ROOT = Path(orchestrator.__file__).parent.parent
IMPORTED = f"""
import importlib, pkgutil, sys
sys.path.insert(0, {str(ROOT)!r})
import orchestrator.launch.node as node
for module in pkgutil.iter_modules(node.__path__):
    importlib.import_module("orchestrator.launch.node." + module.name)
import orchestrator.launch.warm_parent, orchestrator.launch.task_runner
tops = {{name.split(".")[0] for name in sys.modules}}
print(sorted(tops - set(sys.stdlib_module_names) - {{"orchestrator", "__main__"}}))
"""
TRAINING = """
import sys
for name in ("pydantic", "pydantic_core", "psutil", "yaml", "typer", "click", "rich"):
    sys.modules[name] = None
import orchestrator.experiments.program, orchestrator.experiments.digits
from orchestrator.estimator import Estimator, RunConfig, train_and_evaluate
print("trains")
"""


def test_the_agent_runs_on_the_standard_library_alone(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-I", "-S", "-c", IMPORTED],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (run.stdout.strip(), run.stderr) == ("[]", "")


def test_training_needs_nothing_of_the_launching_side(tmp_path: Path) -> None:
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        [sys.executable, "-c", TRAINING],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.stdout.strip() == "trains", run.stderr[-2000:]
