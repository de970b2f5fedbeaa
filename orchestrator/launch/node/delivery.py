"""What the launcher sends to start its side of a host: a command, a line of program, the package.

The command is the same for every run, so nothing of a run can be seen in the
host's process list. It runs one line that comes over the connection: the text
of `bootstrap.py`. That asks for the package where the host does not have it.
"""

from __future__ import annotations

import hashlib
import io
import shlex
import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import orchestrator
from orchestrator.launch.node import bootstrap
from orchestrator.launch.node.bootstrap import MARKER, PROTOCOL

__all__ = ["MARKER", "PROTOCOL", "Package", "opening", "package", "remote_command"]

# No quote, `!`, backslash or line end inside: every login shell takes it as it stands.
_READ_PROGRAM = 'exec(eval(open(0,"rb",0,closefd=False).readline()))'
# What an old interpreter must understand to say that it is too old.
_FIRST = f"""
import json, struct, sys
if sys.version_info < (3, 10):
    text = "Python %d.%d is too old: 3.10 or newer is needed" % sys.version_info[:2]
    text = json.dumps({{"event": "failed", "kind": "python", "message": text}}).encode()
    out = open(1, "wb", closefd=False)
    out.write({MARKER!r} + struct.pack("!II", len(text), 0) + text)
    out.flush()
    sys.exit(3)
"""
_FIXED_DATE = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Package:
    """This package as a zip file."""

    digest: str
    """SHA-256 of `data`, hexadecimal."""
    data: bytes


def remote_command(python: str) -> str:
    """The command that a host's login shell is to run; `python` is a program or its path (`~/` allowed)."""
    home, rest = ("~/", python[2:]) if python.startswith("~/") else ("", python)
    return f"exec {home}{shlex.quote(rest)} -I -c '{_READ_PROGRAM}'"


def opening() -> bytes:
    """What is written first to the command's input; frames follow, `hello` the first of them."""
    source = Path(bootstrap.__file__).read_text(encoding="utf-8")
    program = f"{_FIRST}\nexec(compile({source!a}, 'bootstrap', 'exec'))\n"
    return ascii(program).encode("ascii") + b"\n"


@cache
def package() -> Package:
    """The modules of this package; the same bytes for the same modules."""
    top = Path(orchestrator.__file__).resolve().parent
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(top.rglob("*.py")):
            name = path.relative_to(top.parent).as_posix()
            archive.writestr(
                zipfile.ZipInfo(name, _FIXED_DATE), path.read_bytes(), compress_type=zipfile.ZIP_DEFLATED
            )
    data = buffer.getvalue()
    return Package(hashlib.sha256(data).hexdigest(), data)
