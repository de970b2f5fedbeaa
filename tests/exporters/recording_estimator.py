"""An estimator that only notes what it was asked to export."""

from __future__ import annotations

from pathlib import Path
from typing import Any


class RecordingEstimator:
    """Writes an empty export directory each time, named after a clock that it advances itself."""

    def __init__(self, model_dir: Path, time: int = 1_700_000_000) -> None:
        self.model_dir = str(model_dir)
        self.exported: list[dict[str, Any]] = []
        self._time = time

    def export_saved_model(self, export_dir_base: str, receiver_fn: Any, **arguments: Any) -> str:
        self._time += 1
        directory = Path(export_dir_base) / str(self._time)
        directory.mkdir(parents=True)
        self.exported.append({"base": export_dir_base, "receiver_fn": receiver_fn, **arguments})
        return str(directory)
