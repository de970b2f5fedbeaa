"""What one task knows of its cluster: the pure half of RunConfig."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.cluster.tf_config import TFConfig
from orchestrator.errors import TFConfigError

CHIEF, MASTER, WORKER, PS, EVALUATOR = "chief", "master", "worker", "ps", "evaluator"
Addresses = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class ClusterView:
    """A task's identity and the size of its training cluster.

    The evaluator is outside of the training cluster: its view has no addresses
    and no replicas.
    """

    addresses: Addresses
    task_type: str
    task_id: int
    is_chief: bool
    master: str
    """Target of training sessions; empty means this process."""
    evaluation_master: str
    num_ps_replicas: int
    num_worker_replicas: int
    """Tasks that take training steps, the chief included."""
    global_id_in_cluster: int | None


def view_of(config: TFConfig, worker_may_lead: bool = False) -> ClusterView:
    """The view of the task that `config` names.

    `worker_may_lead`: a cluster without chief is accepted, its worker 0 is the
    chief, as the collective strategies have it. Raises TFConfigError.
    """
    if config.cluster is None:
        return _lone_view(config)
    addresses = {key.value: hosts for key, hosts in config.cluster.addresses.items()}
    addresses.update(config.foreign_tasks)
    addresses.pop(EVALUATOR, None)
    task = (config.task.type.value, config.task.index) if config.task else config.foreign_task
    if task is not None and task[0] == EVALUATOR:
        return _evaluator_view(config, addresses, task)
    chief = _chief_type(addresses, worker_may_lead)
    if task is None:
        raise TFConfigError('If "cluster" is set in TF_CONFIG, task type must be set.')
    return ClusterView(
        addresses=addresses,
        task_type=task[0],
        task_id=task[1],
        is_chief=task == (chief, 0),
        master=_session_target(config, addresses, task),
        evaluation_master="",
        num_ps_replicas=len(addresses.get(PS, ())),
        num_worker_replicas=sum(len(addresses.get(name, ())) for name in {WORKER, chief}),
        global_id_in_cluster=_global_id(addresses, task, chief),
    )


def _lone_view(config: TFConfig) -> ClusterView:
    task = (config.task.type.value, config.task.index) if config.task else (WORKER, 0)
    if task[0] != WORKER:
        raise TFConfigError(
            f'If "cluster" is not set in TF_CONFIG, task type must be WORKER. Given: {task[0]!r}.'
        )
    if task[1] != 0:
        raise TFConfigError(f'If "cluster" is not set in TF_CONFIG, task index must be 0. Given: {task[1]}.')
    return ClusterView(
        addresses={},
        task_type=WORKER,
        task_id=0,
        is_chief=True,
        master=config.session_master or "",
        evaluation_master=config.eval_session_master or "",
        num_ps_replicas=0,
        num_worker_replicas=1,
        global_id_in_cluster=0,
    )


def _evaluator_view(config: TFConfig, addresses: Addresses, task: tuple[str, int]) -> ClusterView:
    if MASTER in addresses:
        raise TFConfigError(
            "If `master` node exists in `cluster`, task_type `evaluator` is not supported."
            " Rename 'master' to 'chief' in TF_CONFIG."
        )
    return ClusterView(
        addresses={},
        task_type=EVALUATOR,
        task_id=task[1],
        is_chief=False,
        master="",
        evaluation_master=config.eval_session_master or "",
        num_ps_replicas=0,
        num_worker_replicas=0,
        global_id_in_cluster=None,
    )


def _chief_type(addresses: Addresses, worker_may_lead: bool) -> str:
    for name in (MASTER, CHIEF):
        if addresses.get(name):
            return name
    if worker_may_lead and addresses.get(WORKER):
        return WORKER
    raise TFConfigError(
        'If "cluster" is set in TF_CONFIG, it must have one "chief" node.'
        f" Given: {', '.join(addresses) or 'no task at all'}."
    )


def _session_target(config: TFConfig, addresses: Addresses, task: tuple[str, int]) -> str:
    if config.session_master is not None:
        return config.session_master
    if sum(len(hosts) for hosts in addresses.values()) == 1:
        return ""  # a session in this process is faster than one through a server
    return f"grpc://{addresses[task[0]][task[1]]}"


def _global_id(addresses: Addresses, task: tuple[str, int], chief: str) -> int:
    """Position when the chief comes first, then the other types by name, then ps."""
    between = sorted(name for name in addresses if name not in (chief, PS))
    order = [chief, *between, PS]
    before = order[: order.index(task[0])]
    return sum(len(addresses.get(name, ())) for name in before) + task[1]
