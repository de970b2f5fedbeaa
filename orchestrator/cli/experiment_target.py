"""Looks at MODULE:FUNCTION without importing it.

Importing an experiment imports TensorFlow, takes seconds and may fail for
reasons that belong to a task. So modules are located by the import system's
finders, which execute nothing as long as parents are not imported, and read
with `ast`. What cannot be known that way is left to the task.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

from orchestrator.cluster.config import DEFAULT_EXPERIMENT
from orchestrator.cluster.mistake import Mistake
from orchestrator.errors import EnvironmentProblem, ExperimentError, near_miss

PREPARE_FUNCTION = "prepare_data"
CONFIG_PARAMETER = "config"
_WORDS = {"int": "a whole number", "float": "a number", "str": "text", "bool": "true or false"}
_Definition = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Signature:
    """The keyword arguments that an experiment function takes beside `config`."""

    required: tuple[str, ...]
    optional: tuple[str, ...]
    takes_any: bool
    """It has `**kwargs`."""
    types: Mapping[str, str]
    """The plain types that arguments are declared with: int, float, str or bool."""

    @property
    def names(self) -> tuple[str, ...]:
        """All of them, in the order of the definition."""
        return (*self.required, *self.optional)


@dataclass(frozen=True)
class ExperimentTarget:
    """What is known of MODULE:FUNCTION without importing it."""

    module: str
    function: str
    path: Path | None
    """Source file; None where there is none to read."""
    signature: Signature | None
    """None where it is not written plainly in the file."""
    prepares_data: bool
    """The module has a `prepare_data` function."""

    def __str__(self) -> str:
        return f"{self.module}:{self.function}"

    def param_mistakes(self, params: Mapping[str, Any]) -> list[Mistake]:
        """Keyword arguments that the function does not take, and those it misses."""
        if self.signature is None:
            return []
        known = self.signature.names
        there_are = f" It takes {', '.join(known)}." if known else " It takes none."
        found = [
            Mistake(("params", name), f"unknown to {self}.{near_miss(name, known) or there_are}")
            for name in params
            if name not in known and not self.signature.takes_any
        ]
        found += [
            Mistake(("params", name), f"{value!r} is not {_WORDS[declared]}, as {self} declares it.")
            for name, value in params.items()
            if value is not None
            and (declared := self.signature.types.get(name))
            and not _fits(value, declared)
        ]
        if CONFIG_PARAMETER in params and self.signature.takes_any:
            found.append(Mistake(("params", CONFIG_PARAMETER), "given by the launcher. Remove it."))
        found += [
            Mistake(("params", name), f"missing, and {self} has no default for it. Add it under 'params'.")
            for name in self.signature.required
            if name not in params
        ]
        return found


def look_at(text: str, working_dir: Path) -> ExperimentTarget:
    """Finds MODULE:FUNCTION, looking in `working_dir` before the installed packages.

    Raises ExperimentError, with the near miss, when either does not exist or
    the file is not Python.
    """
    module, colon, function = text.partition(":")
    if not colon or not function.isidentifier() or not all(part.isidentifier() for part in module.split(".")):
        raise ExperimentError(
            f"'{text}' is not MODULE:FUNCTION. Write for example my_package.my_module:experiment."
        )
    spec = _find_module(module, working_dir)
    source = _source(module, spec)
    if source is None:
        return ExperimentTarget(module, function, None, None, prepares_data=False)
    path = Path(spec.origin) if spec.origin else None
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        problem = error.msg if isinstance(error, SyntaxError) else str(error)
        raise ExperimentError(f"{path}{line} is not Python: {problem}.") from None
    names = dict(_top_level_names(tree.body))
    if function not in names and "*" not in names and "__getattr__" not in names:
        functions = [name for name, node in names.items() if isinstance(node, _Definition)]
        hint = near_miss(function, functions) or f" It has {', '.join(functions) or 'no function'}."
        raise ExperimentError(f"module {module} ({path}) has no '{function}'.{hint}")
    definition = names.get(function)
    signature = _signature(definition) if isinstance(definition, ast.FunctionDef) else None
    return ExperimentTarget(module, function, path, signature, PREPARE_FUNCTION in names)


def _fits(value: Any, declared: str) -> bool:
    if isinstance(value, bool) or declared == "bool":
        return isinstance(value, bool) and declared == "bool"
    kinds: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "str": (str,)}
    return isinstance(value, kinds[declared])


def require_packages(target: ExperimentTarget) -> None:
    """Raises EnvironmentProblem when the embedded default lacks scikit-learn."""
    if str(target) == DEFAULT_EXPERIMENT and importlib.util.find_spec("sklearn") is None:
        raise EnvironmentProblem(
            "the default experiment needs scikit-learn for its digits: pip install"
            " 'tf-orchestrator[examples]'"
        )


def _find_module(module: str, working_dir: Path) -> ModuleSpec:
    importlib.invalidate_caches()
    search: Sequence[str] = [str(working_dir), *sys.path]
    parts = module.split(".")
    for depth, part in enumerate(parts, start=1):
        name = ".".join(parts[:depth])
        spec = _find(name, search, top_level=depth == 1)
        if spec is None:
            raise ExperimentError(_no_module(module, name, part, search, working_dir))
        if depth == len(parts):
            return spec
        if spec.submodule_search_locations is None:
            raise ExperimentError(_no_module(module, f"{name}.{parts[depth]}", parts[depth], [], working_dir))
        search = _locations(spec, part, search)
    raise AssertionError("a module name has at least one part")


def _find(name: str, search: Sequence[str], *, top_level: bool) -> ModuleSpec | None:
    """The spec of one module in `search`, where other finders (editable installs) come last."""
    try:
        spec = PathFinder.find_spec(name, list(search))
    except KeyError:  # a namespace package within a package: the finder wants the imported parent
        return ModuleSpec(name, None, is_package=True)
    if spec is not None and spec.origin is not None:
        return spec
    for finder in sys.meta_path:
        if finder is not PathFinder:
            found = finder.find_spec(name, None if top_level else list(search), None)
            if found is not None and found.origin is not None:
                return found
    return spec


def _locations(spec: ModuleSpec, name: str, search: Sequence[str]) -> list[str]:
    """Where the submodules of a package lie.

    A namespace package's own list asks for its imported parent, so it is made anew.
    """
    if spec.origin is not None and spec.submodule_search_locations is not None:
        return list(spec.submodule_search_locations)
    return [str(Path(entry) / name) for entry in search if (Path(entry) / name).is_dir()]


def _no_module(module: str, name: str, part: str, search: Sequence[str], working_dir: Path) -> str:
    parent = name.rpartition(".")[0]
    where = f"package {parent}" if parent else f"{working_dir} and the installed packages"
    hint = near_miss(part, [info.name for info in pkgutil.iter_modules(list(search))])
    if part == "py" and parent:
        hint = " Write the module without '.py'."
    elif not hint:
        near = sorted(
            info.name for info in pkgutil.iter_modules(list(search) if parent else [str(working_dir)])
        )
        hint = f" There are {', '.join(near)}." if 0 < len(near) <= 10 else ""
    return f"module {module} does not exist: no '{part}' in {where}.{hint}"


def _source(module: str, spec: ModuleSpec) -> str | None:
    get_source = getattr(spec.loader, "get_source", None)
    if get_source is None:
        return None
    try:
        source: str | None = get_source(module)
    except (ImportError, OSError) as error:
        raise ExperimentError(f"module {module} cannot be read: {error}.") from None
    except (SyntaxError, UnicodeDecodeError) as error:
        raise ExperimentError(f"module {module} is not Python: {error}.") from None
    return source


def _top_level_names(body: Sequence[ast.stmt]) -> Iterator[tuple[str, ast.AST]]:
    """Names that importing the module binds; `*` for a star import, whose names are not known."""
    for node in body:
        if isinstance(node, _Definition | ast.ClassDef):
            yield node.name, node
        elif isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                yield (alias.asname or alias.name).split(".")[0], node
        elif isinstance(node, ast.If | ast.Try | ast.With | ast.For | ast.While):
            for field in ("body", "orelse", "finalbody"):
                yield from _top_level_names(getattr(node, field, []))
            for handler in getattr(node, "handlers", []):
                yield from _top_level_names(handler.body)
        else:
            for part in ast.walk(node):
                if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
                    yield part.id, node


def _signature(node: ast.FunctionDef) -> Signature | None:
    if node.decorator_list:
        return None
    arguments = node.args
    positional = [*arguments.posonlyargs, *arguments.args]
    if not positional and not arguments.vararg:
        raise ExperimentError(
            f"function {node.name} takes no positional argument, but is called as"
            f" {node.name}({CONFIG_PARAMETER}, **params). Add the RunConfig as its first argument."
        )
    with_default = len(arguments.defaults)
    cut = len(positional) - with_default
    by_keyword = [
        (argument.arg, index < cut)
        for index, argument in enumerate(positional)
        if index > 0 and argument not in arguments.posonlyargs
    ]
    pairs = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    by_keyword += [(argument.arg, default is None) for argument, default in pairs]
    return Signature(
        required=tuple(name for name, is_required in by_keyword if is_required),
        optional=tuple(name for name, is_required in by_keyword if not is_required),
        takes_any=arguments.kwarg is not None,
        types={
            argument.arg: argument.annotation.id
            for argument in [*positional[1:], *arguments.kwonlyargs]
            if isinstance(argument.annotation, ast.Name) and argument.annotation.id in _WORDS
        },
    )
