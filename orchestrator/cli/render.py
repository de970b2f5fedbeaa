"""`render`: everything that `run` would start, without starting it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from orchestrator.cli import progress_text, tensorboard_side_car
from orchestrator.cli.arguments import (
    ConfigArgument,
    DataDirOption,
    ExperimentOption,
    ModelDirOption,
    RunDirOption,
    SetOption,
    command_of,
)
from orchestrator.cli.job_options import JobOptions, ResolvedJob, resolve
from orchestrator.cluster.records import ENV_RUN_DIR
from orchestrator.cluster.tf_config import VARIABLE
from orchestrator.launch.job import LaunchPlan, TaskPlan
from orchestrator.launch.launcher import Previewing
from orchestrator.launch.registry import make_launcher
from orchestrator.launch.run_state import plan_as_json
from orchestrator.launch.summary import shown_path

PORTS_NOTE = "nothing was started or written; the ports are examples, free a moment ago"
HOSTS_NOTE = "nothing was started or written, and no host was asked; what stands in <> only hosts can tell"
_LABEL_WIDTH = 12


def render(
    ctx: typer.Context,
    *,
    config: ConfigArgument,
    experiment: ExperimentOption = None,
    model_dir: ModelDirOption = None,
    run_dir: RunDirOption = None,
    data_dir: DataDirOption = None,
    overrides: SetOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, for machines.")] = False,
) -> None:
    """Show every task's host, address, environment and command; starts and writes nothing."""
    options = JobOptions(
        config, experiment, model_dir, run_dir, data_dir, tuple(overrides or ()), command_of(ctx)
    )
    resolved = resolve(options, need_packages=False)
    plan = masked(planned(resolved))
    if as_json:
        typer.echo(json.dumps(as_plain(resolved, plan), indent=2))
        return
    console = Console(highlight=False)
    for line in describe(resolved, plan):
        console.print(line, soft_wrap=True)


def planned(resolved: ResolvedJob) -> LaunchPlan:
    """The plan of the first attempt; the ports it held are free again. Raises as `Launcher.plan`."""
    launcher = make_launcher(resolved.config.launcher, resolved.job.run_dir)
    try:
        if isinstance(launcher, Previewing):
            return launcher.preview(resolved.job)
        return launcher.plan(resolved.job, 0)
    finally:
        launcher.close()


def masked(plan: LaunchPlan) -> LaunchPlan:
    """The plan without the values of secrets: for people, not for `submit`."""
    masker = plan.job.masker()
    tasks = tuple(
        replace(task, env=masker.environment(task.env), command=tuple(map(masker.text, task.command)))
        for task in plan.tasks
    )
    return replace(plan, tasks=tasks)


def as_plain(resolved: ResolvedJob, plan: LaunchPlan) -> dict[str, Any]:
    """What `plan.json` of the run would hold, and what else `run` would write or do."""
    job = resolved.job
    value = plan_as_json(plan)
    for task in plan.tasks:
        value["tasks"][str(task.task)]["tf_config"] = json.loads(task.tf_config) if task.tf_config else None
    return {
        **value,
        "run_dir": str(job.run_dir),
        "restart_rule": progress_text.restart_rule(job),
        "hang_rule": progress_text.hang_rule(job),
        "prepare_command": list(plan.job.prepare_command) if plan.job.prepare_command else None,
        "experiment": job.masker().plain(resolved.experiment),
        "tensorboard": next((finding.text for finding in tensorboard_side_car.check(resolved)), None),
        "notes": [*resolved.notes, *plan.notes, _last_note(plan)],
    }


