"""The first program on a host: finds or makes our place there, then hands over to the relay.

Sent as text and run before the package is there, so it imports nothing of it.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import stat
import struct
import sys
import tempfile
import zipfile
from typing import Any

PROTOCOL = 1
MARKER = b"\0tf-orchestrator\0"
"""Stands before the first frame to the launcher; what comes before it is a login shell's."""
DEFAULT_ROOT = "~/.cache/tf-orchestrator"
_LENGTHS = struct.Struct("!II")
_DIGEST = re.compile(r"[0-9a-f]{64}")


class Refused(Exception):
    """Why nothing can be started here, for people."""


def main() -> int:
    """Speaks with the launcher on standard input and output until the relay takes over."""
    _write(MARKER)
    try:
        hello = _hello()
        root = make_root(hello["root"])
        package = install(root, hello["package"])
    except (Refused, OSError) as error:
        return _fail(str(error) if isinstance(error, Refused) else _told(error))
    sys.path.insert(0, package)
    from orchestrator.launch.node.relay import relay

    return relay(hello, root, package)


def make_root(given: str | None) -> str:
    """Our directory on this host, absolute; nothing is ever written outside of it.

    Raises Refused where others could write into it, OSError where it cannot be made.
    """
    root = os.path.expanduser(given or DEFAULT_ROOT)
    if not os.path.isabs(root):
        raise Refused(f"the directory {root!r} for our files is not absolute: write /... or ~/...")
    os.makedirs(os.path.dirname(root), exist_ok=True)
    make_private(root)
    status = os.stat(root)
    if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise Refused(
            f"others may write into {root}: give another directory as ssh.root, or run chmod go-w on it"
        )
    return os.path.realpath(root)


def make_private(path: str) -> None:
    """Makes a directory for its owner alone, where there is none."""
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        return


def install(root: str, digest: str) -> str:
    """The directory of the package of that digest; asks the launcher for it where it is missing."""
    if not _DIGEST.fullmatch(digest):
        raise Refused(f"{digest!r} is no digest of a package")
    packages = os.path.join(root, "packages")
    target = os.path.join(packages, digest)
    if os.path.isdir(target):
        return target
    make_private(packages)
    _say({"event": "need_package"})
    header, data = _read_frame()
    while header.get("do") == "heartbeat":
        header, data = _read_frame()
    if header.get("do") != "package" or hashlib.sha256(data).hexdigest() != digest:
        raise Refused("the package did not arrive as it was sent")
    temporary = tempfile.mkdtemp(prefix=".new-", dir=packages)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            archive.extractall(temporary)
        os.rename(temporary, target)
    except OSError:
        if not os.path.isdir(target):  # another connection was quicker
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def _hello() -> dict[str, Any]:
    header, _ = _read_frame()
    if header.get("do") != "hello" or header.get("protocol") != PROTOCOL:
        raise Refused(f"the launcher does not speak protocol {PROTOCOL}: it sent {header}")
    return header


def _read_frame() -> tuple[dict[str, Any], bytes]:
    header_size, payload_size = _LENGTHS.unpack(_read(_LENGTHS.size))
    header: dict[str, Any] = json.loads(_read(header_size))
    return header, _read(payload_size)


def _read(size: int) -> bytes:
    """So many bytes of standard input and not one more: the rest is the relay's."""
    parts = []
    while size > 0:
        data = os.read(0, min(size, 1 << 20))
        if not data:
            raise Refused("the connection ended before the launcher had said what it wants")
        parts.append(data)
        size -= len(data)
    return b"".join(parts)


def _say(header: dict[str, Any]) -> None:
    text = json.dumps(header).encode()
    _write(_LENGTHS.pack(len(text), 0) + text)


def _write(data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(1, rest) :]


def _fail(message: str) -> int:
    try:
        _say({"event": "failed", "kind": "host", "message": message})
    except OSError:
        print(message, file=sys.stderr)
    return 3


def _told(error: OSError) -> str:
    at = f" ({error.filename})" if error.filename else ""
    return f"our files cannot be kept there: {error.strerror}{at}"


if __name__ == "__main__":
    sys.exit(main())
