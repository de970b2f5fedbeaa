"""`warm-start-plan`: which weights a training would start from, without training; writes nothing."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.arguments import (
    ConfigArgument,
    DataDirOption,
    ExperimentOption,
    SetOption,
)
from orchestrator.cli.job_options import JobOptions, ResolvedJob, resolve
from orchestrator.cli.warm_start_options import (
    ExcludeOption,
    IncludeOption,
    MapOption,
    OnMismatchOption,
    RenameOption,
    WarmStartOptions,
)
from orchestrator.cluster.records import TaskEnvironment
from orchestrator.cluster.task import TaskId, TaskType
from orchestrator.cluster.tf_config import VARIABLE as TF_CONFIG
from orchestrator.errors import ConfigError, EnvironmentProblem

if TYPE_CHECKING:
    from orchestrator.warm_start.variable_map import Plan


def warm_start_plan(
    *,
    config: ConfigArgument,
    experiment: ExperimentOption = None,
    checkpoint: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="CHECKPOINT",
            help="Whose weights. Default: the file's warm_start.",
            show_default=False,
        ),
    ] = None,
    include: IncludeOption = None,
    exclude: ExcludeOption = None,
    rename: RenameOption = None,
    map_file: MapOption = None,
    on_mismatch: OnMismatchOption = None,
    data_dir: DataDirOption = None,
    overrides: SetOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, for machines.")] = False,
) -> None:
    """Show what would be loaded from where, what not and why; trains nothing, writes nothing.

    Builds the experiment's training graph. Exit code 0 only for a plan that could be applied.
    """
    given = WarmStartOptions("--from", checkpoint, include, exclude, rename, map_file, on_mismatch)
    options = JobOptions(
        config, experiment, data_dir=data_dir, overrides=tuple(overrides or ()), warm_start=given
    )
    with tempfile.TemporaryDirectory() as scratch:
        # A model directory of its own: neither checkpoints of earlier trainings nor anything written count.
        resolved = resolve(JobOptions(**{**vars(options), "model_dir": f"{scratch}/model"}))
        if resolved.config.warm_start is None:
            raise ConfigError(f"--from is missing, and {config} has no warm_start. Name a checkpoint.")
        plan = _plan(resolved, Path(scratch))
    from orchestrator.warm_start import report

    if as_json:
        typer.echo(json.dumps(report.plan_as_json(plan), indent=2))
    else:
        for line in report.plan_lines(plan):
            typer.echo(line)
    if not plan.ok:
        raise typer.Exit(ConfigError.exit_code)


def _plan(resolved: ResolvedJob, scratch: Path) -> Plan:
    from orchestrator.warm_start import quiet_import

    with _stdout_kept_clean():
        quiet_import.import_tensorflow()
        from orchestrator.estimator.estimator import plan_for_training
        from orchestrator.estimator.run_config import RunConfig
        from orchestrator.experiments.function import ExperimentFunction
        from orchestrator.warm_start.request import WarmStart

        request = resolved.experiment or {}
        found = ExperimentFunction.find(request["experiment"], resolved.job.working_dir)
        wanted = WarmStart.of(**request["warm_start"])

        def plan(data_dir: str | None) -> Plan:
            with _as_lone_task(request["model_dir"], data_dir, scratch / "run"):
                config = RunConfig.from_environment(request["model_dir"], **request["run_config"])
                experiment = found.build(config, request["params"])
                made: Plan = plan_for_training(experiment.estimator, experiment.train_spec.input_fn, wanted)
                return made

        def prepare(data_dir: str) -> None:
            found.prepare(data_dir, request["params"])

        return _with_data(plan, prepare, request["data_dir"], resolved, scratch)


def _with_data(
    plan: Callable[[str | None], Plan],
    prepare: Callable[[str], None],
    data_dir: str | None,
    resolved: ResolvedJob,
    scratch: Path,
) -> Plan:
    """Plans with the data as they are; where they are not prepared yet, with a copy that is then removed."""
    try:
        return plan(data_dir)
    except EnvironmentProblem:
        if resolved.job.prepare_command is None:
            raise
        elsewhere = str(scratch / "data")
        prepare(elsewhere)
        return plan(elsewhere)


@contextlib.contextmanager
def _as_lone_task(model_dir: str, data_dir: str | None, run_dir: Path) -> Iterator[None]:
    """The environment that the launcher would give a lone chief, and no TF_CONFIG of this shell."""
    told = TaskEnvironment(run_dir, TaskId(TaskType.CHIEF, 0), 0, model_dir, data_dir).as_environment()
    before = dict(os.environ)
    os.environ.pop(TF_CONFIG, None)
    os.environ.update(told)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextlib.contextmanager
def _stdout_kept_clean() -> Iterator[None]:
    """What the experiment prints goes to stderr; stdout is for the plan."""
    with contextlib.redirect_stdout(sys.stderr):
        yield
