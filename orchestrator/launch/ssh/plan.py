"""The plan of an attempt over several hosts: pure, given what each of them is."""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from orchestrator.cluster.task import TaskId
from orchestrator.errors import ConfigError
from orchestrator.launch.device_shares import VISIBLE_GPUS, Machine, shares
from orchestrator.launch.job import Job, LaunchPlan, StartMethod, TaskPlan
from orchestrator.launch.local_plan import make_plan, parent_environment
from orchestrator.launch.run_dir import RunDir
from orchestrator.launch.start_method import ParentFacts, choose, same_interpreter, wanted_method

KEEPALIVE_VARIABLE = "TF_GRPC_DEFAULT_OPTIONS"
KEEPALIVE = "grpc.keepalive_time_ms=20000,grpc.keepalive_timeout_ms=10000"
"""So that a cut cable is noticed: without it TensorFlow waits for ever for an answer."""
_NONE: Mapping[TaskId, str] = MappingProxyType({})
NAME = "ssh"


@dataclass(frozen=True)
class Host:
    """What a plan needs to know of a host."""

    name: str
    """As the cluster file has it."""
    address: str
    """As the other hosts reach it."""
    python: str
    """Its interpreter, for commands that are run by the launcher's own."""
    run_dir: str
    code_dir: str
    """Its copy of the code, where tasks run."""
    cores: int | None = None
    gpus: tuple[str, ...] = ()
    """As CUDA_VISIBLE_DEVICES names them."""
    environ: Mapping[str, str] = field(default_factory=dict)
    """What tasks inherit there."""
    asked: bool = True
    """Whether all this is from the host itself."""


def placeholder(name: str, address: str, python: str) -> Host:
    """A host that nobody has asked anything, for plans that are only shown."""
    return Host(
        name, address, python, f"<run directory on {name}>", f"<code directory on {name}>", asked=False
    )


def make_ssh_plan(
    job: Job,
    attempt: int,
    hosts: Mapping[TaskId, Host],
    ports: Mapping[TaskId, object],
    *,
    code_dir: Path,
    known: Mapping[TaskId, str] = _NONE,
    keepalive: str | None = None,
) -> LaunchPlan:
    """The plan of one attempt, for the tasks that have hosts.

    `ports` is empty for a lone process; `known` has the addresses of tasks that
    have them already; `code_dir` is that of this machine, `keepalive` what is
    to stand in TF_GRPC_DEFAULT_OPTIONS instead of what the host or we put there.
    Commands and environments are as the hosts see them, logs those that the
    launcher keeps. Raises ConfigError for an address that others cannot reach.
    """
    check_addresses(hosts)
    held = {task: f"{_in_brackets(hosts[task].address)}:{port}" for task, port in ports.items()}
    addresses = {**known, **held}
    plans: list[TaskPlan] = []
    notes: list[str] = []
    for host in {host.name: host for host in hosts.values()}.values():
        here = [task for task in hosts if hosts[task].name == host.name]
        there = job_on(job, host, code_dir)
        whole = make_plan(there, attempt, addresses, environ=host.environ, interpreter=sys.executable)
        parts, of_host = shares(job, here, Machine(host.cores, host.gpus))
        notes += [f"{host.name}: {note}" for note in of_host]
        for task in here:
            share = {n: v for n, v in parts[task].items() if n == VISIBLE_GPUS or n not in host.environ}
            env = {**_keepalive(host, keepalive), **share}
            plans.append(_on_host(job, whole.task(task), host, env, code_dir))
        cluster = whole.cluster
    return LaunchPlan(job, attempt, cluster, tuple(sorted(plans, key=lambda p: p.task)), NAME, tuple(notes))


def _on_host(job: Job, plan: TaskPlan, host: Host, env: Mapping[str, str], code_dir: Path) -> TaskPlan:
    env = {**env, **plan.env}
    command = job.tasks[plan.task.type].command or job.command
    start, why = _start(job, host, command, {**host.environ, **env}, code_dir)
    return replace(
        plan,
        host=host.name,
        env=env,
        command=command_on(job, command, host),
        start_method=start,
        why=why,
        log_path=RunDir(job.run_dir).log(plan.task),
    )


