"""From a cluster file and command-line options to a Job: decides everything, starts nothing."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from orchestrator.cli import experiment_target
from orchestrator.cli.experiment_target import ExperimentTarget
from orchestrator.cli.warm_start_options import (
    WarmStartOptions,
    check_rules,
    require_checkpoint,
    warm_start_request,
)
from orchestrator.cluster import config_file
from orchestrator.cluster.config import (
    DEFAULT_EXPERIMENT,
    ClusterConfig,
    ParameterServerStyle,
    StrategyName,
    TaskSection,
)
from orchestrator.cluster.config_file import ConfigFile
from orchestrator.cluster.mistake import Mistake
from orchestrator.cluster.run_policy_section import RunPolicySection
from orchestrator.cluster.secrets import ENV_SECRET_EXPERIMENT
from orchestrator.cluster.task import TaskType
from orchestrator.cluster.topology import training_tasks
from orchestrator.errors import ConfigError, ExperimentError, near_miss
from orchestrator.launch.job import (
    HangLimits,
    Job,
    LogLimits,
    RunPolicy,
    StartMethod,
    StrategyKind,
    TaskRequest,
)
from orchestrator.launch.registry import known_launchers
from orchestrator.launch.run_dir import RunDir

PROGRAM = "orchestrator.experiments.program"
"""Module that every task of an experiment runs."""
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_START_METHODS = {"fork": StartMethod.FORK, "spawn": StartMethod.EXEC}
_EXPERIMENT_KEYS = ("params", "run_config", "experiment", "warm_start")


@dataclass(frozen=True)
class JobOptions:
    """What was given on the command line of `run`, `render` or `check`."""

    config: Path
    experiment: str | None = None
    model_dir: str | None = None
    run_dir: str | None = None
    data_dir: str | None = None
    overrides: tuple[str, ...] = ()
    """`--set KEY=VALUE`, in order."""
    command: tuple[str, ...] = ()
    """The words after `--`; empty for an experiment."""
    warm_start: WarmStartOptions = field(default_factory=WarmStartOptions)
    """Options that go before the file's `warm_start`."""


@dataclass(frozen=True)
class ResolvedJob:
    """A job, the file it came from, and what its experiment program is to read."""

    job: Job
    config: ClusterConfig
    experiment: dict[str, Any] | None
    """Content of `RunDir.experiment`, to be written by `run`; None for a command."""
    target: ExperimentTarget | None = None
    """What is known of the experiment; None for a command."""
    notes: tuple[str, ...] = ()
    """One line each, to be shown to the user before the start."""


def resolve(
    options: JobOptions,
    *,
    working_dir: Path | None = None,
    now: datetime | None = None,
    environ: Mapping[str, str] | None = None,
    need_packages: bool = True,
) -> ResolvedJob:
    """Reads the cluster file and the options, and checks all that can be checked without starting anything.

    `working_dir`, `now` (UTC) and `environ` default to those of the process.
    Without `need_packages` a missing package of the embedded default is no
    error. Raises ClusterConfigError, ExperimentError, ConfigError and
    EnvironmentProblem.
    """
    environ = os.environ if environ is None else environ
    working_dir = (working_dir or Path.cwd()).absolute()
    if options.command and options.experiment:
        raise ConfigError(
            f"--experiment {options.experiment} and a command after '--' are both given. A job runs one"
            " of the two."
        )
    overrides = options.overrides if options.command else options.warm_start.before(options.overrides)
    file = config_file.read(options.config, overrides)
    config = file.config(for_command=bool(options.command))
    config = options.warm_start.applied_to(config, for_command=bool(options.command))
    _check_launcher(file, config)
    target = None
    if options.command:
        _check_command(file, options.command, config, working_dir, environ)
    else:
        target = _find_experiment(file, options.experiment or config.experiment, options, working_dir)
        file.refuse(target.param_mistakes(config.params))
        if need_packages:
            experiment_target.require_packages(target)
    _require_shared_place(options, config)
    run_dir = _run_dir(options.run_dir, config.name, working_dir, now or datetime.now(timezone.utc))
    job = _job(options, config, target, run_dir, working_dir)
    if target is not None and config.warm_start is not None:
        check_rules(config.warm_start, working_dir)
        if need_packages:
            where = options.warm_start.where(file)
            require_checkpoint(config.warm_start, where, job.model_dir, working_dir)
    experiment = _experiment(config, target, job) if target else None
    if experiment is not None and job.masker(environ).plain(experiment) != experiment:
        job = replace(job, env={**job.env, ENV_SECRET_EXPERIMENT: json.dumps(experiment)})
    return ResolvedJob(job, config, experiment, target, tuple(_notes(options, config)))


