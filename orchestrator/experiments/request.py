"""What a task is asked to do: the launcher's `experiment.json`, read and checked."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.cluster.secrets import ENV_SECRET_EXPERIMENT
from orchestrator.errors import ConfigError


@dataclass(frozen=True)
class ExperimentRequest:
    """Which experiment to run, with which parameters, and where."""

    experiment: str
    """MODULE:FUNCTION."""
    params: Mapping[str, Any]
    strategy: str
    """A name that `orchestrator.estimator.strategies.make_strategy` knows."""
    logical_devices: int | None
    run_config: Mapping[str, Any]
    model_dir: str
    data_dir: str | None
    """None for the default of TensorFlow Datasets."""
    working_dir: str
    """Comes first on sys.path."""
    warm_start: Mapping[str, Any] | None = None
    """The checkpoint and options of a WarmStart; None where training starts cold."""

    @staticmethod
    def read(path: Path) -> ExperimentRequest:
        """Reads the file, or what stands in for it where it has secrets masked.

        Raises ConfigError, naming file and key.
        """
        try:
            text = os.environ.get(ENV_SECRET_EXPERIMENT) or path.read_text(encoding="utf-8")
            value = json.loads(text)
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror}.") from error
        except ValueError as error:
            raise ConfigError(f"{path}: is not JSON: {error}.") from error
        entry = _Entries(path, value)
        strategy = _Entries(path, entry.take("strategy", dict), "strategy.")
        return ExperimentRequest(
            experiment=entry.take("experiment", str),
            params=entry.take("params", dict),
            strategy=strategy.take("name", str),
            logical_devices=strategy.take("logical_devices", int, optional=True),
            run_config=entry.take("run_config", dict),
            model_dir=entry.take("model_dir", str),
            data_dir=entry.take("data_dir", str, optional=True),
            working_dir=entry.take("working_dir", str),
            warm_start=entry.take("warm_start", dict, optional=True),
        )


@dataclass(frozen=True)
class _Entries:
    path: Path
    value: Any
    prefix: str = ""

    def take(self, key: str, kind: type, optional: bool = False) -> Any:
        if not isinstance(self.value, dict):
            raise ConfigError(f"{self.path}: must hold a JSON object, not {type(self.value).__name__}.")
        item = self.value.get(key)
        if item is None and optional:
            return None
        if not isinstance(item, kind) or isinstance(item, bool):
            found = f"is {item!r}" if key in self.value else "is missing"
            raise ConfigError(f"{self.path}: '{self.prefix}{key}' {found}; it must be {_NAMES[kind]}.")
        return item


_NAMES = {str: "a string", int: "a whole number", dict: "an object"}
