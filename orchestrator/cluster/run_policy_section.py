"""`run_policy:` of a cluster file: when to restart, and how long to wait."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from orchestrator.cluster.section import NullIsEmpty, Seconds, Section
from orchestrator.cluster.task import TaskType

RestartScope = Literal["task", "attempt", "never"]


class RestartSection(Section):
    """What is restarted when a task of that type fails, where the strategy's own choice is not wanted."""

    chief: RestartScope | None = None
    worker: RestartScope | None = None
    ps: RestartScope | None = None
    evaluator: RestartScope | None = None

    def by_type(self) -> dict[TaskType, str]:
        """The choices made."""
        return {TaskType(name): scope for name, scope in self.model_dump(exclude_none=True).items()}


class HangSection(Section):
    """How long a task may stay in each phase without progress, in seconds; null: for ever."""

    stepping: Seconds | None = Field(default=600.0, description="Between two steps.")
    saving: Seconds | None = Field(default=1800.0, description="Writing one checkpoint.")
    evaluating: Seconds | None = Field(default=1800.0, description="Between two batches of an evaluation.")
    exporting: Seconds | None = Field(default=1800.0, description="Writing one SavedModel.")
    waiting_for_peers: Seconds | None = Field(
        default=1800.0, description="Waiting for other tasks, after the first step."
    )
    done: Seconds | None = Field(
        default=600.0, description="Between the end of the task's work and that of its process."
    )
    suspended: Seconds | None = Field(
        default=30.0, description="While SIGSTOP holds its process, in whatever phase, from the start on."
    )


class RunPolicySection(Section):
    """When to restart, and how long to wait. Durations are seconds."""

    max_restarts: Annotated[int, Field(ge=0)] = Field(
        default=3, description="Restarts without a new checkpoint before the job has failed."
    )
    restart_delay_seconds: Seconds = Field(default=1.0, description="Pause before the first restart.")
    grace_seconds: Seconds = Field(default=30.0, description="From the request to stop until SIGKILL.")
    start_timeout_seconds: Seconds = Field(
        default=1800.0, description="From the start of a task until its first step."
    )
    hang_seconds: Annotated[HangSection, NullIsEmpty] = Field(
        default_factory=HangSection,
        description="How long a task may stay in each phase without progress before it counts as hung.",
    )
    drain_timeout_seconds: Seconds = Field(
        default=600.0,
        description="For the evaluator to evaluate the last checkpoint once training has ended.",
    )
    total_timeout_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        default=None, description="For the whole job, restarts included. Default: no limit."
    )
    evaluate_every_checkpoint: bool = Field(
        default=False,
        description="Whether every checkpoint is evaluated, not only the newest (experiments);"
        " run_config.keep_checkpoint_max must keep them long enough.",
    )
    evaluator_may_fail: bool = Field(
        default=True,
        description="Whether the job succeeds, and says so, without an evaluation of the last checkpoint.",
    )
    restart: Annotated[RestartSection, NullIsEmpty] = Field(
        default_factory=RestartSection,
        description="What is restarted, by task type: task, attempt or never.",
    )
