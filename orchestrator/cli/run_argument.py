"""The argument RUN of the commands that look at a run."""

from __future__ import annotations

from typing import Annotated

import typer

RunArgument = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="Run directory, its name under runs/, or a job's name for its newest run.",
        show_default=False,
    ),
]
