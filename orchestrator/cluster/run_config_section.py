"""`run_config:` of a cluster file: arguments of RunConfig that are plain values.

The names are kept here, and not asked of RunConfig, because the launcher must
refuse a wrong one without importing TensorFlow.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

LAUNCHER_OWNED = {
    "train_distribute": "the file's 'strategy' decides it",
    "eval_distribute": "the file's 'strategy' decides it",
    "experimental_distribute": "the file's 'strategy' decides it",
    "strategy": "it stands at the top of the file",
    "session_config": "the task's place in the cluster decides it; an experiment may change it with"
    " config.replace",
    "device_fn": "it is a Python function; an experiment may set it with config.replace",
    "protocol": "the launcher's addresses are for grpc",
    "task_type": "the launcher gives every task its own",
    "task_id": "the launcher gives every task its own",
    "master": "the launcher resolves the addresses",
    "evaluation_master": "the launcher resolves the addresses",
    "cluster_spec": "the file's 'tasks' decide it",
}
"""Arguments that are not for the file, and why."""


_HALF_PRECISION = ("float16", "bfloat16")


def _steps_per_loop(value: Any) -> Any:
    if value == "auto" or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        return value
    raise ValueError("is neither 'auto' nor a whole number from 1")


def _mixed_precision(value: Any) -> Any:
    if isinstance(value, bool) or value in _HALF_PRECISION:
        return value
    raise ValueError(f"is none of true, false, {', '.join(_HALF_PRECISION)}")


Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
StepsPerLoop = Annotated[
    Any,
    BeforeValidator(_steps_per_loop),
    WithJsonSchema({"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1}]}),
]
MixedPrecision = Annotated[
    Any,
    BeforeValidator(_mixed_precision),
    WithJsonSchema({"anyOf": [{"type": "boolean"}, {"enum": list(_HALF_PRECISION)}]}),
]


class RunConfigSection(BaseModel):
    """Only keys that the file holds are passed on; the defaults are those of RunConfig."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, protected_namespaces=())

    model_dir: str | None = Field(
        default=None, min_length=1, description="Checkpoints and exports; --model-dir goes before it."
    )
    tf_random_seed: int | None = Field(default=None, description="Seed of the graph.")
    save_summary_steps: Count | None = Field(default=None, description="Steps between summaries.")
    save_checkpoints_steps: Count | None = Field(default=None, description="Steps between checkpoints.")
    save_checkpoints_secs: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = Field(
        default=None, description="Seconds between checkpoints, in place of steps."
    )
    keep_checkpoint_max: Count | None = Field(
        default=None, description="Newest checkpoints that are kept; 0 keeps all."
    )
    keep_checkpoint_every_n_hours: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="One checkpoint in so many hours is kept for ever."
    )
    log_step_count_steps: Positive | None = Field(
        default=None, description="Steps between log lines of the speed."
    )
    experimental_max_worker_delay_secs: Count | None = Field(
        default=None, description="Bound of the delay with which workers start, in seconds."
    )
    session_creation_timeout_secs: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="How long a worker waits for the chief's session, in seconds."
    )
    checkpoint_save_graph_def: bool | None = Field(
        default=None, description="Whether the graph is saved beside checkpoints."
    )
    steps_per_loop: StepsPerLoop = Field(
        default=None, description="Steps within one run of the graph, or auto."
    )
    save_checkpoints_async: bool | None = Field(
        default=None, description="Checkpoints are written beside training."
    )
    save_input_state: bool | None = Field(
        default=None, description="The input's position is saved with each checkpoint."
    )
    mixed_precision: MixedPrecision = Field(
        default=None, description="Half-precision arithmetic: true takes the type that suits the device."
    )
    xla: bool | None = Field(default=None, description="XLA clusters the graph by itself.")
    memory_growth: bool | None = Field(default=None, description="GPU memory is taken as needed.")

    @model_validator(mode="after")
    def _one_checkpoint_period(self) -> RunConfigSection:
        if self.save_checkpoints_steps is not None and self.save_checkpoints_secs is not None:
            raise ValueError("has both save_checkpoints_steps and save_checkpoints_secs. Keep one of the two")
        return self

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments that the file gives, without `model_dir`."""
        return self.model_dump(exclude_unset=True, exclude={"model_dir"})
