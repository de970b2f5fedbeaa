"""Reads cluster files: YAML and `--set` options in, a ClusterConfig or one complete error out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from orchestrator.cluster.config import ClusterConfig
from orchestrator.cluster.config_mistakes import describe
from orchestrator.cluster.mistake import KeyPath, Mistake, key_path
from orchestrator.cluster.topology import mistakes
from orchestrator.cluster.yaml_document import NotYaml, YamlDocument
from orchestrator.errors import ClusterConfigError, near_miss

MAX_BYTES = 1 << 20
"""A larger file is no cluster file; reading one by mistake must not take minutes."""


@dataclass(frozen=True)
class Override:
    """One `--set KEY=VALUE`."""

    path: tuple[str, ...]
    value: Any
    text: str

    @staticmethod
    def parse(text: str) -> Override:
        """Reads `params.max_steps=200`; the value is YAML. Raises ClusterConfigError."""
        key, equals, value = text.partition("=")
        path = tuple(part.strip() for part in key.split("."))
        if not equals or not all(path):
            raise ClusterConfigError(
                f"--set {text}: not KEY=VALUE with a dotted key. Write for example --set"
                " params.max_steps=200."
            )
        if not value.strip():
            raise ClusterConfigError(
                f"--set {text}: no value after '='. Write null for none, or '' for no text."
            )
        try:
            document = YamlDocument.parse(value)
        except NotYaml as error:
            raise ClusterConfigError(f"--set {text}: the value is not YAML: {error.problem}.") from None
        for mistake in document.mistakes():
            raise ClusterConfigError(f"--set {text}: {mistake.text}")
        return Override(path, document.value(), text)


@dataclass(frozen=True)
class ConfigFile:
    """A cluster file that has been read, and where its keys stand."""

    path: Path
    document: YamlDocument
    changes: Sequence[Override]

    def config(self, *, for_command: bool) -> ClusterConfig:
        """The checked content; raises ClusterConfigError with every mistake found."""
        self.refuse(self.document.mistakes())
        value = self.document.value()
        if value is None:
            raise ClusterConfigError(
                f"{self.path}: is empty. A cluster file needs at least 'name' and 'tasks'."
            )
        if not isinstance(value, dict):
            kind = "list" if isinstance(value, list) else "single value"
            raise ClusterConfigError(
                f"{self.path}: holds a {kind}, not a mapping of keys such as 'name' and 'tasks'."
            )
        for change in self.changes:
            _apply(value, change)
        try:
            config = ClusterConfig.model_validate(value)
        except ValidationError as error:
            self.refuse([describe(details) for details in error.errors(include_url=False)])
            raise
        self.refuse(mistakes(config, for_command=for_command))
        return config

    def refuse(self, found: Sequence[Mistake]) -> None:
        """Raises ClusterConfigError when there is something to say."""
        if not found:
            return
        if len(found) == 1:
            where = self.where(found[0].path)
            raise ClusterConfigError(f"{where}: {found[0].text}")
        listed = "".join(f"\n  {self._place(mistake.path)}: {mistake.text}" for mistake in found)
        raise ClusterConfigError(f"{self.path}: {len(found)} mistakes:{listed}")

    def where(self, path: KeyPath) -> str:
        """For people: `clusters/a.yaml, line 3: tasks.worker.replicas`, or the `--set` that is at fault."""
        place = self._place(path)
        if not place:
            return str(self.path)
        return f"{self.path}{', ' if place.startswith('line ') else ': '}{place}"

    def option(self, path: KeyPath) -> Override | None:
        """The `--set` that decides the value at `path`, if any."""
        for change in reversed(self.changes):
            if path[: len(change.path)] == change.path:
                return change
            if path and change.path[: len(path)] == path and not self.document.holds(path):
                return change
        return None

    def _place(self, path: KeyPath) -> str:
        key, option = key_path(path), self.option(path)
        if option is not None:
            return f"--set {option.text}: {key}"
        line = self.document.line(path)
        return ": ".join(part for part in (f"line {line}" if line else "", key) if part)


def read(path: Path, overrides: Sequence[str] = ()) -> ConfigFile:
    """Reads a cluster file and `--set` options; raises ClusterConfigError where either is not YAML."""
    changes = tuple(Override.parse(text) for text in overrides)
    return ConfigFile(path, _read(path), changes)


def load(path: Path, overrides: Sequence[str] = (), *, for_command: bool = False) -> ClusterConfig:
    """Reads a cluster file, changes it by `--set` options and checks the result.

    Raises ClusterConfigError with every mistake found: file and line (or the
    option), key path, value and fix.
    """
    return read(path, overrides).config(for_command=for_command)


def _read(path: Path) -> YamlDocument:
    try:
        if path.is_file() and path.stat().st_size > MAX_BYTES:
            raise ClusterConfigError(f"{path}: larger than {MAX_BYTES >> 20} MiB, so it is no cluster file.")
        return YamlDocument.parse(path.read_text(encoding="utf-8-sig"))
    except NotYaml as error:
        line = f", line {error.line}" if error.line else ""
        raise ClusterConfigError(f"{path}{line}: not YAML: {error.problem}.") from None
    except FileNotFoundError:
        raise ClusterConfigError(f"{path}: no such file.{_near_file(path)}") from None
    except IsADirectoryError:
        inside = _near_file(path / "_")
        raise ClusterConfigError(f"{path}: is a directory. Name a cluster file in it.{inside}") from None
    except UnicodeDecodeError as error:
        raise ClusterConfigError(f"{path}: is not UTF-8 text (byte {error.start}).") from None
    except OSError as error:
        raise ClusterConfigError(f"{path}: cannot be read: {error.strerror}.") from None


def _near_file(path: Path) -> str:
    try:
        names = sorted(p.name for p in path.parent.iterdir() if p.suffix in (".yaml", ".yml"))
    except OSError:
        return ""
    return near_miss(path.name, names) or (f" There are: {', '.join(names[:10])}." if names else "")


def _apply(document: dict[str, Any], change: Override) -> None:
    section, above = document, change.path[:-1]
    for depth, key in enumerate(above, start=1):
        value = section.get(key)
        if value is None:
            value = section[key] = {}
        elif not isinstance(value, dict):
            name = ".".join(change.path[:depth])
            raise ClusterConfigError(
                f"--set {change.text}: '{name}' is {value!r} in the file, not a mapping."
                f" Set the whole of it: --set '{name}={{...}}'."
            )
        section = value
    section[change.path[-1]] = change.value
