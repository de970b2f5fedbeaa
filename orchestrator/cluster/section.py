"""Section: a mapping of the cluster file, and the kinds of values that several sections hold."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from orchestrator.cluster.quantity import SIZE_PATTERN, parse_size

_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OWNED_ENV = {
    "TF_CONFIG": "the launcher writes it for every task",
    "TF_GRPC_REUSE_PORT": "the launcher needs it to hold the ports",
}


def _environment(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    plain = {}
    for name, text in value.items():
        if not isinstance(name, str) or not _ENV_NAME.fullmatch(name):
            raise ValueError(f"has {name!r}, which is no name of an environment variable")
        if name in _OWNED_ENV or name.startswith("ORCHESTRATOR_"):
            reason = _OWNED_ENV.get(name, "the launcher tells tasks their place with it")
            raise ValueError(f"sets {name}, but {reason}. Remove it")
        if isinstance(text, bool) or not isinstance(text, str | int):
            raise ValueError(f"sets {name} to a value that is not text. Put it in quotes")
        if "\0" in str(text):
            raise ValueError(f"sets {name} to a value with a NUL character, which no environment can hold")
        plain[name] = str(text)
    return plain


def _size(value: Any) -> Any:
    if isinstance(value, str):
        return parse_size(value)
    raise ValueError("is not a size with a unit. Write for example 2GiB or 500MB")


def _empty_when_null(value: Any) -> Any:
    return {} if value is None else value


NullIsEmpty = BeforeValidator(_empty_when_null)
"""A section whose lines are all commented out is the empty section."""
Environment = Annotated[
    dict[str, str],
    BeforeValidator(_environment),
    NullIsEmpty,
    WithJsonSchema({"type": "object", "additionalProperties": {"type": ["string", "integer"]}}),
]
Size = Annotated[int, BeforeValidator(_size), WithJsonSchema({"type": "string", "pattern": SIZE_PATTERN})]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Section(BaseModel):
    """A mapping of the file: unknown keys are refused, nothing is converted silently."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, protected_namespaces=())
