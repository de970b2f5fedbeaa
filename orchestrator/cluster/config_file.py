"""Reads cluster files: YAML and `--set` options in, a ClusterConfig or one complete error out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from orchestrator.cluster.config import ClusterConfig
from orchestrator.cluster.config_mistakes import describe
from orchestrator.cluster.topology import KeyPath, Mistake, mistakes
from orchestrator.errors import ClusterConfigError, near_miss

_MERGE = "tag:yaml.org,2002:merge"
_STRING = "tag:yaml.org,2002:str"
_FLOAT = "tag:yaml.org,2002:float"
_EXPONENT = re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$")
MAX_BYTES = 1 << 20
"""A larger file is no cluster file; reading one by mistake must not take minutes."""


class _Loader(yaml.SafeLoader):
    """SafeLoader that also reads `1e-3` as a number, which YAML 1.1 takes for text."""


_Loader.add_implicit_resolver(_FLOAT, _EXPONENT, list("-+0123456789"))


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
            node, plain = _parse(value)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise ClusterConfigError(f"--set {text}: the value is not YAML: {_problem(error)}.") from None
        for mistake in _Document(node).mistakes() if node is not None else ():
            raise ClusterConfigError(f"--set {text}: {mistake.text}")
        return Override(path, plain, text)


def load(path: Path, overrides: Sequence[str] = (), *, for_command: bool = False) -> ClusterConfig:
    """Reads a cluster file, changes it by `--set` options and checks the result.

    Raises ClusterConfigError with every mistake found: file and line (or the
    option), key path, value and fix.
    """
    changes = [Override.parse(text) for text in overrides]
    text = _read(path)
    node, value = _load_yaml(path, text)
    document = _Document(node)
    report = _Report(path, document, changes)
    report.refuse([*document.mistakes()])
    value = _unshared(value)
    for change in changes:
        _apply(value, change)
    try:
        config = ClusterConfig.model_validate(value)
    except ValidationError as error:
        report.refuse([describe(details, value) for details in error.errors(include_url=False)])
        raise
    report.refuse(mistakes(config, for_command=for_command))
    return config


def _read(path: Path) -> str:
    try:
        if path.is_file() and path.stat().st_size > MAX_BYTES:
            raise ClusterConfigError(f"{path}: larger than {MAX_BYTES >> 20} MiB, so it is no cluster file.")
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ClusterConfigError(f"{path}: no such file.{_near_file(path)}") from None
    except IsADirectoryError:
        raise ClusterConfigError(
            f"{path}: is a directory. Name a cluster file in it.{_near_file(path / '_')}"
        ) from None
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


def _parse(text: str) -> tuple[yaml.Node | None, Any]:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None or any(_self_references(node)):
            return node, None
        return node, loader.construct_document(node)
    finally:
        loader.dispose()


def _load_yaml(path: Path, text: str) -> tuple[yaml.Node, dict[str, Any]]:
    try:
        node, value = _parse(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        raise ClusterConfigError(f"{path}{line}: not YAML: {_problem(error)}.") from None
    except (ValueError, RecursionError) as error:  # for example the date 2024-99-99
        raise ClusterConfigError(f"{path}: not YAML: {_problem(error)}.") from None
    if node is None:
        raise ClusterConfigError(f"{path}: is empty. A cluster file needs at least 'name' and 'tasks'.")
    if not isinstance(node, yaml.MappingNode):
        kind = "list" if isinstance(node, yaml.SequenceNode) else "single value"
        raise ClusterConfigError(f"{path}: holds a {kind}, not a mapping of keys such as 'name' and 'tasks'.")
    return node, value if isinstance(value, dict) else {}


def _problem(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    if "'\\t'" in problem:
        return f"{problem} (indent with spaces, not tabs)"
    return str(problem)


def _self_references(node: yaml.Node, above: tuple[yaml.Node, ...] = ()) -> Iterator[yaml.Node]:
    if any(node is parent for parent in above):
        yield node
        return
    for child in _children(node):
        yield from _self_references(child, (*above, node))


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        for _, item in node.value:
            yield item
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value


def _unshared(value: Any) -> Any:
    """A copy in which nothing stands twice, so that a change at one place is none elsewhere."""
    if isinstance(value, dict):
        return {key: _unshared(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_unshared(item) for item in value]
    return value


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


class _Document:
    """The YAML nodes of a file: what its text says beside its value."""

    def __init__(self, root: yaml.Node) -> None:
        self.root = root

    def line(self, path: KeyPath) -> int | None:
        """The line of a key, from 1; None when the file does not hold it."""
        node, line = self.root, None
        for step in path:
            found = _step(node, step)
            if found is None:
                return None
            mark, node = found
            line = mark.line + 1
        return line

    def mistakes(self) -> Iterator[Mistake]:
        """Keys that stand twice or are no text, and values that contain themselves."""
        yield from self._walk(self.root, (), set())

    def _walk(self, node: yaml.Node, path: KeyPath, seen: set[int]) -> Iterator[Mistake]:
        if id(node) in seen:
            return
        seen.add(id(node))
        if not path:
            for _ in _self_references(node):
                yield Mistake((), "a value contains itself through an alias ('*'). Write it out.")
                return
        if isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                yield from self._walk(item, (*path, index), seen)
        if not isinstance(node, yaml.MappingNode):
            return
        lines: dict[str, int] = {}
        for key, item in node.value:
            line = key.start_mark.line + 1
            if key.tag == _MERGE:
                continue
            if key.tag != _STRING:
                shown = key.value if isinstance(key, yaml.ScalarNode) else "a list or mapping"
                yield Mistake(path, f"line {line}: the key {shown} is read as no text. Put it in quotes.")
                continue
            if key.value in lines:
                yield Mistake(
                    (*path, key.value),
                    f"stands twice, in lines {lines[key.value]} and {line}. Keep one of the two.",
                )
            lines.setdefault(key.value, line)
            yield from self._walk(item, (*path, key.value), seen)


def _step(node: yaml.Node, step: str | int) -> tuple[yaml.Mark, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        for key, item in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value == step:
                return key.start_mark, item
    elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        item = node.value[step]
        return item.start_mark, item
    return None


@dataclass(frozen=True)
class _Report:
    """Says where each mistake stands."""

    path: Path
    document: _Document
    changes: Sequence[Override]

    def refuse(self, found: Sequence[Mistake]) -> None:
        """Raises ClusterConfigError when there is something to say."""
        if not found:
            return
        lines = [self._place(mistake) for mistake in found]
        if len(lines) == 1:
            raise ClusterConfigError(f"{self.path}{lines[0]}")
        listed = "".join(f"\n  {line.lstrip(',: ')}" for line in lines)
        raise ClusterConfigError(f"{self.path}: {len(lines)} mistakes:{listed}")

    def _place(self, mistake: Mistake) -> str:
        key = key_path(mistake.path)
        option = self._option(mistake.path)
        if option is not None:
            return f": --set {option.text}: {key}: {mistake.text}"
        line = self.document.line(mistake.path)
        where = f", line {line}: " if line else ": "
        return f"{where}{key}: {mistake.text}" if key else f"{where}{mistake.text}"

    def _option(self, path: KeyPath) -> Override | None:
        for change in reversed(self.changes):
            if path[: len(change.path)] == change.path:
                return change
            if path and change.path[: len(path)] == path and self.document.line(path) is None:
                return change
        return None


def key_path(path: KeyPath) -> str:
    """`tasks.worker.hosts[1]`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text
