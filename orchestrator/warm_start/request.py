"""WarmStart: which checkpoint, and which of its tensors go where. What a file, options or code ask for."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from orchestrator.errors import WarmStartError, near_miss
from orchestrator.warm_start.layouts import LAYOUTS
from orchestrator.warm_start.patterns import Pattern, Rename

Choice = Literal["error", "skip"]
_CHOICES = ("error", "skip")


@dataclass(frozen=True)
class Assignment:
    """One line of a map: the variable takes this tensor."""

    source: str
    layout: str = ""


@dataclass(frozen=True)
class Rules:
    """How tensors of a checkpoint find their variables."""

    include: tuple[Pattern, ...] = ()
    """Variables to load; empty for all."""
    exclude: tuple[Pattern, ...] = ()
    """Variables not to load and tensors not to use."""
    rename: tuple[Rename, ...] = ()
    """For names of the checkpoint; of several rules that fit, the first counts."""
    assign: Mapping[str, Assignment] = field(default_factory=dict)
    """The tensor of a variable, by the variable's name; goes before everything else."""
    on_mismatch: Choice = "error"
    """What a different shape or type means."""
    on_missing: Choice = "skip"
    """What a variable means that the checkpoint lacks."""
    optimizer: bool = False
    """Whether slots of optimizers are loaded too."""
    global_step: bool = False
    """Whether training goes on counting where the checkpoint was saved."""
    averages: bool = False
    """Whether moving averages are taken in place of raw values, where there are any."""
    allow_cast: bool = False
    """Whether numbers may be converted to the variable's type."""


@dataclass(frozen=True)
class WarmStart:
    """A value of `Estimator(warm_start_from=...)`: a checkpoint and the rules."""

    checkpoint: str
    rules: Rules = field(default_factory=Rules)
    what: str = "warm_start"
    """Names the key, option or argument in errors."""
    vocabularies: Mapping[str, Any] = field(default_factory=dict)
    """`tf.train.VocabInfo` by the variable's name."""
    verify: Any = None
    """A Verification (for an Estimator) or SessionVerification, made before the first step."""
    trainable: tuple[Pattern, ...] = ()
    """The variables that train, the others being frozen; empty for all. In force in all later training."""

    @staticmethod
    def of(checkpoint: str | os.PathLike[str], what: str = "warm_start", **options: Any) -> WarmStart:
        """A warm start of plain values; `options` are those of `scaffold_init_fn` and of the cluster file.

        Raises WarmStartError for unknown options and wrong values, naming them.
        """
        own = {name: options.pop(name, None) for name in ("verify", "vocabularies", "trainable")}
        return WarmStart(
            os.fspath(checkpoint),
            make_rules(what, **options),
            what,
            vocabularies=own["vocabularies"] or {},
            verify=own["verify"],
            trainable=tuple(_pattern(f"{what}.trainable", text) for text in _texts(own["trainable"])),
        )


_FLAGS = ("optimizer", "global_step", "averages", "allow_cast")
OPTIONS = ("include", "exclude", "rename", "map", "on_mismatch", "on_missing", *_FLAGS)


def make_rules(what: str = "warm_start", **options: Any) -> Rules:
    """Rules of plain values: texts, lists of texts, mappings, truth values.

    `map` is a file or a mapping, see `read_map`. Raises WarmStartError, naming
    the option after `what`.
    """
    for name in options:
        if name not in OPTIONS:
            raise WarmStartError(f"{what}.{name}: there is no such option.{near_miss(name, OPTIONS)}")
    values: dict[str, Any] = {}
    for name in ("on_mismatch", "on_missing"):
        if options.get(name) is not None:
            if options[name] not in _CHOICES:
                raise WarmStartError(f"{what}.{name}: '{options[name]}' is neither 'error' nor 'skip'.")
            values[name] = options[name]
    for name in _FLAGS:
        if options.get(name) is not None:
            if not isinstance(options[name], bool):
                raise WarmStartError(f"{what}.{name}: {options[name]!r} is neither true nor false.")
            values[name] = options[name]
    for name in ("include", "exclude"):
        values[name] = tuple(_pattern(f"{what}.{name}", text) for text in _texts(options.get(name)))
    renames = list(_renames(f"{what}.rename", options.get("rename")))
    if options.get("map") is not None:
        assign, further = read_map(options["map"], f"{what}.map")
        values["assign"] = assign
        renames += further
    return Rules(rename=tuple(renames), **values)


