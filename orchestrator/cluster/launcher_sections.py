"""Sections of a cluster file that hold the options of one launcher each."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from orchestrator.cluster.section import Section


class LocalSection(Section):
    """Options of the local launcher."""

    start_method: Literal["fork", "spawn"] | None = Field(
        default=None,
        description="fork: from one parent that has imported TensorFlow; spawn: a new interpreter a task."
        " Default: fork where no GPU is visible, else spawn.",
    )
