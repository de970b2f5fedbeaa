"""Code on a host: contents and trees, each in a place named by what it holds.

    ROOT/blobs/<sha256>       the content of one file
    ROOT/code/<sha256>/       a tree, as the tasks' working directory
    ROOT/code/<sha256>.used   locked while a run uses the tree; its time is that of the last use

Nothing outside of ROOT is written or removed. A file of a tree that was altered
since is put right before the next run; files that a program has added stay.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import IO

from orchestrator.launch.node.code_tree import (
    CodeStoreError,
    TreeEntry,
    digest_of,
    entries_from_json,
    is_digest,
    tree_digest,
)

KEPT_SECONDS = 30 * 24 * 3600.0
"""Contents and trees that nobody has used for so long are removed."""
_USED = ".used"
_UNFINISHED = ".unfinished-"


class CodeStore:
    """What a host keeps of users' code. Every failure is a CodeStoreError."""

    def __init__(self, root: Path) -> None:
        """`root` exists, and belongs to us alone."""
        self._blobs = root / "blobs"
        self._trees = root / "code"
        self._in_use: list[IO[bytes]] = []

    def missing(self, digests: Collection[str]) -> list[str]:
        """Those contents that are not here; the others are kept for now."""
        wanted = [digest for digest in dict.fromkeys(digests) if is_digest(digest)]
        if len(wanted) != len(set(digests)):
            raise CodeStoreError("the offer holds what is no digest.")
        return [digest for digest in wanted if not _touch(self._blobs / digest)]

    def put(self, digest: str, content: bytes) -> None:
        """Takes one content, if it is what it is called."""
        if not is_digest(digest) or digest_of(content) != digest:
            raise CodeStoreError("a file arrived with another content than was announced.")
        try:
            _write(self._blobs / digest, content, 0o600)
        except OSError as error:
            raise _unwritable(self._blobs, error) from error

    def tree(self, digest: str, listed: object) -> Path:
        """The directory that holds exactly these entries, and what programs have added to it.

        It stays until `close` and for a long while after it. All contents must be here.
        """
        entries = entries_from_json(listed)
        if tree_digest(entries) != digest:
            raise CodeStoreError("the list of files arrived with another content than was announced.")
        place = self._trees / digest
        try:
            self._trees.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._use(digest)
            if _kind(place) != "directory":
                _remove(place)
                self._make(place, entries)
            for entry in entries:
                self._put_right(place, entry)
        except OSError as error:
            raise _unwritable(place, error) from error
        outside = next(_links_outside(place, entries), None)
        if outside is not None:
            _remove(place)
            raise CodeStoreError(f"{outside!r} is a link to what lies outside of the tree.")
        return place

    def prune(self, older_than: float = KEPT_SECONDS) -> None:
        """Removes what nobody has used for `older_than` seconds; what a run uses stays."""
        oldest = time.time() - older_than
        left = [*self._blobs.glob("*"), *self._trees.glob(f"{_UNFINISHED}*")]
        for path in [*self._trees.glob(f"*{_USED}"), *left]:
            try:
                if path.lstat().st_mtime >= oldest:
                    continue
                if path.suffix == _USED:
                    _remove_unused(path)
                else:
                    _remove(path)
            except OSError:
                continue  # another agent was faster, or it cannot be removed

    def close(self) -> None:
        """Lets go of the trees; they stay for the next run."""
        for lock in self._in_use:
            lock.close()
        self._in_use.clear()

    def _use(self, digest: str) -> None:
        """Marks a tree as used; waits while another agent removes it."""
        mark = self._trees / f"{digest}{_USED}"
        while True:
            lock = mark.open("ab")
            fcntl.flock(lock, fcntl.LOCK_SH)
            _touch(mark)
            if os.fstat(lock.fileno()).st_nlink:
                self._in_use.append(lock)
                return
            lock.close()

    def _make(self, place: Path, entries: tuple[TreeEntry, ...]) -> None:
        """All of a tree at once: whoever sees it sees it whole."""
        made = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=self._trees))
        try:
            for entry in entries:
                self._put_right(made, entry)
            os.rename(made, place)
        except OSError:
            if not place.is_dir():
                raise
        finally:
            shutil.rmtree(made, ignore_errors=True)

    def _put_right(self, place: Path, entry: TreeEntry) -> None:
        """Makes one entry what it should be; does nothing where it is."""
        path = place / entry.path
        there = _kind(path)
        if entry.is_directory:
            if there != "directory":
                _remove(path)
                path.mkdir(mode=0o700)
        elif entry.target is not None:
            if there != "link" or os.readlink(path) != entry.target:
                _remove(path)
                path.symlink_to(entry.target)
        elif there != "file" or _digest_of_file(path) != entry.digest:
            _remove(path)
            _write(path, self._content(entry), 0o700 & (entry.mode | 0o600))

    def _content(self, entry: TreeEntry) -> bytes:
        try:
            content = (self._blobs / str(entry.digest)).read_bytes()
        except FileNotFoundError:
            raise CodeStoreError(f"the content of {entry.path!r} was not sent.") from None
        if digest_of(content) != entry.digest:
            (self._blobs / str(entry.digest)).unlink(missing_ok=True)
            raise CodeStoreError(
                f"the kept content of {entry.path!r} was damaged. Start again: it is sent anew."
            )
        return content


def _kind(path: Path) -> str:
    if path.is_symlink():
        return "link"
    if path.is_dir():
        return "directory"
    return "file" if path.is_file() else "else"


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _links_outside(place: Path, entries: tuple[TreeEntry, ...]) -> Iterator[str]:
    """Links that lead out over other links, which their names do not tell."""
    inside = os.path.realpath(place)
    for entry in entries:
        if entry.target is not None:
            found = os.path.realpath(place / entry.path)
            if os.path.commonpath([inside, found]) != inside:
                yield entry.path


def _digest_of_file(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _write(path: Path, content: bytes, mode: int) -> None:
    """Under another name first, so that nobody reads half of it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=_UNFINISHED, dir=path.parent)
    try:
        with open(handle, "wb") as stream:
            stream.write(content)
        os.chmod(name, mode)
        os.replace(name, path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise


def _touch(path: Path) -> bool:
    """Whether it exists; it counts as used now."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    return True


def _remove_unused(mark: Path) -> None:
    """Removes a tree, unless a run uses it (then BlockingIOError)."""
    with mark.open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _remove(mark.with_suffix(""))
        mark.unlink()


def _unwritable(place: Path, error: OSError) -> CodeStoreError:
    return CodeStoreError(
        f"the code cannot be written to {place}: {error.strerror or error}."
        " Free some space there, make it writable, or name another directory with ssh.root."
    )
