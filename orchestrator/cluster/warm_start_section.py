"""`warm_start:` of a cluster file: whose weights training starts from, and which of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema


def _patterns(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _renames(value: Any) -> Any:
    """'OLD=NEW', a list of them, or a mapping OLD: NEW; always a list afterwards."""
    if isinstance(value, dict):
        return [f"{old}={'' if new is None else new}" for old, new in value.items()]
    return _patterns(value)


_TEXTS = {"type": "array", "items": {"type": "string"}}
Patterns = Annotated[
    list[str], BeforeValidator(_patterns), WithJsonSchema({"anyOf": [{"type": "string"}, _TEXTS]})
]
Renames = Annotated[
    list[str],
    BeforeValidator(_renames),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                _TEXTS,
                {"type": "object", "additionalProperties": {"type": ["string", "null"]}},
            ]
        }
    ),
]


class WarmStartSection(BaseModel):
    """Another model's weights, loaded once before step 0. Needs no TensorFlow to be checked."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, protected_namespaces=())

    checkpoint: str = Field(
        min_length=1,
        description="A checkpoint (prefix, file or directory), SavedModel, model directory, .h5, .weights.h5"
        " or .keras.",
    )
    include: Patterns = Field(
        default_factory=list, description="Scopes or regular expressions of variables to load. Default: all."
    )
    exclude: Patterns = Field(
        default_factory=list,
        description="Scopes or regular expressions of variables, or names in the checkpoint, left out.",
    )
    rename: Renames = Field(
        default_factory=list, description="OLD=NEW for the beginning of names in the checkpoint."
    )
    map: str | None = Field(
        default=None, min_length=1, description="File (YAML or JSON) that names the tensor of each variable."
    )
    on_mismatch: Literal["error", "skip"] = Field(
        default="error", description="What a different shape or type means."
    )
    optimizer: bool = Field(default=False, description="Slots of optimizers are loaded too.")
    global_step: bool = Field(default=False, description="The global step is loaded too.")
    averages: bool = Field(
        default=False, description="Moving averages are taken in place of raw values, where there are any."
    )
    allow_cast: bool = Field(default=False, description="Numbers may be converted to the variable's type.")
    trainable: Patterns = Field(
        default_factory=list,
        description="Scopes or regular expressions of the variables that train; the others are frozen."
        " Default: all train.",
    )
