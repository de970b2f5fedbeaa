"""Patterns for paths within a directory, close to those of git. Pure."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable


def matches(path: str, patterns: Iterable[str]) -> bool:
    """Whether a relative path, or a directory that it lies in, fits one of the patterns.

    A pattern without a slash fits a name at any depth (`*.csv`, `data`); one
    with a slash fits from the top (`models/large`, `/data`). `*`, `?` and
    `[...]` fit within one name, `**` any number of directories.
    """
    parts = path.split("/")
    return any(_fits(parts, pattern) for pattern in patterns)


def _fits(parts: list[str], pattern: str) -> bool:
    anchored = "/" in pattern.rstrip("/")
    wanted = [part for part in pattern.split("/") if part not in ("", ".")]
    if not wanted:
        return False
    if not anchored:
        return any(fnmatch.fnmatchcase(part, wanted[0]) for part in parts)
    return _begins(parts, wanted)


def _begins(parts: list[str], wanted: list[str]) -> bool:
    if not wanted:
        return True
    if wanted[0] == "**":
        return any(_begins(parts[start:], wanted[1:]) for start in range(len(parts)))
    return bool(parts) and fnmatch.fnmatchcase(parts[0], wanted[0]) and _begins(parts[1:], wanted[1:])
