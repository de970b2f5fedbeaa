"""A YAML text with its value and the lines of its keys; stricter than YAML where YAML loses data."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from orchestrator.cluster.mistake import KeyPath, Mistake

_MERGE = "tag:yaml.org,2002:merge"
_STRING = "tag:yaml.org,2002:str"
_FLOAT = "tag:yaml.org,2002:float"
_EXPONENT = re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$")
MAX_VALUES = 100_000
"""Aliases of aliases can make a short text mean more than a machine holds."""


class NotYaml(ValueError):
    """The text is not YAML."""

    def __init__(self, problem: str, line: int | None = None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.line = line
        """From 1; None where it is not known."""


class _Loader(yaml.SafeLoader):
    """SafeLoader that also reads `1e-3` as a number, which YAML 1.1 takes for text."""


_Loader.add_implicit_resolver(_FLOAT, _EXPONENT, list("-+0123456789"))


class YamlDocument:
    """One YAML document: what its text says beside its value."""

    def __init__(self, root: yaml.Node | None, value: Any) -> None:
        self._root = root
        self._value = value

    @staticmethod
    def parse(text: str) -> YamlDocument:
        """Reads one document, of plain data alone; raises NotYaml."""
        loader = None
        try:
            loader = _Loader(text)
            root = loader.get_single_node()
            if root is None or _is_cyclic(root):
                return YamlDocument(root, None)
            return YamlDocument(root, loader.construct_document(root))
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            said = [getattr(error, "context", None), getattr(error, "problem", None)]
            problem = ", ".join(part for part in said if part) or str(error).splitlines()[0]
            hint = " (indent with spaces, not tabs)" if "'\\t'" in problem else ""
            raise NotYaml(problem + hint, mark.line + 1 if mark is not None else None) from None
        except RecursionError:
            raise NotYaml("nested too deeply") from None
        except ValueError as error:  # for example of the date 2024-99-99
            raise NotYaml(f"{error}; put text in quotes") from None
        except (
            LookupError,
            TypeError,
            AttributeError,
            OverflowError,
        ):  # PyYAML's own, for example of !!int ''
            raise NotYaml("a value does not fit its tag ('!!')") from None
        finally:
            if loader is not None:
                loader.dispose()

    def value(self) -> Any:
        """A fresh copy, in which nothing stands twice: a change at one place is none elsewhere."""
        return _copy(self._value)

    def holds(self, path: KeyPath) -> bool:
        """Whether the text itself has that key."""
        return len(self._marks(path)) == len(path)

    def line(self, path: KeyPath) -> int | None:
        """The line, from 1, of a key or of the innermost key around it that the text has."""
        marks = self._marks(path)
        return marks[-1].line + 1 if marks else None

    def _marks(self, path: KeyPath) -> list[yaml.Mark]:
        node, marks = self._root, []
        for step in path:
            found = _step(node, step)
            if found is None:
                break
            mark, node = found
            marks.append(mark)
        return marks

    def mistakes(self) -> list[Mistake]:
        """Keys that stand twice or are no text; values that contain themselves or are too many."""
        if self._root is None:
            return []
        if _is_cyclic(self._root):
            return [Mistake((), "a value contains itself through an alias ('*'). Write it out.")]
        if _size(self._root, {}) > MAX_VALUES:
            return [Mistake((), f"its aliases ('*') make more than {MAX_VALUES} values. Write fewer.")]
        return list(_walk(self._root, (), set()))


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_copy(item) for item in value]
    return value


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [item for pair in node.value for item in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _is_cyclic(root: yaml.Node) -> bool:
    done: set[int] = set()
    above: set[int] = set()

    def visit(node: yaml.Node) -> bool:
        if id(node) in above:
            return True
        if id(node) in done:
            return False
        above.add(id(node))
        found = any(visit(child) for child in _children(node))
        above.discard(id(node))
        done.add(id(node))
        return found

    return visit(root)


def _size(node: yaml.Node, known: dict[int, int]) -> int:
    if id(node) not in known:
        known[id(node)] = 1 + sum(_size(child, known) for child in _children(node))
    return known[id(node)]


def _step(node: yaml.Node | None, step: str | int) -> tuple[yaml.Mark, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        for key, item in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value == step:
                return key.start_mark, item
    elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        item = node.value[step]
        return item.start_mark, item
    return None


def _walk(node: yaml.Node, path: KeyPath, seen: set[int]) -> Iterator[Mistake]:
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _walk(item, (*path, index), seen)
    if not isinstance(node, yaml.MappingNode):
        return
    lines: dict[str, int] = {}
    for key, item in node.value:
        line = key.start_mark.line + 1
        if key.tag == _MERGE:
            continue
        if key.tag != _STRING:
            shown = key.value if isinstance(key, yaml.ScalarNode) else "in brackets"
            yield Mistake(path, f"the key {shown} in line {line} is not read as text. Put it in quotes.")
            continue
        if key.value in lines:
            both = f"lines {lines[key.value]} and {line}" if line != lines[key.value] else f"line {line}"
            yield Mistake((*path, key.value), f"stands twice, in {both}. Keep one of the two.")
        lines.setdefault(key.value, line)
        yield from _walk(item, (*path, key.value), seen)
