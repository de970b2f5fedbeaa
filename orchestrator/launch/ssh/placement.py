"""On which host each task runs: pure, given what the hosts have."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from orchestrator.cluster.task import TaskId, TaskType
from orchestrator.errors import ConfigError
from orchestrator.launch.job import Job
from orchestrator.launch.local_plan import all_tasks

_NONE: Mapping[TaskId, str] = MappingProxyType({})


@dataclass(frozen=True)
class Capacity:
    """What one host has for tasks; None where that is not known."""

    host: str
    cpus: float | None = None
    gpus: int | None = None


@dataclass(frozen=True)
class Declared:
    """Where the cluster file puts a task, and on which port; None where it leaves that open."""

    host: str | None = None
    port: int | None = None


@dataclass
class _Load:
    """What one host has been given so far."""

    capacity: Capacity
    cpus: float
    trainers: int = 0
    gpus_taken: int = 0
    demand: float = 0.0
    tasks: list[TaskId] = field(default_factory=list)

    def take(self, task: TaskId, job: Job) -> None:
        request = job.tasks[task.type]
        self.tasks.append(task)
        self.trainers += task.trains
        self.gpus_taken += request.gpus or 0
        self.demand += _demand(job, task)

    @property
    def gpus_left(self) -> float:
        """Infinite where it is not known."""
        return float("inf") if self.capacity.gpus is None else self.capacity.gpus - self.gpus_taken


def declared(job: Job, task: TaskId) -> Declared:
    """What the `hosts` of a task's type say of it. Raises ConfigError for a port that is none."""
    hosts = job.tasks[task.type].hosts
    if task.index >= len(hosts):
        return Declared()
    host, bracket, rest = hosts[task.index].rpartition("]") if "]" in hosts[task.index] else ("", "", "")
    if not bracket:
        host, _, port = hosts[task.index].partition(":")
    else:
        host, port = host + bracket, rest.lstrip(":")
    if not port:
        return Declared(host)
    if not (port.isdigit() and 0 < int(port) < 65536):
        raise ConfigError(f"{task}: '{port}' is not a port; write {host}:PORT with a number from 1 to 65535.")
    return Declared(host, int(port))


def can_wait(job: Job, task: TaskId) -> bool:
    """Whether the others can do without a task meanwhile: an evaluator beside a training."""
    return task.type is TaskType.EVALUATOR and any(other.trains for other in all_tasks(job))


def place(
    job: Job,
    hosts: Sequence[Capacity],
    staying: Mapping[TaskId, str] = _NONE,
    left_out: Collection[TaskId] = (),
) -> dict[TaskId, str]:
    """The host of every task that is not left out.

    Those that stay have theirs, be it one of `hosts` or not. Tasks stand where
    they are declared; the others are spread so that no host
    has much more to do than another, for its size: training tasks by GPUs where
    there are any, all others by cores. Raises ConfigError when GPUs that a task
    asks for are nowhere left, and when there is no host for it.
    """
    sizes = _sizes(hosts)
    loads = {host.host: _Load(host, sizes[host.host]) for host in hosts}
    placed = dict(staying)
    for task, host in staying.items():
        if host in loads:
            loads[host].take(task, job)
    wanted = [task for task in all_tasks(job) if task not in left_out]
    for task in wanted:
        declaration = declared(job, task).host
        if task not in placed and declaration is not None:
            placed[task] = declaration
            if declaration not in loads:
                raise ConfigError(f"{task} is declared on {declaration}, and that host cannot be used.")
            loads[declaration].take(task, job)
    for task in _most_demanding_first(wanted, job):
        if task not in placed:
            placed[task] = _choose(job, task, list(loads.values()))
            loads[placed[task]].take(task, job)
    return {task: placed[task] for task in wanted}


def missing(
    job: Job, failures: Mapping[str, str], hosts: int, tasks: Collection[TaskId] | None = None
) -> str | None:
    """Why tasks cannot be placed without hosts that cannot be reached; None where the others will do.

    `failures` says why each cannot be reached; `hosts` is how many there are.
    Without `tasks` it is about all that cannot wait.
    """
    about = [t for t in all_tasks(job) if not can_wait(job, t)] if tasks is None else tasks
    declarations = {task: declared(job, task).host for task in about}
    found = []
    for name, reason in failures.items():
        there = [str(task) for task, host in declarations.items() if host == name]
        if there or len(failures) == hosts:
            why = f"{', '.join(there)} declared there; " if there else ""
            found.append(f"host {name} cannot be reached ({why}{reason or 'no reason was given'})")
    return "; ".join(found) or None


def _most_demanding_first(tasks: Collection[TaskId], job: Job) -> list[TaskId]:
    """Those that ask for GPUs come first, the hungriest of them in front; then as tasks are shown."""
    return sorted(tasks, key=lambda task: (-(job.tasks[task.type].gpus or 0), task))


def _choose(job: Job, task: TaskId, loads: list[_Load]) -> str:
    if not loads:
        raise ConfigError(f"there is no host for {task}.")
    wanted = job.tasks[task.type].gpus
    fitting = [load for load in loads if load.gpus_left >= (wanted or 0)] if wanted else loads
    if not fitting:
        left = ", ".join(f"{load.capacity.host} {load.gpus_left:g}" for load in loads)
        raise ConfigError(
            f"{task} asks for {wanted} GPU{'s' * (wanted != 1)}, and no host has them left ({left})."
            " Ask for fewer, or add hosts."
        )
    by_gpus = wanted is None and task.trains and any((load.capacity.gpus or 0) > 0 for load in loads)

    def weight(load: _Load) -> tuple[float, float, int]:
        gpus = max(0.0, load.gpus_left) if by_gpus else 1.0
        crowd = (load.trainers + 1) / gpus if gpus else float("inf")
        return (crowd if by_gpus else 0.0, (load.demand + _demand(job, task)) / load.cpus, len(load.tasks))

    return min(fitting, key=weight).capacity.host  # of equals, the first as declared


def _demand(job: Job, task: TaskId) -> float:
    return job.tasks[task.type].cpus or 1.0


def _sizes(hosts: Sequence[Capacity]) -> Mapping[str, float]:
    """Cores by host; one that does not tell counts like the smallest that does."""
    known = [host.cpus for host in hosts if host.cpus]
    return {host.host: host.cpus or min(known, default=1.0) for host in hosts}
