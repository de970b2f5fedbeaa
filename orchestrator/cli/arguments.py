"""The argument and options that `run`, `render` and `check` share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

COMMAND_KEY = "orchestrator.command"
"""Where `CommandAfterDashes` leaves the command, in `ctx.meta`."""

ConfigArgument = Annotated[
    Path, typer.Argument(metavar="CONFIG", help="Cluster file (YAML).", show_default=False)
]
ExperimentOption = Annotated[
    str | None,
    typer.Option(
        "--experiment",
        metavar="MODULE:FUNCTION",
        help="Experiment function, called as f(config, **params). Default: the file's, or handwritten"
        " digits.",
        show_default=False,
    ),
]
ModelDirOption = Annotated[
    str | None,
    typer.Option(
        "--model-dir",
        metavar="DIR",
        help="Checkpoints and exports. Default: models/NAME, so that the same command resumes.",
        show_default=False,
    ),
]
RunDirOption = Annotated[
    str | None,
    typer.Option(
        "--run-dir",
        metavar="DIR",
        help="Logs and records of this run. Default: runs/NAME-UTCTIME.",
        show_default=False,
    ),
]
DataDirOption = Annotated[
    str | None,
    typer.Option(
        "--data-dir",
        metavar="DIR",
        help="Prepared data sets. Default: that of TensorFlow Datasets.",
        show_default=False,
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Changes a key of the file, for example params.max_steps=200. May be repeated.",
        show_default=False,
    ),
]


class CommandAfterDashes(TyperCommand):
    """A subcommand that takes `-- COMMAND ...`.

    Everything after the first `--` is left in `ctx.meta[COMMAND_KEY]` as it
    stands. Without the dashes a command is a usage error: its options could
    otherwise be taken for ours.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        command: list[str] = []
        if "--" in args:
            at = args.index("--")
            args, command = args[:at], args[at + 1 :]
            if not command:
                ctx.fail("No command after '--'.")
        ctx.meta[COMMAND_KEY] = tuple(command)
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return [*(piece.strip("{}") for piece in super().collect_usage_pieces(ctx)), "[-- COMMAND ...]"]


def command_of(ctx: typer.Context) -> tuple[str, ...]:
    """The words after `--`; empty when there are none."""
    words: tuple[str, ...] = ctx.meta.get(COMMAND_KEY, ())
    return words
