"""Launchers by name, imported on use; others join by the entry-point group."""

from __future__ import annotations

import importlib
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from orchestrator.errors import ConfigError, EnvironmentProblem, near_miss
from orchestrator.launch.launcher import Launcher

GROUP = "orchestrator.launchers"
"""Entry-point group: a class that is called with the run directory; the job that it plans has its options."""

_BUILT_IN = {
    "local": "orchestrator.launch.local:LocalLauncher",
    "ssh": "orchestrator.launch.ssh.launcher:SshLauncher",
}


def known_launchers() -> tuple[str, ...]:
    """Every name that `launcher_class` finds."""
    return tuple(sorted({*_BUILT_IN, *(point.name for point in entry_points(group=GROUP))}))


def launcher_class(name: str) -> type[Any]:
    """The class of that name.

    Raises ConfigError for an unknown name, with the near miss, and
    EnvironmentProblem when the class cannot be imported.
    """
    try:
        if name in _BUILT_IN:
            module, _, attribute = _BUILT_IN[name].partition(":")
            found: type[Any] = getattr(importlib.import_module(module), attribute)
            return found
        for point in entry_points(group=GROUP):
            if point.name == name:
                return _load(point)
    except (ImportError, AttributeError) as error:
        raise EnvironmentProblem(f"launcher '{name}' cannot be imported: {error}.") from error
    known = known_launchers()
    raise ConfigError(f"unknown launcher '{name}'.{near_miss(name, known)} Known: {', '.join(known)}.")


def make_launcher(name: str, run_dir: Path) -> Launcher:
    """A launcher of that name for one run; raises as `launcher_class` does."""
    made = launcher_class(name)(run_dir)
    if not isinstance(made, Launcher):
        missing = [m for m in ("plan", "submit", "poll", "stop", "logs", "close") if not hasattr(made, m)]
        raise ConfigError(f"launcher '{name}' is none: it lacks {', '.join(missing) or 'a name'}.")
    return made


def _load(point: EntryPoint) -> type[Any]:
    loaded: type[Any] = point.load()
    return loaded