def _texts(value: Any) -> Iterable[str]:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(value)


def _pattern(what: str, text: Any) -> Pattern:
    if not isinstance(text, str):
        raise WarmStartError(f"{what}: {text!r} is not text.")
    try:
        return Pattern(text)
    except WarmStartError as error:
        raise WarmStartError(f"{what}: {error}") from None


def _renames(what: str, value: Any) -> Iterable[Rename]:
    """Renames of a mapping OLD: NEW, or of a list of 'OLD=NEW' and of {old:, new:, layout:}."""
    if isinstance(value, Mapping):
        value = [{"old": old, "new": new} for old, new in value.items()]
    for item in _texts(value):
        try:
            if isinstance(item, str):
                yield Rename.parse(item)
            elif isinstance(item, Rename):
                yield item
            elif isinstance(item, Mapping) and set(item) <= {"old", "new", "layout"} and "old" in item:
                yield Rename(str(item["old"]), str(item.get("new") or ""), _layout(item.get("layout")))
            else:
                raise WarmStartError(f"{item!r} is neither 'OLD=NEW' nor {{old:, new:, layout:}}.")
        except WarmStartError as error:
            raise WarmStartError(f"{what}: {error}") from None


def _layout(name: Any) -> str:
    if not name:
        return ""
    if name not in LAYOUTS:
        hint = near_miss(str(name), LAYOUTS) or f" There are {', '.join(LAYOUTS)}."
        raise WarmStartError(f"layout '{name}' is not known.{hint}")
    return str(name)


def read_map(value: Any, what: str) -> tuple[dict[str, Assignment], list[Rename]]:
    """Assignments and renames of a map file (YAML or JSON), or of its content.

    The plain form is `variable: tensor`. The full one has the keys `variables`
    (`variable: tensor` or `variable: {source: tensor, layout: NAME}`) and
    `rename` (a list of rules as in the cluster file). Raises WarmStartError.
    """
    if isinstance(value, str | os.PathLike):
        value, what = _content(Path(value), what)
    if not isinstance(value, Mapping):
        raise WarmStartError(f"{what}: must be a mapping 'variable: tensor'.")
    full = bool(value) and set(value) <= {"variables", "rename"} and not isinstance(value.get("rename"), str)
    variables = (value.get("variables") or {}) if full else value
    renames = list(_renames(f"{what}: rename", value.get("rename"))) if full else []
    if not isinstance(variables, Mapping):
        raise WarmStartError(f"{what}: 'variables' must be a mapping 'variable: tensor'.")
    assignments = {}
    for name, value_of in variables.items():
        item = {"source": value_of} if isinstance(value_of, str) else value_of
        if not isinstance(item, Mapping) or not isinstance(item.get("source"), str) or set(item) - _KEYS:
            raise WarmStartError(f"{what}: '{name}' must name a tensor, or be {{source:, layout:}}.")
        try:
            assignments[str(name)] = Assignment(item["source"], _layout(item.get("layout")))
        except WarmStartError as error:
            raise WarmStartError(f"{what}: '{name}': {error}") from None
    return assignments, renames


_KEYS = {"source", "layout"}


def _content(path: Path, what: str) -> tuple[Any, str]:
    try:
        text = path.expanduser().read_text(encoding="utf-8")
    except OSError as error:
        raise WarmStartError(f"{what}: {path}: cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise WarmStartError(f"{what}: {path}: is not UTF-8 text.") from None
    import yaml  # not on every host of a run, and needed for such a file alone

    try:
        return (json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)), f"{what} ({path})"
    except (ValueError, yaml.YAMLError) as error:
        raise WarmStartError(f"{what}: {path}: is no YAML or JSON: {str(error).splitlines()[0]}.") from None
