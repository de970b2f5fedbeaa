"""A directory of code as both sides name it: a list of entries, and the digest of that list.

An entry is `[path, mode, digest, target]`: a directory has neither digest nor
target, a file the SHA-256 of its content, a symbolic link its target. Paths and
targets are relative, and lead nowhere outside the tree.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.errors import EnvironmentProblem

MAX_ENTRIES = 50_000
_DIGEST = re.compile(r"[0-9a-f]{64}")
_LONGEST_PATH = 4000
_LONGEST_NAME = 255


class CodeStoreError(EnvironmentProblem):
    """Code that cannot be kept on a host, or that no honest launcher sends; the text is complete."""


@dataclass(frozen=True, order=True)
class TreeEntry:
    """One directory, file or symbolic link."""

    path: str
    mode: int
    """Permission bits."""
    digest: str | None = None
    """SHA-256 of a file's content, in hexadecimal."""
    target: str | None = None
    """Of a symbolic link, relative to the directory that it is in."""

    @property
    def is_directory(self) -> bool:
        return self.digest is None and self.target is None

    def as_json(self) -> list[Any]:
        """What is sent."""
        return [self.path, self.mode, self.digest, self.target]


def digest_of(content: bytes) -> str:
    """SHA-256 in hexadecimal: the name of a blob."""
    return hashlib.sha256(content).hexdigest()


def is_digest(value: object) -> bool:
    """Whether it can be the name of a blob or a tree."""
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None


def tree_digest(entries: Iterable[TreeEntry]) -> str:
    """The name of a tree; depends on its content alone."""
    text = json.dumps([entry.as_json() for entry in sorted(entries, key=lambda entry: entry.path)])
    return digest_of(text.encode())


def entries_from_json(value: object) -> tuple[TreeEntry, ...]:
    """What the other side sent, believed in nothing; parents come before what they hold.

    Raises CodeStoreError on anything that is no tree, or that leads out of it.
    """
    if not isinstance(value, list) or len(value) > MAX_ENTRIES:
        raise CodeStoreError(f"this is no list of at most {MAX_ENTRIES:,} files.")
    entries = sorted((_entry(item) for item in value), key=lambda entry: entry.path.split("/"))
    kinds: dict[str, TreeEntry] = {}
    for entry in entries:
        if entry.path in kinds:
            raise CodeStoreError(f"{entry.path!r} is there twice.")
        parent = posixpath.dirname(entry.path)
        if parent and not (parent in kinds and kinds[parent].is_directory):
            raise CodeStoreError(f"{entry.path!r} lies in {parent!r}, which is no directory of the tree.")
        kinds[entry.path] = entry
    return tuple(entries)


def leads_outside(path: str, target: str) -> bool:
    """Whether a link at `path` points out of the tree, going by the names alone."""
    if posixpath.isabs(target):
        return True
    depth = path.count("/")
    for part in target.split("/"):
        if part == "..":
            depth -= 1
        elif part not in ("", "."):
            depth += 1
        if depth < 0:
            return True
    return False


def _entry(item: object) -> TreeEntry:
    if not (isinstance(item, list) and len(item) == 4):
        raise CodeStoreError(f"{item!r} is no entry of a tree.")
    path, mode, digest, target = item
    if not _is_path(path):
        raise CodeStoreError(f"{path!r} is no path within the tree.")
    if not isinstance(mode, int) or isinstance(mode, bool) or not 0 <= mode <= 0o777:
        raise CodeStoreError(f"{path!r} has the mode {mode!r}.")
    if digest is not None and (target is not None or not is_digest(digest)):
        raise CodeStoreError(f"{path!r} has the digest {digest!r}.")
    if target is not None and (not _is_text(target, _LONGEST_PATH) or leads_outside(path, target)):
        raise CodeStoreError(f"{path!r} is a link to {target!r}, outside of the tree.")
    return TreeEntry(path, mode, digest, target)


def _is_path(value: object) -> bool:
    return _is_text(value, _LONGEST_PATH) and all(
        part not in ("", ".", "..") and len(part.encode()) <= _LONGEST_NAME for part in str(value).split("/")
    )


def _is_text(value: object, longest: int) -> bool:
    if not isinstance(value, str) or not 0 < len(value) <= longest or "\0" in value:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def parents(paths: Sequence[str]) -> set[str]:
    """Every directory that these paths lie in."""
    found: set[str] = set()
    for path in paths:
        parent = posixpath.dirname(path)
        while parent and parent not in found:
            found.add(parent)
            parent = posixpath.dirname(parent)
    return found
