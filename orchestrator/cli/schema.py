"""`config schema`: the JSON schema of cluster files, for editors."""

from __future__ import annotations

import json
from typing import Any

import typer

from orchestrator.cluster.config import ClusterConfig

DIALECT = "https://json-schema.org/draft/2020-12/schema"

app = typer.Typer(help="About cluster files.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Makes `schema` a subcommand although it is the only one."""


@app.command("schema")
def schema() -> None:
    """Print the JSON schema of cluster files, for editors."""
    typer.echo(json.dumps(cluster_file_schema(), indent=2))


def cluster_file_schema() -> dict[str, Any]:
    """The JSON schema that `ClusterConfig` amounts to."""
    return {"$schema": DIALECT, **ClusterConfig.model_json_schema()}
