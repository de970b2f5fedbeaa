"""The plan of an attempt on this machine: pure, given the addresses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from orchestrator.cluster import tf_config
from orchestrator.cluster.records import ENV_DATA_DIR, ENV_MODEL_DIR, ENV_RUN_DIR, ENV_TASK, TaskEnvironment
from orchestrator.cluster.secrets import ENV_SECRET_ENV
from orchestrator.cluster.spec import ClusterSpec
from orchestrator.cluster.task import TaskId
from orchestrator.errors import ConfigError
from orchestrator.launch import outbound_relay
from orchestrator.launch.device_shares import VISIBLE_GPUS, Machine, shares
from orchestrator.launch.job import Job, LaunchPlan, StartMethod, TaskPlan
from orchestrator.launch.ports import REUSE_PORT_VARIABLE
from orchestrator.launch.process_marks import PLACEHOLDER
from orchestrator.launch.run_dir import RunDir
from orchestrator.launch.start_method import ParentFacts, choose, gpu_visible, wanted_method

QUIET = {"TF_CPP_MIN_LOG_LEVEL": "2", "PYTHONUNBUFFERED": "1"}
"""Set for tasks and their parent unless the user has set them: few TensorFlow messages, output at once."""
TFDS_DATA_DIR = "TFDS_DATA_DIR"
THIS_MACHINE = ("localhost", "127.0.0.1")


def all_tasks(job: Job) -> list[TaskId]:
    """Every task of a job, in the order in which tasks are shown."""
    return sorted(
        TaskId(kind, index) for kind, request in job.tasks.items() for index in range(request.replicas)
    )


def declared_address(job: Job, task: TaskId) -> tuple[str, int | None]:
    """Host and port that the cluster file gives a task; 127.0.0.1 and None where it gives none.

    Raises ConfigError for a host that is not this machine, and for a port that is none.
    """
    hosts = job.tasks[task.type].hosts
    if task.index >= len(hosts):
        return "127.0.0.1", None
    host, colon, port = hosts[task.index].partition(":")
    if host not in THIS_MACHINE:
        raise ConfigError(
            f"{task} is declared on host '{hosts[task.index]}', but the local launcher runs tasks on this"
            " machine only: write localhost, or use the ssh launcher."
        )
    if not colon:
        return host, None
    if not (port.isdigit() and 0 < int(port) < 65536):
        raise ConfigError(f"{task}: '{port}' is not a port; write {host}:PORT with a number from 1 to 65535.")
    return host, int(port)


def inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """What tasks inherit: everything but another cluster's TF_CONFIG and another run's variables."""
    return {
        name: value
        for name, value in environ.items()
        if name != tf_config.VARIABLE and not name.startswith("ORCHESTRATOR_")
    }


def parent_environment(job: Job, environ: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of the warm parent: that of a task without what makes it a task."""
    own = {ENV_RUN_DIR: str(job.run_dir), ENV_TASK: PLACEHOLDER}
    return {**QUIET, **inherited(environ), **job.env, **own}


def preparation_environment(job: Job, environ: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of the prepare command."""
    env = {**parent_environment(job, environ), **_places(job), ENV_MODEL_DIR: job.model_dir}
    if job.data_dir is not None:
        env[ENV_DATA_DIR] = job.data_dir
    del env[ENV_TASK]  # it is no task, and must not be taken for one
    return env


def task_environment(plan: TaskPlan, environ: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of a planned task."""
    return {**inherited(environ), **plan.env}


def make_plan(
    job: Job,
    attempt: int,
    addresses: Mapping[TaskId, str],
    *,
    environ: Mapping[str, str],
    interpreter: str,
    machine: Machine | None = None,
) -> LaunchPlan:
    """The plan of one attempt. `addresses` is empty for a lone process, which gets no TF_CONFIG.

    Without `machine` no cores and GPUs are shared out.
    """
    by_type: dict[str, list[str]] = {}
    for task in all_tasks(job):
        if task in addresses:
            by_type.setdefault(task.type.value, []).append(addresses[task])
    cluster = ClusterSpec.of({**by_type}) if by_type else None
    of_parent = parent_environment(job, environ)
    parent = ParentFacts(interpreter, of_parent, gpu_visible(of_parent), job.working_dir)
    parts, notes = shares(job, all_tasks(job), machine or Machine())
    plans = []
    for task in all_tasks(job):
        env = {**_not_chosen(parts[task], environ), **_own_variables(job, attempt, task, environ)}
        if cluster is not None:
            model_dir = None if job.is_experiment else job.model_dir
            env[tf_config.VARIABLE] = tf_config.for_task(cluster, task, model_dir).encode()
            env[REUSE_PORT_VARIABLE] = "1"
        command = job.tasks[task.type].command or job.command
        start = choose(wanted_method(job), command, {**inherited(environ), **env}, parent)
        plans.append(_task_plan(job, task, env, start, addresses.get(task)))
    return LaunchPlan(job, attempt, cluster, tuple(plans), "local", notes=(*_notes(job, environ), *notes))


def _not_chosen(share: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """What the user has not set in the environment; GPUs are always dealt from those that were selected."""
    return {name: value for name, value in share.items() if name == VISIBLE_GPUS or name not in environ}


def _own_variables(job: Job, attempt: int, task: TaskId, environ: Mapping[str, str]) -> dict[str, str]:
    """What is set for a task, but for its cluster."""
    quiet = {name: value for name, value in QUIET.items() if name not in environ}
    told = TaskEnvironment(
        job.run_dir,
        task,
        attempt,
        job.model_dir,
        job.data_dir,
        every_checkpoint=job.policy.evaluate_every_checkpoint,
    )
    return {
        **quiet,
        **job.env,
        **job.tasks[task.type].env,
        **_places(job),
        **_listed_secrets(job),
        **told.as_environment(),
    }


def _listed_secrets(job: Job) -> dict[str, str]:
    return {ENV_SECRET_ENV: ",".join(job.secret_env)} if job.secret_env else {}


def _task_plan(
    job: Job, task: TaskId, env: Mapping[str, str], start: tuple[StartMethod, str], address: str | None
) -> TaskPlan:
    return TaskPlan(
        task=task,
        host=address.rsplit(":", 1)[0] if address else "127.0.0.1",
        address=address,
        env=env,
        command=job.tasks[task.type].command or job.command,
        start_method=start[0],
        why=start[1],
        log_path=RunDir(job.run_dir).log(task),
    )


def preparation_plan(job: Job, environ: Mapping[str, str], interpreter: str) -> tuple[StartMethod, str]:
    """How the prepare command starts, and why."""
    of_parent = parent_environment(job, environ)
    parent = ParentFacts(interpreter, of_parent, gpu_visible(of_parent), Path(job.working_dir))
    return choose(
        wanted_method(job), job.prepare_command or (), preparation_environment(job, environ), parent
    )


def _places(job: Job) -> dict[str, str]:
    return {} if job.data_dir is None else {TFDS_DATA_DIR: job.data_dir}


def _notes(job: Job, environ: Mapping[str, str]) -> Iterator[str]:
    if tf_config.VARIABLE in environ:
        yield "TF_CONFIG of the environment is not passed on: each task gets its own, a lone one gets none"
    if job.isolated:
        way = outbound_relay.describe()
        yield f"tasks have a network of their own; connections from it to the outside: {way}"
