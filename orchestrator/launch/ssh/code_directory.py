"""The user's code directory, read, as it goes to the hosts."""

from __future__ import annotations

import hashlib
import os
import posixpath
import stat
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.cluster.quantity import format_size
from orchestrator.errors import ConfigError, EnvironmentProblem
from orchestrator.launch.node.code_tree import (
    MAX_ENTRIES,
    TreeEntry,
    digest_of,
    leads_outside,
    parents,
    tree_digest,
)
from orchestrator.launch.ssh.code_listing import Listing, list_code

MAX_FILE_BYTES = 256 << 20
MAX_BYTES = 1 << 30


@dataclass(frozen=True)
class CodeTree:
    """What goes to the hosts. Paths are relative, with `/`."""

    directory: Path
    entries: tuple[TreeEntry, ...]
    sizes: Mapping[str, int]
    """Bytes by digest."""
    notes: tuple[str, ...] = ()
    """What was left out, where people may not expect it."""
    _files: Mapping[str, Path] = field(default_factory=dict, repr=False)

    @property
    def digest(self) -> str:
        """The name of the tree."""
        return tree_digest(self.entries)

    @property
    def digests(self) -> list[str]:
        """The names of all contents, each once."""
        return list(self._files)

    @property
    def total_bytes(self) -> int:
        return sum(self.sizes.values())

    def as_json(self) -> list[list[Any]]:
        """The entries as they are sent."""
        return [entry.as_json() for entry in self.entries]

    def content(self, digest: str) -> bytes:
        """One content. Raises EnvironmentProblem when the file was changed since the tree was read."""
        path = self._files[digest]
        try:
            content = path.read_bytes()
        except OSError as error:
            raise EnvironmentProblem(f"{path} cannot be read: {error.strerror}.") from error
        if digest_of(content) != digest:
            raise EnvironmentProblem(
                f"{path} was changed while it was sent. Start again, or leave it out with ssh.exclude."
            )
        return content


def read_code_directory(
    directory: Path,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    outcomes: Collection[str | Path] = (),
) -> CodeTree:
    """Reads a code directory.

    `include` and `exclude` are patterns (see path_patterns); an included path
    is taken although git ignores it or it looks like a secret, an excluded one
    never. `outcomes` are files and directories of this job (model, run) that
    are left out. Raises ConfigError when the directory is none, is a home, or
    holds too much.
    """
    top = Path(os.path.realpath(directory))
    _refuse_unlikely(top, directory)
    listing = list_code(top, include, exclude, outcomes)
    return _Reader(top).read(listing)


def _refuse_unlikely(top: Path, given: Path) -> None:
    if not top.is_dir():
        raise ConfigError(f"code directory {given}: no such directory. Name another one with ssh.code_dir.")
    homes = {os.path.realpath("/"), os.path.realpath(Path.home())}
    if str(top) in homes:
        raise ConfigError(
            f"code directory {top} is no project: all of it would be sent to the hosts."
            " Run the command in the directory of your program, or name that with ssh.code_dir."
        )


class _Reader:
    """Turns paths into entries, and says what cannot go along."""

    def __init__(self, top: Path) -> None:
        self._top = top
        self._entries: dict[str, TreeEntry] = {}
        self._sizes: dict[str, int] = {}
        self._files: dict[str, Path] = {}
        self._bytes_of: dict[str, int] = {}
        self._notes: list[str] = []

    def read(self, listing: Listing) -> CodeTree:
        """The tree of what was found."""
        paths = listing.paths
        if len(paths) > MAX_ENTRIES // 2:
            raise ConfigError(
                self._too_much(f"holds {len(paths):,} files, more than {MAX_ENTRIES // 2:,}", paths)
            )
        links = []
        for path in paths:
            status = (self._top / path).lstat() if os.path.lexists(self._top / path) else None
            if status is None:
                continue
            if not _is_sendable_name(path):
                self._notes.append(f"{path!r} is left out: its name is not UTF-8")
            elif stat.S_ISLNK(status.st_mode):
                links.append(path)
            elif stat.S_ISREG(status.st_mode):
                self._size(path, status.st_size)
            else:
                self._notes.append(f"{path} is left out: it is neither a file nor a link")
        self._refuse_too_much()
        for path in self._bytes_of:
            self._add_file(path)
        known = {*self._bytes_of, *links, *parents([*self._bytes_of, *links])}
        for path in links:
            self._add_link(path, known)
        for path in parents(list(self._entries)):
            self._entries[path] = TreeEntry(path, 0o755)
        if listing.secrets:
            names = ", ".join(listing.secrets[:3]) + (", ..." if len(listing.secrets) > 3 else "")
            self._notes.insert(0, f"not sent, since it may be secret: {names} (ssh.include sends it)")
        entries = tuple(sorted(self._entries.values(), key=lambda entry: entry.path))
        return CodeTree(self._top, entries, self._sizes, tuple(self._notes), self._files)

    def _size(self, path: str, size: int) -> None:
        if size > MAX_FILE_BYTES:
            raise ConfigError(
                f"{self._top / path} has {format_size(size)}; files of code have at most"
                f" {format_size(MAX_FILE_BYTES)}. Leave it out (ssh.exclude: [{path}]), and read data from"
                " a place that all hosts see."
            )
        self._bytes_of[path] = size

    def _refuse_too_much(self) -> None:
        total = sum(self._bytes_of.values())
        if total > MAX_BYTES:
            what = f"holds {format_size(total)}, more than {format_size(MAX_BYTES)}"
            raise ConfigError(self._too_much(what, list(self._bytes_of), self._bytes_of))

    def _too_much(self, what: str, paths: Sequence[str], weights: Mapping[str, int] | None = None) -> str:
        heaps: dict[str, int] = {}
        for path in paths:
            head = path.split("/")[0]
            heaps[head] = heaps.get(head, 0) + (1 if weights is None else weights[path])
        worst = max(heaps, key=lambda head: heaps[head])
        amount = f"{heaps[worst]:,} of them" if weights is None else format_size(heaps[worst])
        return (
            f"code directory {self._top} {what}: {worst} alone has {amount}. Leave out what is not code"
            f" (ssh.exclude: [{worst}]), or name a smaller directory with ssh.code_dir."
        )

    def _add_file(self, path: str) -> None:
        full = self._top / path
        digest = hashlib.sha256()
        size = 0
        try:
            with full.open("rb") as stream:
                executable = os.fstat(stream.fileno()).st_mode & 0o100
                while chunk := stream.read(1 << 20):
                    digest.update(chunk)
                    size += len(chunk)
        except OSError as error:
            raise ConfigError(
                f"{full} cannot be read: {error.strerror}."
                f" Make it readable, or leave it out (ssh.exclude: [{path}])."
            ) from error
        name = digest.hexdigest()
        self._entries[path] = TreeEntry(path, 0o755 if executable else 0o644, name)
        self._sizes[name] = size
        self._files.setdefault(name, full)

    def _add_link(self, path: str, known: Collection[str]) -> None:
        target = os.readlink(self._top / path)
        parent = self._top / posixpath.dirname(path)
        full = os.path.realpath(self._top / path)
        inside = os.path.relpath(full, self._top)
        if inside == ".." or inside.startswith("../"):
            self._notes.append(f"{path} is left out: it is a link to {full}, outside of the code directory")
            return
        if inside not in (".", *known):
            self._notes.append(f"{path} is left out: it is a link to {inside}, which is not sent")
            return
        if os.path.isabs(target) or leads_outside(path, target):
            target = os.path.relpath(full, parent)
        self._entries[path] = TreeEntry(path, 0o777, target=target)


def _is_sendable_name(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True
