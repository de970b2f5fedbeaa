"""Which tasks, strategy and hosts go together: pure rules over a ClusterConfig.

They are TensorFlow's own rules for clusters, and what each strategy would do
with tasks it has no use for (hang, train twice, fail minutes later).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from orchestrator.cluster.config import (
    ClusterConfig,
    ParameterServerStyle,
    StrategyName,
    TaskSection,
)
from orchestrator.cluster.mistake import KeyPath, Mistake
from orchestrator.cluster.task import TaskId, TaskType
from orchestrator.errors import near_miss

LOCAL_HOSTS = ("localhost", "127.0.0.1")
_HOST = re.compile(r"(?P<host>[A-Za-z0-9_][A-Za-z0-9_.@-]*|\[[0-9A-Fa-f:.]+\])(:(?P<port>[0-9]+))?")
_EXAMPLE = "for example 'worker: {replicas: 2}'"

Sections = Mapping[TaskType, TaskSection]


def mistakes(config: ClusterConfig, *, for_command: bool) -> list[Mistake]:
    """What is wrong with the file as a whole; for a command, or for an experiment."""
    tasks = config.effective_tasks()
    found = [*_count_mistakes(config, tasks, for_command)]
    if not found:
        found = [
            *_strategy_mistakes(config, tasks, for_command),
            *_style_mistakes(config, tasks, for_command),
            *_restart_mistakes(config),
        ]
    found += _security_mistakes(config)
    return [*found, *_host_mistakes(config, tasks), *_ssh_mistakes(config, tasks)]


def training_tasks(tasks: Sections) -> int:
    """Number of chief and workers."""
    return sum(tasks[kind].replicas for kind in (TaskType.CHIEF, TaskType.WORKER) if kind in tasks)


def _count_mistakes(config: ClusterConfig, tasks: Sections, for_command: bool) -> Iterator[Mistake]:
    if not tasks:
        yield Mistake(("tasks",), "no task at all. Write at least 'chief: {replicas: 1}'.")
        return
    yield from _too_many(tasks)
    promotion = [*_promotion_mistakes(config)]
    if promotion:
        yield from promotion
    elif not training_tasks(tasks):
        idle = " and ".join(task_type.value for task_type in tasks)
        yield Mistake(
            ("tasks",),
            f"{idle} but neither chief nor worker, so nobody trains. Add 'chief: {{replicas: 1}}'.",
        )
    elif TaskType.CHIEF not in tasks and not for_command:
        yield Mistake(
            ("tasks",),
            "workers but no chief, and an experiment needs one to write checkpoints."
            " Add 'chief: {replicas: 1}', or write 'promote_worker_to_chief: true' so that worker 0"
            " becomes it.",
        )


def _too_many(tasks: Sections) -> Iterator[Mistake]:
    reasons = {
        TaskType.CHIEF: "TensorFlow knows one chief a cluster; further training tasks are workers",
        TaskType.EVALUATOR: "TensorFlow knows one evaluator a job; it evaluates every set by itself",
    }
    for task_type, reason in reasons.items():
        if task_type in tasks and tasks[task_type].replicas > 1:
            yield Mistake(
                ("tasks", task_type.value, "replicas"),
                f"{tasks[task_type].replicas} is too many: {reason}. Write 1.",
            )


def _promotion_mistakes(config: ClusterConfig) -> Iterator[Mistake]:
    if not config.promote_worker_to_chief:
        return
    path = ("promote_worker_to_chief",)
    chief, worker = config.tasks.chief, config.tasks.worker
    if chief is not None and chief.replicas:
        yield Mistake(
            path, "true, but 'tasks.chief' declares a chief already, and there can be one. Remove either."
        )
    elif worker is None or not worker.replicas:
        yield Mistake(
            path, f"true, but there is no worker to promote. Declare workers, {_EXAMPLE}, or remove it."
        )


def _strategy_mistakes(config: ClusterConfig, tasks: Sections, for_command: bool) -> Iterator[Mistake]:
    trainers, has_ps = training_tasks(tasks), TaskType.PS in tasks
    if config.strategy is None:
        if not for_command and (trainers > 1 or has_ps):
            fits = "parameter_server" if has_ps else "multi_worker_mirrored"
            yield Mistake(
                ("strategy",),
                f"not given, and these tasks must share the training. Write 'strategy: {fits}'.",
            )
        return
    name = config.strategy.name
    if name.is_single and has_ps:
        yield Mistake(
            ("strategy",),
            f"{name} trains within one process and would never use the ps tasks."
            " Remove 'tasks.ps', or write 'strategy: parameter_server'.",
        )
    if name.is_single and trainers > 1:
        instead = "parameter_server" if has_ps else "multi_worker_mirrored"
        yield Mistake(
            ("strategy",),
            f"{name} trains within one process, but {trainers} tasks train: each would train a model of"
            " its own"
            f" in the same directory. Keep one, or write 'strategy: {instead}'.",
        )
    if name is StrategyName.MULTI_WORKER_MIRRORED and has_ps:
        yield Mistake(
            ("strategy",),
            "multi_worker_mirrored keeps a copy of the variables in every worker and would never use"
            " the ps tasks."
            " Remove 'tasks.ps', or write 'strategy: parameter_server'.",
        )
    if name is StrategyName.PARAMETER_SERVER and not has_ps:
        yield Mistake(
            ("strategy",),
            "parameter_server needs a task that holds the variables. Add 'ps: {replicas: 1}' to 'tasks'.",
        )
    if config.strategy.logical_devices is not None and name not in (
        StrategyName.MIRRORED,
        StrategyName.CENTRAL_STORAGE,
    ):
        yield Mistake(
            ("strategy", "logical_devices"),
            f"{config.strategy.logical_devices} has no effect with {name}, which does not spread over"
            " the devices"
            " of one process. Remove it, or write 'name: mirrored'.",
        )


def _style_mistakes(config: ClusterConfig, tasks: Sections, for_command: bool) -> Iterator[Mistake]:
    strategy, path = config.strategy, ("strategy", "style")
    if strategy is None:
        return
    if strategy.name is not StrategyName.PARAMETER_SERVER:
        if strategy.style is not None:
            yield Mistake(
                path, f"{strategy.style} is for parameter_server alone, not {strategy.name}. Remove it."
            )
        return
    if not for_command and strategy.style is ParameterServerStyle.COORDINATOR:
        yield Mistake(path, "coordinator is for commands; an experiment trains between graphs. Remove it.")
    if for_command and strategy.style is not ParameterServerStyle.BETWEEN_GRAPH:
        missing = [kind.value for kind in (TaskType.CHIEF, TaskType.WORKER) if kind not in tasks]
        if missing:
            yield Mistake(
                ("tasks",),
                f"no {' and no '.join(missing)}: under tf.distribute.ParameterServerStrategy the chief"
                " drives the"
                f" workers, so there must be one of each. Add '{missing[0]}: {{replicas: 1}}', or write"
                " 'strategy: {name: parameter_server, style: between_graph}' for a TensorFlow 1 program.",
            )


def _restart_mistakes(config: ClusterConfig) -> Iterator[Mistake]:
    if config.strategy is None or config.strategy.name is not StrategyName.MULTI_WORKER_MIRRORED:
        return
    for task_type in (TaskType.CHIEF, TaskType.WORKER):
        if getattr(config.run_policy.restart, task_type.value) == "task":
            yield Mistake(
                ("run_policy", "restart", task_type.value),
                "'task' cannot work with multi_worker_mirrored: the death of one task breaks the"
                " collectives of all"
                " others. Write 'attempt', or remove it.",
            )


def _security_mistakes(config: ClusterConfig) -> Iterator[Mistake]:
    if config.security == "isolated" and config.launcher != "local":
        yield Mistake(
            ("security",),
            f"'isolated' is a private network on one machine, and cannot be kept by 'launcher:"
            f" {config.launcher}'. Remove it, or write 'launcher: local'.",
        )


def _host_mistakes(config: ClusterConfig, tasks: Sections) -> Iterator[Mistake]:
    seen: dict[str, TaskId] = {}
    for task_type, section in tasks.items():
        declared = _declared_type(config, task_type)
        offset = 1 if task_type is TaskType.WORKER and declared_promotion(config) else 0
        for index, entry in enumerate(section.hosts):
            path: KeyPath = ("tasks", declared.value, "hosts", index + offset)
            match = _HOST.fullmatch(entry)
            if not match or not _is_port(match["port"]):
                yield Mistake(
                    path, f"'{entry}' is not HOST or HOST:PORT with a port from 1 to 65535. Correct it."
                )
                continue
            if config.launcher == "local" and match["host"] not in LOCAL_HOSTS:
                yield Mistake(
                    path,
                    f"'{entry}' is not this machine, and 'launcher: local' starts tasks here alone."
                    " Remove 'hosts', or write localhost.",
                )
            task = TaskId(task_type, index)
            address = f"{_plain(match['host'])}:{match['port']}"
            if match["port"] and address in seen:
                yield Mistake(
                    path,
                    f"'{entry}' is the address of {seen[address]} too, and two tasks cannot share one."
                    " Give each its own port, or leave the port out.",
                )
            seen.setdefault(address, task)
    for name in type(config.tasks).model_fields:
        whole = getattr(config.tasks, name)
        if whole is not None and whole.replicas and whole.hosts and len(whole.hosts) != whole.replicas:
            yield Mistake(
                ("tasks", name, "hosts"),
                f"{len(whole.hosts)} entries for {whole.replicas} replicas. Write one entry a task, or none.",
            )


def _ssh_mistakes(config: ClusterConfig, tasks: Sections) -> Iterator[Mistake]:
    """What keeps the ssh launcher from giving every task a host."""
    if config.launcher != "ssh":
        return
    known = [host.name for host in config.ssh.hosts]
    if not known:
        for task_type, section in tasks.items():
            if not section.hosts:
                yield Mistake(
                    ("ssh", "hosts"),
                    f"none, and {task_type} tasks name none either. Write for example 'hosts: [h1, h2]'.",
                )
                return
    for task_type, section in tasks.items() if known else ():
        declared = _declared_type(config, task_type)
        offset = 1 if task_type is TaskType.WORKER and declared_promotion(config) else 0
        for index, entry in enumerate(section.hosts):
            match = _HOST.fullmatch(entry)
            if match and match["host"] not in known:
                hint = near_miss(match["host"], known) or f" There are {', '.join(known)}."
                yield Mistake(
                    ("tasks", declared.value, "hosts", index + offset),
                    f"'{match['host']}' is not among 'ssh.hosts'.{hint}",
                )
    used = {
        *known,
        *(match["host"] for t in tasks.values() for h in t.hosts if (match := _HOST.fullmatch(h))),
    }
    for host in config.ssh.addresses:
        if host not in used:
            hint = near_miss(host, used) or f" There are {', '.join(sorted(used))}."
            yield Mistake(("ssh", "addresses", host), f"for a host that no task can have.{hint}")


def declared_promotion(config: ClusterConfig) -> bool:
    """Whether the chief of `effective_tasks` is the file's worker 0."""
    chief = config.tasks.chief
    return config.promote_worker_to_chief and (chief is None or not chief.replicas)


def _declared_type(config: ClusterConfig, task_type: TaskType) -> TaskType:
    return TaskType.WORKER if task_type is TaskType.CHIEF and declared_promotion(config) else task_type


def _is_port(text: str | None) -> bool:
    return text is None or 1 <= int(text) <= 65535


def _plain(host: str) -> str:
    return "localhost" if host in LOCAL_HOSTS else host.lower()
