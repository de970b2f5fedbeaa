"""`inspect`: what a checkpoint of any kind holds, without running anything of it."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def inspect(
    checkpoint: Annotated[
        str,
        typer.Argument(
            metavar="CHECKPOINT",
            help="A TensorFlow checkpoint, SavedModel, model directory, .h5, .weights.h5 or .keras.",
            show_default=False,
        ),
    ],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, for machines.")] = False,
) -> None:
    """Show the names, shapes, types, sizes and roles of a checkpoint's tensors, and its step."""
    from orchestrator.warm_start import quiet_import, report
    from orchestrator.warm_start.checkpoint_reader import open_checkpoint

    quiet_import.import_tensorflow()
    with open_checkpoint(checkpoint, "CHECKPOINT") as opened:
        if as_json:
            typer.echo(json.dumps(report.checkpoint_as_json(opened), indent=2))
            return
        for line in report.checkpoint_lines(opened):
            typer.echo(line)
