"""What was measured, kept so that a run that was broken off can go on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

Row = dict[str, float]


class Measurements:
    """Rows by key, written down as soon as they are there."""

    def __init__(self, path: Path, state: str, fresh: bool) -> None:
        """Rows that were measured in another `state` of the sources are left out."""
        self._path = path
        self._state = state
        self._rows: dict[str, Row] = {}
        if not fresh and path.exists():
            kept = json.loads(path.read_text())
            if kept.get("state") == state:
                self._rows = kept["rows"]

    def get(self, key: str, measure: Callable[[], Row]) -> Row:
        """The kept row, or a new one."""
        if key not in self._rows:
            self._rows[key] = measure()
            self._path.parent.mkdir(exist_ok=True)
            unfinished = self._path.with_suffix(".unfinished")
            unfinished.write_text(json.dumps({"state": self._state, "rows": self._rows}, indent=1))
            unfinished.replace(self._path)
        return self._rows[key]
