"""Values that must not be shown: passwords and the like, by the names of their variables."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

MASK = "***"
ENV_SECRET_ENV = "ORCHESTRATOR_SECRET_ENV"
"""Tells a task the names of secret variables that were listed, separated by commas."""
ENV_SECRET_EXPERIMENT = "ORCHESTRATOR_SECRET_EXPERIMENT"
"""Holds the content of `experiment.json` where there are secrets in it, which the file has masked."""
SHORTEST = 6
"""Shorter values are masked beside their name only: as text they stand everywhere by chance."""
_NAMES = re.compile(r"(TOKEN|SECRET|PASSWORD|PASSWD|KEY|CREDENTIAL)S?(_|\d|$)", re.IGNORECASE)


def is_secret(name: str, listed: Collection[str] = ()) -> bool:
    """Whether the value of a variable of that name is a secret: by its name, or because it is `listed`."""
    return name in listed or bool(_NAMES.search(name))


def masker_of_task(environ: Mapping[str, str]) -> Masker:
    """What hides the secrets of a task, given the task's own environment."""
    return Masker([environ], environ.get(ENV_SECRET_ENV, "").split(","))


def _texts(text: str) -> list[tuple[str, str]]:
    """Every text in a JSON document with the key that it stands under."""
    found: list[tuple[str, str]] = []

    def look(key: str, value: Any) -> None:
        if isinstance(value, str):
            found.append((key, value))
        elif isinstance(value, Mapping):
            for name, item in value.items():
                look(str(name), item)
        elif isinstance(value, list):
            for item in value:
                look(key, item)

    try:
        look("", json.loads(text))
    except ValueError:
        return []
    return found


class Masker:
    """Hides the secrets of some environments, by name and wherever else their values stand."""

    def __init__(self, environments: Iterable[Mapping[str, str]] = (), listed: Collection[str] = ()) -> None:
        self._listed = frozenset(listed)
        found = [(name, value) for env in environments for name, value in env.items()]
        found += [item for name, value in found if name == ENV_SECRET_EXPERIMENT for item in _texts(value)]
        values = {value for name, value in found if is_secret(name, self._listed) and len(value) >= SHORTEST}
        self.values = tuple(sorted(values, key=len, reverse=True))
        """The values that are hidden wherever they stand, the longest first."""
        self._values = re.compile("|".join(map(re.escape, self.values))) if values else None

    def text(self, text: str) -> str:
        """`text` without the values of secrets."""
        return text if self._values is None else self._values.sub(MASK, text)

    def environment(self, env: Mapping[str, str]) -> dict[str, str]:
        """`env` with its secrets masked, also where they are part of another variable's value."""
        return {
            name: MASK if is_secret(name, self._listed) and value else self.text(value)
            for name, value in env.items()
        }

    def plain(self, value: Any) -> Any:
        """The same for what JSON can hold: items of mappings by their key, all text by its content."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {key: MASK if self._hides(key, item) else self.plain(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.plain(item) for item in value]
        return value

    def _hides(self, key: Any, item: Any) -> bool:
        return isinstance(item, str) and bool(item) and is_secret(str(key), self._listed)
