"""`check`: whether this machine, or every host, can run the job; one line a question, one a host."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from orchestrator.cli import machine_checks as machine
from orchestrator.cli import tensorboard_side_car
from orchestrator.cli.arguments import (
    ConfigArgument,
    DataDirOption,
    ExperimentOption,
    ModelDirOption,
    RunDirOption,
    SetOption,
    command_of,
)
from orchestrator.cli.experiment_target import require_packages
from orchestrator.cli.job_options import JobOptions, ResolvedJob, resolve
from orchestrator.cli.machine_checks import Finding
from orchestrator.cli.render import planned
from orchestrator.cli.warm_start_options import require_checkpoint
from orchestrator.errors import EnvironmentProblem, OrchestratorError
from orchestrator.launch.run_dir import RunDir

_NAME_WIDTH = 11


def check(
    ctx: typer.Context,
    *,
    config: ConfigArgument,
    experiment: ExperimentOption = None,
    model_dir: ModelDirOption = None,
    run_dir: RunDirOption = None,
    data_dir: DataDirOption = None,
    overrides: SetOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show what fails, and nothing else.")] = False,
) -> None:
    """Check file, ports, TensorFlow, directories, GPUs and memory, here or on all hosts; starts nothing."""
    options = JobOptions(
        config, experiment, model_dir, run_dir, data_dir, tuple(overrides or ()), command_of(ctx)
    )
    console = Console(highlight=False)
    try:
        resolved = resolve(options, need_packages=False)
    except OrchestratorError as error:
        console.print(show(Finding("file", False, str(error))), soft_wrap=True)
        raise typer.Exit(error.exit_code) from None
    failed = False
    for finding in findings(resolved, options):
        failed = failed or not finding.ok
        if not (quiet and finding.ok):
            console.print(show(finding), soft_wrap=True)
    if resolved.config.launcher == "ssh" and not failed:
        failed = not _hosts_fit(console, resolved, quiet=quiet)
    if failed:
        raise typer.Exit(EnvironmentProblem.exit_code)


def findings(resolved: ResolvedJob, options: JobOptions) -> Iterator[Finding]:
    """The answers, in the order in which they are shown."""
    job = resolved.job
    count = f"{job.size} task{'' if job.size == 1 else 's'}"
    yield Finding("file", True, f"{options.config}: {count}, {resolved.config.launcher} launcher")
    for note in resolved.notes:
        yield Finding("note", True, note)
    yield from tensorboard_side_car.check(resolved)
    if resolved.config.launcher == "ssh":
        yield _run_dir(resolved)  # all else is asked of the hosts
        return
    yield _program(resolved)
    yield machine.python()
    yield machine.tensorflow(job.command, is_experiment=job.is_experiment)
    yield from _plan(resolved)
    if job.isolated:
        yield machine.isolation()
    yield machine.writable("model dir", job.model_dir, "--model-dir")
    yield _run_dir(resolved)
    if job.data_dir is not None or job.prepare_command is not None:
        yield machine.data_directory(job.data_dir, prepared=job.prepare_command is not None)
    if resolved.config.warm_start is not None and resolved.target is not None:
        yield _warm_start(resolved)
    yield machine.cpus(job)
    yield machine.memory(job)
    yield machine.gpus(job)


def _hosts_fit(console: Console, resolved: ResolvedJob, *, quiet: bool) -> bool:
    """Asks the hosts and shows what they say."""
    from orchestrator.cli import host_checks

    try:
        found = host_checks.compare_hosts(resolved)
    except OrchestratorError as error:
        console.print(show(Finding("hosts", False, str(error))), soft_wrap=True)
        return False
    host_checks.show(console, found, quiet=quiet)
    return found.go


def show(finding: Finding) -> Text:
    """One line: ok or FAIL, what was asked, and the answer."""
    verdict = Text("ok    ", style="green") if finding.ok else Text("FAIL  ", style="bold red")
    return verdict.append(f"{finding.name:{_NAME_WIDTH}} ", style="none").append(finding.text, style="none")


def _program(resolved: ResolvedJob) -> Finding:
    target = resolved.target
    if target is None:
        return Finding("command", True, resolved.job.command[0])
    try:
        require_packages(target)
    except EnvironmentProblem as error:
        return Finding("experiment", False, str(error))
    unread = "" if target.signature else " (its arguments are checked when it runs)"
    return Finding("experiment", True, f"{target}{unread}")


def _plan(resolved: ResolvedJob) -> Iterator[Finding]:
    try:
        plan = planned(resolved)
    except EnvironmentProblem as error:
        yield Finding("ports", False, str(error))
        return
    for note in plan.notes:
        yield Finding("note", True, note)
    taken = [task.address for task in plan.tasks if task.address is not None]
    text = f"{len(taken)} free, one for each task" if taken else "none needed: a lone process has no address"
    yield Finding("ports", True, text)
    for why in dict.fromkeys(f"{task.start_method}: {task.why}" for task in plan.tasks):
        yield Finding("start", True, why)


def _warm_start(resolved: ResolvedJob) -> Finding:
    section = resolved.config.warm_start
    assert section is not None
    job = resolved.job
    try:
        require_checkpoint(section, "warm_start.checkpoint", job.model_dir, job.working_dir)
    except OrchestratorError as error:
        return Finding("warm start", False, str(error))
    return Finding("warm start", True, f"{section.checkpoint}; warm-start-plan shows what is loaded")


def _run_dir(resolved: ResolvedJob) -> Finding:
    path = resolved.job.run_dir
    if RunDir(path).launcher.exists():
        return Finding("run dir", False, f"{path}: holds a run already. Give another --run-dir, or none.")
    return machine.writable("run dir", str(path), "--run-dir")
