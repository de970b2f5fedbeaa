"""Which files below a directory are code.

In a git work tree these are the files that git tracks or would add, elsewhere
all but what tools are known to make. Secrets, and the directories of models and
runs, are left out in both cases. What is included by a pattern is taken all the
same, and what is excluded is not.
"""

from __future__ import annotations

import os
import posixpath
import stat
import subprocess
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.launch.node.code_tree import parents
from orchestrator.launch.ssh.path_patterns import matches

SECRETS = (
    *(
        ".env",
        ".env.*",
        ".envrc",
        "*.pem",
        "*.key",
        "*.p12",
        "*.pfx",
        "*.ppk",
        "*.kdbx",
        "id_rsa*",
        "id_dsa*",
    ),
    *("id_ecdsa*", "id_ed25519*", ".ssh", ".gnupg", ".aws", ".netrc", ".pypirc", ".git-credentials"),
)
"""Left out everywhere, unless included by name."""
MADE_BY_TOOLS = (
    *(".git", ".hg", ".svn", "__pycache__", "*.pyc", ".venv", "venv", "node_modules", ".ipynb_checkpoints"),
    *(
        ".mypy_cache",
        ".pytest_cache",
        ".ruff_cache",
        ".hypothesis",
        ".tox",
        ".nox",
        ".idea",
        ".vscode",
        ".DS_Store",
    ),
)
"""Left out where git does not say what belongs to the code."""
_GIT_LIMIT = 120.0
_OUTCOMES = (
    frozenset({"launcher.json", "events.jsonl"}),
    frozenset({"checkpoint", "graph.pbtxt"}),
    frozenset({".orchestrator-lease.json"}),
)
"""Files by which the directory of a run or of a model is known."""


@dataclass(frozen=True)
class Listing:
    """What was found below a directory."""

    paths: tuple[str, ...]
    """Files, links and other things that are no directories; relative, sorted."""
    secrets: tuple[str, ...]
    """Left out because of their names."""


def list_code(
    top: Path, include: Sequence[str] = (), exclude: Sequence[str] = (), outcomes: Collection[str | Path] = ()
) -> Listing:
    """Lists the code below `top`, a resolved directory.

    `outcomes` are this job's own model and run directories.
    """
    left_out = _LeftOut(include, exclude, {os.path.realpath(path) for path in outcomes})
    listed = _git_files(top)
    found = set(_walk(top, left_out, made_by_tools=True) if listed is None else listed)
    paths = {path for path in found if not left_out.leaves(top, path)}
    if include:
        everything = _walk(top, left_out, made_by_tools=False)
        paths |= {path for path in everything if matches(path, include) and not left_out.leaves(top, path)}
    return Listing(tuple(sorted(paths)), tuple(sorted(left_out.secrets)))


class _LeftOut:
    """What does not go along, and what of that people should hear about."""

    def __init__(self, include: Sequence[str], exclude: Sequence[str], outcomes: Collection[str]) -> None:
        self.include, self.exclude = include, exclude
        self._outcomes = outcomes
        self._own_output = _files_written_by_this_command()
        self._directories: dict[str, bool] = {}
        self.secrets: set[str] = set()

    def leaves(self, top: Path, path: str) -> bool:
        """Whether a path that git or the walk has found stays here."""
        if matches(path, self.exclude):
            return True
        if self.include and matches(path, self.include):
            return False
        if matches(path, SECRETS):
            self.secrets.add(path)
            return True
        return self.is_outcome(top, path) or any(
            self.is_outcome_directory(top, parent) for parent in parents([path])
        )

    def is_outcome(self, top: Path, path: str) -> bool:
        """Whether it is a model or a run of this job, or what this command writes its output to."""
        full = top / path
        if str(full) in self._outcomes:
            return True
        try:
            found = full.lstat()
        except OSError:
            return False
        return (found.st_dev, found.st_ino) in self._own_output

    def is_outcome_directory(self, top: Path, path: str) -> bool:
        """Whether a directory holds a run or a model of any job."""
        if path not in self._directories:
            full = top / path
            self._directories[path] = str(full) in self._outcomes or any(
                all((full / name).exists() for name in names) for names in _OUTCOMES
            )
        return self._directories[path]


def _files_written_by_this_command() -> set[tuple[int, int]]:
    """Standard output and error, where they are files: `run ... > log.txt` must not send log.txt."""
    found = set()
    for descriptor in (1, 2):
        try:
            status = os.fstat(descriptor)
        except OSError:
            continue
        if stat.S_ISREG(status.st_mode):
            found.add((status.st_dev, status.st_ino))
    return found


def _git_files(top: Path) -> list[str] | None:
    """What git tracks or would add, in repositories within too; None where git knows nothing."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = [
        "git",
        "-c",
        "core.fsmonitor=false",
        "-C",
        str(top),
        "ls-files",
        "-z",
        "-co",
        "--exclude-standard",
    ]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_GIT_LIMIT, env=environment, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode != 0:
        return None
    listed = [os.fsdecode(name).rstrip("/") for name in done.stdout.split(b"\0") if name]
    found: list[str] = []
    for path in listed:
        full = top / path
        if full.is_dir() and not full.is_symlink():
            found += [posixpath.join(path, inner) for inner in _git_files(full) or []]
        elif os.path.lexists(full):  # else it was removed, and git has not been told
            found.append(path)
    return found or None


def _walk(top: Path, left_out: _LeftOut, *, made_by_tools: bool) -> Iterator[str]:
    """Files and links below a directory."""
    for place, directories, files in os.walk(top):
        inside = os.path.relpath(place, top)
        prefix = "" if inside == "." else f"{inside}/"
        kept = []
        for name in directories:
            path = prefix + name
            if (top / path).is_symlink():
                files.append(name)
            elif not (
                name == ".git"
                or matches(path, left_out.exclude)
                or (made_by_tools and _is_made_by_tools(top, path) and not matches(path, left_out.include))
                or (left_out.is_outcome_directory(top, path) and not left_out.include)
            ):
                kept.append(name)
        directories[:] = kept
        for name in files:
            path = prefix + name
            if not (made_by_tools and matches(path, MADE_BY_TOOLS)):
                yield path


def _is_made_by_tools(top: Path, path: str) -> bool:
    return matches(path, MADE_BY_TOOLS) or (top / path / "pyvenv.cfg").exists()
