"""`tensorboard:` of a cluster file: TensorBoard beside the job."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema

from orchestrator.cluster.section import Section


class TensorboardSection(Section):
    """TensorBoard beside the job: true, or a mapping with options."""

    port: Annotated[int, Field(ge=1, le=65535)] | None = Field(
        default=None, description="Port of its page. Default: 6006, or the next one that is free."
    )
    host: str = Field(
        default="127.0.0.1",
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$",
        description="Address that it listens on: 127.0.0.1 for this machine alone, 0.0.0.0 for everybody.",
    )

    @model_validator(mode="before")
    @classmethod
    def _from_true(cls, value: Any) -> Any:
        return {} if value is True else value

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"anyOf": [{"type": "boolean"}, handler(schema)]}


def _absent_when_false(value: Any) -> Any:
    return None if value is False else value


OptionalTensorboard = Annotated[TensorboardSection | None, BeforeValidator(_absent_when_false)]
"""`false` is as if the key were left out."""
