"""Commands that are a plain Python program: `python [-u] SCRIPT ...`, `python [-u] -m MODULE ...`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class PythonCommand:
    """A Python program: a script or a module, and its arguments."""

    interpreter: str
    script: str | None
    module: str | None
    arguments: tuple[str, ...]
    unbuffered: bool = False

    @property
    def program(self) -> str:
        """The script or module, for people."""
        return self.script or f"-m {self.module}"


def parse_python_command(command: Sequence[str]) -> PythonCommand | None:
    """Reads a command; None for anything but an interpreter with a script file or `-m MODULE`.

    Interpreter options other than `-u` change the interpreter itself, so
    commands that have them are not of this kind; nor are `-c`, `-`, and
    directories or zip files, which Python runs in a way of its own.
    """
    if not command or not command[0].rsplit("/", 1)[-1].startswith("python"):
        return None
    interpreter, *rest = command
    unbuffered = False
    while rest and rest[0] == "-u":
        unbuffered = True
        rest.pop(0)
    if len(rest) >= 2 and rest[0] == "-m" and rest[1] and not rest[1].startswith("-"):
        return PythonCommand(interpreter, None, rest[1], tuple(rest[2:]), unbuffered)
    if rest and rest[0].endswith(".py") and not rest[0].startswith("-"):
        return PythonCommand(interpreter, rest[0], None, tuple(rest[1:]), unbuffered)
    return None
