"""Sections of a cluster file that hold the options of one launcher each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema

from orchestrator.cluster.section import Section

HOST_PATTERN = r"^([A-Za-z0-9_][A-Za-z0-9_.@-]*|\[[0-9A-Fa-f:.]+\])$"
"""What `ssh` is given as a host: never an option, never several words."""
_ADDRESS = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*|\[[0-9A-Fa-f:.]+\]")


class LocalSection(Section):
    """Options of the local launcher."""

    start_method: Literal["fork", "spawn"] | None = Field(
        default=None,
        description="fork: from one parent that has imported TensorFlow; spawn: a new interpreter a task."
        " Default: fork where no GPU is visible, else spawn.",
    )


def _host_name(value: str) -> str:
    if not re.fullmatch(HOST_PATTERN[1:-1], value):
        why = (
            "it would be taken for an option of ssh"
            if value.startswith("-")
            else "it is no HOST or USER@HOST"
        )
        port = " The port of sshd goes into ~/.ssh/config" if re.fullmatch(r"[^:\s]+:[0-9]+", value) else ""
        raise ValueError(f"is refused: {why}.{port}")
    return value


HostName = Annotated[str, AfterValidator(_host_name), Field(json_schema_extra={"pattern": HOST_PATTERN})]


class SshHostSection(Section):
    """A host: its name, or a mapping that says more about it."""

    name: HostName = Field(description="Address, USER@ADDRESS, or a name of ~/.ssh/config.")
    cpus: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        default=None, description="Processor cores that tasks may use. Default: those that it has."
    )
    gpus: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="GPUs that tasks may use. Default: those that it has."
    )

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"anyOf": [{"type": "string", "pattern": HOST_PATTERN}, handler(schema)]}


def _different(hosts: tuple[SshHostSection, ...]) -> tuple[SshHostSection, ...]:
    seen: set[str] = set()
    for host in hosts:
        if host.name in seen:
            raise ValueError(f"has '{host.name}' twice. Name each host once: it takes several tasks")
        seen.add(host.name)
    return hosts


def _addresses(value: Any) -> Any:
    if isinstance(value, Mapping):
        for host, address in value.items():
            if isinstance(address, str) and not _ADDRESS.fullmatch(address):
                raise ValueError(
                    f"has '{address}' for {host}, which is no name or address."
                    " Write it without a port, for example 10.0.0.5 or [fd00::5]"
                )
    return value


def _absolute(value: str | None) -> str | None:
    if value is not None and not value.startswith(("/", "~/")):
        raise ValueError(
            "is no absolute path. Write for example /scratch/me/orchestrator or ~/.cache/orchestrator"
        )
    return value


class SshSection(Section):
    """Options of the ssh launcher."""

    hosts: Annotated[tuple[SshHostSection, ...], AfterValidator(_different)] = Field(
        default=(),
        strict=False,
        description="The hosts that tasks without `hosts` of their own are spread over.",
    )
    addresses: Annotated[dict[str, str], AfterValidator(_addresses)] = Field(
        default_factory=dict,
        description="Under which name or address the tasks reach a host, by its name in `hosts`."
        " Default: its HostName for ssh.",
    )
    python: Annotated[str, Field(min_length=1, pattern=r"^[^-\s][^\x00-\x1f]*$")] = Field(
        default="python3", description="The hosts' interpreter with TensorFlow: a name on PATH or a path."
    )
    root: Annotated[str | None, AfterValidator(_absolute)] = Field(
        default=None,
        description="Directory on the hosts that everything of ours stays in."
        " Default: ~/.cache/tf-orchestrator.",
    )
    code_dir: str = Field(
        default=".",
        min_length=1,
        description="Directory that is sent to the hosts; tasks run in their copy of it.",
    )
    include: tuple[str, ...] = Field(
        default=(),
        strict=False,
        description="Patterns of files that are sent although they would be left out.",
    )
    exclude: tuple[str, ...] = Field(
        default=(), strict=False, description="Patterns of files that are left out."
    )
    config_file: str | None = Field(
        default=None, description="Configuration file of ssh. Default: that of the user (~/.ssh/config)."
    )
    connect_timeout_seconds: Annotated[float, Field(ge=1, le=3600)] = Field(
        default=20.0, description="For the connection to a host."
    )
    lease_seconds: Annotated[float, Field(ge=5, le=3600)] = Field(
        default=15.0,
        description="A host that has not heard from the launcher for so long ends its tasks.",
    )
    host_wait_seconds: Annotated[float, Field(ge=0, le=86400)] = Field(
        default=600.0,
        description="How long a lost host that tasks cannot do without is waited for: time to boot.",
    )
