"""One thing that is wrong with a cluster file."""

from __future__ import annotations

from dataclasses import dataclass

KeyPath = tuple[str | int, ...]
"""Keys and list positions from the top of the file; empty for the file as a whole."""


@dataclass(frozen=True)
class Mistake:
    """What is wrong, and how to mend it."""

    path: KeyPath
    text: str
    """A sentence or more, to be read after the key path and a colon."""


def key_path(path: KeyPath) -> str:
    """For people: `tasks.worker.hosts[1]`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text