def _keepalive(host: Host, wanted: str | None) -> dict[str, str]:
    """What is set for every task on a host, unless the cluster file says otherwise."""
    if wanted is None and KEEPALIVE_VARIABLE in host.environ:
        return {}
    return {KEEPALIVE_VARIABLE: KEEPALIVE if wanted is None else wanted}


def _start(
    job: Job, host: Host, command: tuple[str, ...], environ: Mapping[str, str], code_dir: Path
) -> tuple[StartMethod, str]:
    """How a command starts on a host, judged by the launcher's own interpreter and copy of the code."""
    own = (sys.executable, *command[1:]) if _is_own(command) else command
    of_parent = parent_environment(job, host.environ)
    selected = of_parent.get(VISIBLE_GPUS)
    hidden = selected is not None and (not selected.strip() or selected.strip().startswith("-1"))
    parent = ParentFacts(sys.executable, of_parent, bool(host.gpus) and not hidden, code_dir)
    method, why = choose(wanted_method(job), own, environ, parent)
    if method is StartMethod.FORK and wanted_method(job) is None and not host.asked:
        why = "unless the host has a GPU; imports TensorFlow once for all"
    return method, why


def job_on(job: Job, host: Host, code_dir: Path) -> Job:
    """The job as a host is told of it: with its own paths and interpreter."""
    prepare = job.prepare_command
    return replace(
        job,
        run_dir=Path(host.run_dir),
        working_dir=Path(host.code_dir) / inside_code(job, code_dir),
        command=command_on(job, job.command, host),
        prepare_command=None if prepare is None else command_on(job, prepare, host),
        tasks={
            kind: replace(r, command=None if r.command is None else command_on(job, r.command, host))
            for kind, r in job.tasks.items()
        },
        launcher_options={},
    )


def plan_on(plan: LaunchPlan, host: Host, code_dir: Path) -> LaunchPlan:
    """The part of a plan that one host carries out, with that host's paths throughout."""
    logs = RunDir(Path(host.run_dir))
    tasks = tuple(
        replace(task, log_path=logs.log(task.task)) for task in plan.tasks if task.host == host.name
    )
    return replace(plan, job=job_on(plan.job, host, code_dir), tasks=tasks, away=frozenset())


def preparing_on(plan: LaunchPlan, host: Host) -> LaunchPlan:
    """The plan with the prepare command as a host runs it."""
    command = command_on(plan.job, plan.job.prepare_command or (), host)
    return replace(plan, job=replace(plan.job, prepare_command=command or None))


def command_on(job: Job, command: tuple[str, ...], host: Host) -> tuple[str, ...]:
    """A command with the host's interpreter in place of the launcher's, and its run directory."""
    if not command:
        return command
    head = host.python if _is_own(command) else command[0]
    run_dir = f"{job.run_dir}/"
    rest = (
        f"{host.run_dir}/{word[len(run_dir) :]}" if word.startswith(run_dir) else word for word in command[1:]
    )
    return (head, *rest)


def inside_code(job: Job, code_dir: Path) -> Path:
    """Where in the copy of the code tasks run: where the launcher runs, if that is in it, else its top."""
    try:
        return job.working_dir.relative_to(code_dir)
    except ValueError:
        return Path()


def check_addresses(hosts: Mapping[TaskId, Host]) -> None:
    """Raises ConfigError for a host that the others would take for themselves."""
    names = {host.name: host.address for host in hosts.values()}
    if len(names) < 2:
        return
    for name, address in names.items():
        if is_loopback(address):
            raise ConfigError(
                f"ssh reaches {name} as {address}, which every other host takes for itself. Write the"
                f" address by which they reach it: 'ssh: {{addresses: {{{name}: 10.0.0.5}}}}'."
            )


def is_loopback(address: str) -> bool:
    """Whether an address stands for whoever reads it."""
    if address.lower() in ("localhost", "localhost.localdomain", "ip6-localhost"):
        return True
    try:
        return ipaddress.ip_address(address.strip("[]")).is_loopback
    except ValueError:
        return False


def _is_own(command: tuple[str, ...]) -> bool:
    return command[0] == sys.executable or same_interpreter(command[0])


def _in_brackets(address: str) -> str:
    return f"[{address}]" if ":" in address and not address.startswith("[") else address
