"""Options about warm starts, and what they and the file's `warm_start` section come to."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from orchestrator.cluster.config import ClusterConfig
from orchestrator.cluster.config_file import ConfigFile
from orchestrator.cluster.warm_start_section import WarmStartSection
from orchestrator.errors import ConfigError, near_miss

_PANEL = "Warm start"
_CHOICES = ("error", "skip")


def _several(option: str, metavar: str, text: str) -> Any:
    return typer.Option(
        option, metavar=metavar, help=f"{text} May be repeated.", show_default=False, rich_help_panel=_PANEL
    )


def _one(option: str, metavar: str, text: str) -> Any:
    return typer.Option(option, metavar=metavar, help=text, show_default=False, rich_help_panel=_PANEL)


WarmStartOption = Annotated[
    str | None,
    _one("--warm-start", "CHECKPOINT", "Load another model's weights before step 0. See warm-start-plan."),
]
IncludeOption = Annotated[list[str] | None, _several("--include", "RE", "Variables to load: scope or RE.")]
ExcludeOption = Annotated[list[str] | None, _several("--exclude", "RE", "Variables or tensors left out.")]
RenameOption = Annotated[
    list[str] | None, _several("--rename", "OLD=NEW", "Rename the beginning of names in the checkpoint.")
]
MapOption = Annotated[str | None, _one("--map", "FILE", "File that names the tensor of each variable.")]
OnMismatchOption = Annotated[
    str | None, _one("--on-mismatch", "error|skip", "What a different shape or type means.")
]


@dataclass(frozen=True)
class WarmStartOptions:
    """What the command line says about the warm start; None and empty where it says nothing."""

    option: str = "--warm-start"
    """The option that names the checkpoint."""
    checkpoint: str | None = None
    include: list[str] | None = None
    exclude: list[str] | None = None
    rename: list[str] | None = None
    map: str | None = None
    on_mismatch: str | None = None

    def values(self) -> dict[str, Any]:
        """The keys of the section that the command line gives."""
        names = ("checkpoint", "include", "exclude", "rename", "map", "on_mismatch")
        given = {name: getattr(self, name) for name in names}
        return {name: value for name, value in given.items() if value}

    def before(self, overrides: tuple[str, ...]) -> tuple[str, ...]:
        """The `--set` options, and the checkpoint first, so that they may add to its warm start."""
        if not self.checkpoint:
            return overrides
        return (f"warm_start.checkpoint={json.dumps(self.checkpoint)}", *overrides)

    def applied_to(self, config: ClusterConfig, *, for_command: bool) -> ClusterConfig:
        """The cluster file with these options in its `warm_start`.

        Raises ConfigError for options without a checkpoint to load, or for a command.
        """
        values = self.values()
        if not values:
            return config
        if for_command:
            raise ConfigError(f"{self.option} is for experiments: a command loads its weights by itself.")
        if self.on_mismatch is not None and self.on_mismatch not in _CHOICES:
            raise ConfigError(
                f"--on-mismatch {self.on_mismatch}: must be error or skip."
                f"{near_miss(self.on_mismatch, _CHOICES)}"
            )
        section = config.warm_start
        if section is None and self.checkpoint is None:
            name = next(iter(values)).replace("_", "-")
            raise ConfigError(
                f"--{name} without {self.option}: there is no warm start that it could be about."
            )
        before = section.model_dump(exclude_unset=True) if section else {}
        return config.model_copy(update={"warm_start": WarmStartSection.model_validate({**before, **values})})

    def where(self, file: ConfigFile) -> str:
        """What names the checkpoint, for errors."""
        return self.option if self.checkpoint else file.where(("warm_start", "checkpoint"))


def warm_start_request(section: WarmStartSection | None, working_dir: Path) -> dict[str, Any] | None:
    """What a task is told: the section with absolute paths; None without one."""
    if section is None:
        return None
    values = section.model_dump(exclude_unset=True)
    for name in ("checkpoint", "map"):
        if values.get(name):
            values[name] = _absolute(values[name], working_dir)
    return values


def _absolute(path: str, working_dir: Path) -> str:
    from orchestrator.warm_start.file_systems import is_remote

    if is_remote(path):
        return path
    return os.path.normpath(working_dir / Path(path).expanduser())


def check_rules(section: WarmStartSection, working_dir: Path) -> None:
    """Raises WarmStartError for patterns, renames and maps that are none."""
    from orchestrator.warm_start.request import WarmStart

    WarmStart.of(**(warm_start_request(section, working_dir) or {}))


def require_checkpoint(section: WarmStartSection, where: str, model_dir: str, working_dir: Path) -> None:
    """Raises WarmStartError or CheckpointError where the files are not there, and are needed.

    A model directory with a checkpoint goes on from it: the other model's may be gone by then. Places such
    as `gs://` are the tasks' to look at, who have TensorFlow and its plug-ins.
    """
    from orchestrator.warm_start.file_systems import is_remote
    from orchestrator.warm_start.location import STATE_FILE, locate

    checkpoint = (warm_start_request(section, working_dir) or {})["checkpoint"]
    if not is_remote(checkpoint) and not (Path(model_dir) / STATE_FILE).exists():
        locate(checkpoint, where)