def _check_launcher(file: ConfigFile, config: ClusterConfig) -> None:
    known = known_launchers()
    if config.launcher not in known:
        hint = near_miss(config.launcher, known) or f" There are {', '.join(known)}."
        file.refuse([Mistake(("launcher",), f"'{config.launcher}' is not known.{hint}")])


def _require_shared_place(options: JobOptions, config: ClusterConfig) -> None:
    """On several hosts a directory of this machine, taken by default, would be another one on each."""
    if config.launcher == "ssh" and options.model_dir is None and config.run_config.model_dir is None:
        raise ConfigError(
            f"{options.config}: the ssh launcher needs a model directory that every host sees. Give"
            " --model-dir, or write 'run_config: {model_dir: /shared/models/NAME}'; a URL will do, too."
        )


def _check_command(
    file: ConfigFile,
    command: tuple[str, ...],
    config: ClusterConfig,
    working_dir: Path,
    environ: Mapping[str, str],
) -> None:
    for key in _EXPERIMENT_KEYS:
        for change in file.changes:
            if change.path[0] == key:
                raise ConfigError(
                    f"--set {change.text}: '{key}' is for experiments, and '{command[0]}' never sees it."
                    " Pass it as an argument of the command."
                )
    if config.launcher != "local" or "PATH" in config.env:
        return
    program = command[0]
    found = (
        os.access(working_dir / program, os.X_OK)
        if os.sep in program
        else shutil.which(program, path=environ.get("PATH"))
    )
    if not found:
        where = f"in {working_dir}" if os.sep in program else "on PATH"
        hint = f" Did you mean 'python {program}'?" if program.endswith(".py") else ""
        raise ConfigError(f"command '{program}' is not an executable file {where}.{hint}")


def _find_experiment(file: ConfigFile, name: str, options: JobOptions, working_dir: Path) -> ExperimentTarget:
    try:
        return experiment_target.look_at(name, working_dir)
    except ExperimentError as error:
        where = f"--experiment {name}" if options.experiment else file.where(("experiment",))
        raise ExperimentError(f"{where}: {error}") from None


def _job(
    options: JobOptions,
    config: ClusterConfig,
    target: ExperimentTarget | None,
    run_dir: Path,
    working_dir: Path,
) -> Job:
    tasks = config.effective_tasks()
    spec = str(RunDir(run_dir).experiment)
    prepare = (sys.executable, "-m", PROGRAM, "--prepare", spec)
    model_dir = options.model_dir if options.model_dir is not None else config.run_config.model_dir
    start_method = config.local.start_method
    return Job(
        name=config.name,
        tasks={task_type: _request(section) for task_type, section in tasks.items()},
        command=options.command or (sys.executable, "-m", PROGRAM, spec),
        strategy=strategy_kind(config, for_command=target is None),
        run_dir=run_dir,
        working_dir=working_dir,
        model_dir=_place("--model-dir", model_dir, working_dir) or str(working_dir / "models" / config.name),
        data_dir=_place("--data-dir", options.data_dir, working_dir),
        env=config.env,
        secret_env=config.secret_env,
        start_method=_START_METHODS[start_method] if start_method else None,
        isolated=config.security == "isolated",
        prepare_command=prepare if target is not None and target.prepares_data else None,
        is_experiment=target is not None,
        policy=_policy(config.run_policy),
        log_limits=LogLimits(config.logs.max_size, config.logs.keep),
        launcher_options=config.ssh.model_dump() if config.launcher == "ssh" else {},
    )