def describe(resolved: ResolvedJob, plan: LaunchPlan) -> Iterator[Text]:
    """The lines of the report, header first. Values are never broken, so that they can be copied."""
    yield from _header(resolved, plan)
    shared = _shared_env(plan)
    same_command = len({task.command for task in plan.tasks}) == 1
    if len(plan.tasks) > 1 and (shared or same_command):
        yield Text()
        yield Text("every task", style="bold")
        if same_command:
            yield _line("command", shlex.join(plan.tasks[0].command))
        yield from _environment(shared)
    for task in plan.tasks:
        yield Text()
        yield from _task(
            task, {} if len(plan.tasks) == 1 else shared, len(plan.tasks) == 1 or not same_command
        )
    yield Text()
    for note in (*resolved.notes, *plan.notes, _last_note(plan)):
        yield Text("note: ", style="yellow").append(note, style="none")


def _last_note(plan: LaunchPlan) -> str:
    asked = any(task.env[ENV_RUN_DIR] == str(plan.job.run_dir) for task in plan.tasks)
    return PORTS_NOTE if asked else HOSTS_NOTE


def _header(resolved: ResolvedJob, plan: LaunchPlan) -> Iterator[Text]:
    job = resolved.job
    count = f"{job.size} task{'' if job.size == 1 else 's'}"
    name = resolved.config.strategy.name.value if resolved.config.strategy else "not declared"
    yield Text(job.name, style="bold")
    yield _line("launcher", f"{plan.launcher}, {count}")
    yield _line("strategy", f"{name} ({job.strategy} for restarts)")
    yield _line("restarts", progress_text.restart_rule(job))
    yield _line("hangs", progress_text.hang_rule(job))
    if resolved.target is not None:
        yield _line("experiment", str(resolved.target))
        for key, value in job.masker().plain(resolved.config.params).items():
            yield _line("", f"{key} = {value!r}")
    yield _line("model dir", shown_path(job.model_dir))
    yield _line("run dir", shown_path(str(job.run_dir)))
    yield _line("data dir", job.data_dir or "the default of TensorFlow Datasets")
    if plan.job.prepare_command:
        yield _line("first, once", shlex.join(plan.job.prepare_command))
    for finding in tensorboard_side_car.check(resolved):
        yield _line(finding.name, finding.text)


def _task(task: TaskPlan, shared: Mapping[str, str], show_command: bool) -> Iterator[Text]:
    yield Text(str(task.task), style="bold")
    yield _line("host", task.host)
    yield _line("address", task.address or "none, it is alone")
    yield _line("start", f"{task.start_method}: {task.why}")
    yield _line("log", shown_path(str(task.log_path)))
    if show_command:
        yield _line("command", shlex.join(task.command))
    own = {name: value for name, value in task.env.items() if name not in shared and name != VARIABLE}
    yield from _environment(own)
    if task.tf_config is None:
        yield _line(VARIABLE, "not set, as TensorFlow expects of a lone process")
        return
    pretty = pretty_tf_config(json.loads(task.tf_config)).splitlines()
    for number, line in enumerate(pretty):
        yield _line(VARIABLE if number == 0 else "", line)
    yield _line("  exactly", f"{VARIABLE}={shlex.quote(task.tf_config)}")


def pretty_tf_config(value: Mapping[str, Any]) -> str:
    """JSON with one line a task type: as much as fits the eye."""
    lines = []
    for key, item in value.items():
        if key == "cluster":
            types = ",\n".join(f"    {json.dumps(name)}: {json.dumps(hosts)}" for name, hosts in item.items())
            lines.append(f'  "cluster": {{\n{types}\n  }}')
        else:
            lines.append(f"  {json.dumps(key)}: {json.dumps(item)}")
    return "{\n" + ",\n".join(lines) + "\n}"


def _shared_env(plan: LaunchPlan) -> dict[str, str]:
    """Variables that every task gets with the same value."""
    first, *others = plan.tasks
    return {
        name: value
        for name, value in first.env.items()
        if all(other.env.get(name) == value for other in others)
    }


def _environment(env: Mapping[str, str]) -> Iterator[Text]:
    for number, name in enumerate(sorted(env)):
        yield _line("environment" if number == 0 else "", f"{name}={shlex.quote(env[name])}")


def _line(label: str, value: str) -> Text:
    return Text(f"  {label:{_LABEL_WIDTH}}", style="dim").append(value, style="none")
