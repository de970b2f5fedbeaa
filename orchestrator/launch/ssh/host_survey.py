"""Asks every host of a job, all at once, what it has and what it sees of the others."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.cluster.task import TaskId
from orchestrator.launch.job import Job
from orchestrator.launch.node.frames import Header
from orchestrator.launch.ssh.placement import declared

Ask = Callable[[Mapping[str, Header]], Mapping[str, tuple[Header, bytes]]]
"""Puts a question to each host, and waits for all answers."""


@dataclass(frozen=True)
class Visit:
    """Hosts that were reached, or not; nothing runs there."""

    addresses: Mapping[str, str]
    """As the hosts reach each other, by host."""
    failures: Mapping[str, str]
    """Why the others cannot be reached."""
    placed: Mapping[TaskId, str]
    """The host of each task."""
    ask: Ask
    unplaced: str = ""
    """Why tasks cannot be placed on hosts."""


@dataclass(frozen=True)
class HostAnswers:
    """What one host has said; empty where it has not."""

    host: str
    address: str
    problem: str | None = None
    """Why it says nothing."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """See orchestrator.launch.node.facts."""
    reached: Mapping[str, str | None] = field(default_factory=dict)
    """Other hosts whose ports it tried: None, or why not."""
    seen: Mapping[str, str | None] = field(default_factory=dict)
    """Other hosts whose file in the model directory it looked for: None, or why not."""


def survey(
    job: Job, visit: Visit, packages: Sequence[tuple[str, str]] | None = None
) -> dict[str, HostAnswers]:
    """Every host's answers, in the order of the hosts.

    `packages` are (distribution, module) whose versions are asked for, with that of
    TensorFlow; None: of nothing, which is quicker. Files and ports that serve as
    probes are taken away again.
    """
    mark = f"check-{secrets.token_hex(4)}"
    reached = [name for name in visit.addresses if name not in visit.failures]
    tokens = {name: f"{mark}-{number}" for number, name in enumerate(reached)}
    ports = _declared_ports(job, visit.placed)
    names = sorted({visit.addresses[name] for name in reached}) if len(reached) > 1 else []
    begin: Header = {"model_dir": job.model_dir, "names": names}
    if packages is not None:
        begin["packages"] = [list(pair) for pair in packages]
    facts, silent = _stage(
        visit.ask,
        {n: {"stage": "begin", "token": tokens[n], "port": ports.get(n), **begin} for n in reached},
    )
    others = {
        name: {"address": visit.addresses[name].strip("[]"), "port": found["port"], "token": tokens[name]}
        for name, found in facts.items()
        if found["port"] is not None
    }
    questions: dict[str, Header] = {
        name: {
            "stage": "look",
            "token": tokens[name],
            "others": {other: call for other, call in others.items() if other != name},
            "tokens": [tokens[other] for other in facts if other != name],
        }
        for name in facts
    }
    looks, silent_later = _stage(visit.ask, questions)
    _stage(visit.ask, {name: {"stage": "end", "token": tokens[name]} for name in looks})
    of_token = {token: name for name, token in tokens.items()}
    problems = {**visit.failures, **silent, **silent_later}
    return {
        name: HostAnswers(
            name,
            visit.addresses[name],
            problems.get(name),
            facts.get(name, {}),
            looks.get(name, {}).get("reached", {}),
            {of_token[token]: why for token, why in looks.get(name, {}).get("seen", {}).items()},
        )
        for name in visit.addresses
    }


def _stage(ask: Ask, questions: Mapping[str, Header]) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """The facts of each host, and why there are none of the others."""
    facts: dict[str, dict[str, Any]] = {}
    problems: dict[str, str] = {}
    for name, (header, _) in ask({n: {"do": "facts", **q} for n, q in questions.items()}).items():
        if header.get("event") == "facts":
            facts[name] = header["facts"]
        else:
            problems[name] = str(header.get("message") or "the connection was lost")
    return facts, problems


def _declared_ports(job: Job, placed: Mapping[TaskId, str]) -> dict[str, int]:
    """One port a host that the cluster file wants, where it wants any."""
    ports: dict[str, int] = {}
    for task, name in placed.items():
        port = declared(job, task).port
        if port is not None:
            ports.setdefault(name, port)
    return ports