def strategy_kind(config: ClusterConfig, *, for_command: bool) -> StrategyKind:
    """What a lost task means to the others, as far as the file says."""
    tasks = config.effective_tasks()
    if config.strategy is None:
        alone = training_tasks(tasks) == 1 and TaskType.PS not in tasks
        return StrategyKind.SINGLE if alone else StrategyKind.UNKNOWN
    name, style = config.strategy.name, config.strategy.style
    if name is StrategyName.PARAMETER_SERVER:
        if for_command and style is not ParameterServerStyle.BETWEEN_GRAPH:
            return StrategyKind.COORDINATOR
        return StrategyKind.ASYNCHRONOUS
    return StrategyKind.SINGLE if name.is_single else StrategyKind.SYNCHRONOUS


def _request(section: TaskSection) -> TaskRequest:
    resources = section.resources
    return TaskRequest(
        replicas=section.replicas,
        hosts=section.hosts,
        env=section.env,
        cpus=resources.cpus,
        memory_bytes=resources.memory,
        gpus=resources.gpus,
    )


def _policy(section: RunPolicySection) -> RunPolicy:
    nested = ("restart", "hang_seconds")
    values = {name: getattr(section, name) for name in RunPolicySection.model_fields if name not in nested}
    limits = HangLimits(**section.hang_seconds.model_dump())
    return RunPolicy(**values, restart=section.restart.by_type(), hang_seconds=limits)


def _run_dir(option: str | None, name: str, working_dir: Path, now: datetime) -> Path:
    if option is not None:
        place = _place("--run-dir", option, working_dir)
        if place is None or _URL.match(place):
            raise ConfigError(f"--run-dir {option}: must be a directory of this machine, not a URL.")
        return Path(place)
    runs = working_dir / "runs"
    wanted = runs / f"{name}-{now:%Y%m%dT%H%M%SZ}"
    path, number = wanted, 1
    while path.exists():
        number += 1
        path = wanted.with_name(f"{wanted.name}-{number}")
    return path


def _place(option: str, value: str | None, working_dir: Path) -> str | None:
    """An absolute directory, or a URL as it stands; None for None."""
    if value is None:
        return None
    if not value.strip():
        raise ConfigError(f"{option}: empty. Name a directory, or leave the option out.")
    if _URL.match(value):
        return value
    return os.path.normpath(working_dir / Path(value).expanduser())


def _experiment(config: ClusterConfig, target: ExperimentTarget, job: Job) -> dict[str, Any]:
    strategy = config.strategy
    warm_start = warm_start_request(config.warm_start, job.working_dir)
    return {
        **({"warm_start": warm_start} if warm_start else {}),
        "experiment": str(target),
        "params": config.params,
        "strategy": {
            "name": (strategy.name if strategy else StrategyName.NONE).value,
            "logical_devices": strategy.logical_devices if strategy else None,
        },
        "run_config": config.run_config.arguments(),
        "model_dir": job.model_dir,
        "data_dir": job.data_dir,
        "working_dir": str(job.working_dir),
    }


def _notes(options: JobOptions, config: ClusterConfig) -> Iterator[str]:
    if options.command:
        sections = ("params", "run_config", "warm_start")
        unseen = [name for name in sections if name in config.model_fields_set]
        if unseen:
            yield (
                f"{' and '.join(unseen)} of {options.config} are for experiments:"
                " the command does not see them"
            )
        if config.strategy is not None and config.strategy.logical_devices is not None:
            yield "strategy.logical_devices is for experiments: the command makes its own devices"
    elif options.experiment and config.experiment not in (DEFAULT_EXPERIMENT, options.experiment):
        yield f"--experiment {options.experiment} goes before the file's {config.experiment}"
