"""`check` over several hosts: one table, what stands against a start, go or no-go."""

from __future__ import annotations

import ast
import importlib.metadata
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from orchestrator.cli.job_options import ResolvedJob
from orchestrator.cluster.config import DEFAULT_EXPERIMENT
from orchestrator.launch.job import Job
from orchestrator.launch.python_command import parse_python_command
from orchestrator.launch.ssh.host_comparison import COLUMNS, NOTHING, Comparison, compare, needs_by_host
from orchestrator.launch.ssh.host_survey import survey
from orchestrator.launch.ssh.launcher import SshLauncher

ALWAYS = (("keras", "keras"), ("numpy", "numpy"), ("protobuf", "google.protobuf"))
"""Packages (distribution, module) that every program with TensorFlow runs with."""
OF_OUR_PROGRAM = (("tensorflow-datasets", "tensorflow_datasets"),)
OF_THE_DIGITS = (("scikit-learn", "sklearn"),)


def compare_hosts(resolved: ResolvedJob) -> Comparison:
    """Asks every host of the job; nothing is started or left there but our own package.

    Raises ConfigError for hosts that cannot be right, and EnvironmentProblem when
    ssh itself cannot be used.
    """
    job = resolved.job
    launcher = SshLauncher(job.run_dir)
    try:
        visit = launcher.visit(job)
        answers = survey(job, visit, packages(resolved))
    finally:
        launcher.close()
    needs = needs_by_host(job, visit.placed)
    in_python = job.is_experiment or parse_python_command(job.command) is not None
    found = compare(job, answers, needs, tensorflow=in_python)
    if not visit.unplaced:
        return found
    rows = tuple((host, NOTHING, *rest) for host, _, *rest in found.rows)
    return replace(found, rows=rows, problems=(visit.unplaced, *found.problems))


def show(console: Console, found: Comparison, *, quiet: bool = False) -> None:
    """The table, then each problem, then the verdict; with `quiet` only what stands against a start."""
    if not quiet:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in COLUMNS:
            table.add_column(name, no_wrap=name != "host", overflow="fold")
        for row in found.rows:
            table.add_row(*row)
        console.print(table)
    for problem in found.problems:
        console.print(Text("FAIL  ", style="bold red").append(problem, style="none"), soft_wrap=True)
    if quiet:
        return
    for remark in found.remarks:
        console.print(Text("note  ").append(remark), soft_wrap=True)
    count = len(found.problems)
    verdict = "go" if found.go else f"no-go: {count} problem{'s' * (count > 1)}"
    console.print(Text(verdict, style="green" if found.go else "bold red"))


def packages(resolved: ResolvedJob) -> list[tuple[str, str]]:
    """What the tasks import, as (distribution, module), as far as it can be read without running it."""
    job, target = resolved.job, resolved.target
    found = list(ALWAYS)
    if job.is_experiment:
        found += OF_OUR_PROGRAM
    if target is not None and str(target) == DEFAULT_EXPERIMENT:
        found += OF_THE_DIGITS
    source = target.path if target is not None else _script(job)
    if source is not None:
        found += imported(source, job.working_dir)
    return list(dict.fromkeys(found))


def imported(source: Path, working_dir: Path) -> list[tuple[str, str]]:
    """The packages that a file imports whenever it is run, without those of the code directory."""
    try:
        tree = ast.parse(source.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return []  # said elsewhere, by the one who runs it
    distributions = importlib.metadata.packages_distributions()
    here = {working_dir, source.parent}
    return [
        (distributions.get(module, [module])[0], module)
        for module in dict.fromkeys(_top_level_imports(tree))
        if module not in sys.stdlib_module_names
        and module not in ("orchestrator", "tensorflow")
        and not any((place / module).is_dir() or (place / f"{module}.py").exists() for place in here)
    ]


def _top_level_imports(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


def _script(job: Job) -> Path | None:
    """The file that a Python command runs; None where that cannot be told."""
    python = parse_python_command(job.command)
    return None if python is None or python.script is None else job.working_dir / python.script
