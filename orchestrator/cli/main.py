"""The command line: one subcommand a module, every error one message and one exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

import orchestrator
from orchestrator.cli import (
    check,
    inspect,
    list_runs,
    logs,
    render,
    run,
    schema,
    status,
    stop,
    warm_start_plan,
)
from orchestrator.cli.arguments import CommandAfterDashes
from orchestrator.cluster.secrets import Masker
from orchestrator.errors import OrchestratorError
from orchestrator.launch.completion import EXIT_INTERRUPTED

app = typer.Typer(
    name="orchestrator",
    help="Starts, watches and restarts TensorFlow training jobs: one process or a cluster of them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("run", cls=CommandAfterDashes)(run.run)
app.command("render", cls=CommandAfterDashes)(render.render)
app.command("check", cls=CommandAfterDashes)(check.check)
app.command("status")(status.status)
app.command("list")(list_runs.list_runs)
app.command("logs")(logs.logs)
app.command("stop")(stop.stop)
app.command("inspect")(inspect.inspect)
app.command("warm-start-plan")(warm_start_plan.warm_start_plan)
app.add_typer(schema.app, name="config")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"orchestrator {orchestrator.__version__}")
        raise typer.Exit()


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    """Holds the options that stand before a subcommand; its docstring is not shown."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line (default: that of the process) and returns its exit code."""
    words = None if arguments is None else list(arguments)
    try:
        app(args=words, prog_name="orchestrator")
    except OrchestratorError as error:
        show_error(error)
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def show_error(error: OrchestratorError) -> None:
    """The error's own words on stderr, whole lines, without a traceback."""
    console = Console(stderr=True, highlight=False)
    text = Masker([os.environ]).text(str(error))
    console.print(Text("error: ", style="bold red").append(text, style="none"), soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
