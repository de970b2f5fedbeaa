"""Words for what pydantic finds wrong in a cluster file: value, near miss and fix."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from orchestrator.cluster.config import ClusterConfig, Tasks
from orchestrator.cluster.mistake import KeyPath, Mistake
from orchestrator.cluster.run_config_section import LAUNCHER_OWNED, RunConfigSection
from orchestrator.errors import near_miss

_WANTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "bool_type": "true or false",
    "dict_type": "a mapping of keys to values",
    "model_type": "a mapping of keys to values",
    "tuple_type": "a list",
    "list_type": "a list",
}
_FIXES = {
    "int_type": "Write digits alone, for example 2",
    "string_type": "Put it in quotes",
    "tuple_type": "Write it in brackets, for example [a, b]",
    "bool_type": "Write one of the two without quotes",
    "float_type": "Write digits without a unit, for example 30",
}
_LIMITS = {
    "greater_than_equal": "is less than {ge:g}. Write {ge:g} or more",
    "greater_than": "is not above {gt:g}. Write a larger number",
    "string_too_long": "has more than {max_length} characters. Shorten it",
    "string_too_short": "is empty. Write a value, or remove the key",
}
_SYNONYMS = {"master": "chief", "parameter_server": "ps", "parameter_servers": "ps", "eval": "evaluator"}
_PATTERNS = {
    "name": "may hold letters, digits, '.', '_' and '-' and starts with a letter or digit."
    " It names directories, so write for example digits-local",
    "python": "is no name or path of an interpreter. Write for example python3 or /opt/venv/bin/python",
    "experiment": "is not MODULE:FUNCTION. Write for example my_package.my_module:experiment",
}


def describe(details: ErrorDetails) -> Mistake:
    """The mistake in plain words."""
    path: KeyPath = tuple(details["loc"])
    kind, value, context = details["type"], details["input"], details.get("ctx", {})
    if kind == "extra_forbidden":
        return Mistake(path, _unknown_key(path))
    if kind == "missing":
        return Mistake(path, f"missing. {_missing(path)}")
    text = f"{_shown(value)}{_complaint(kind, value, context, path, details['msg'])}"
    return Mistake(path, text if text.endswith(("?", ".")) else f"{text}.")


def _complaint(kind: str, value: Any, context: dict[str, Any], path: KeyPath, fallback: str) -> str:
    if kind in _WANTED:
        fix = _FIXES.get(kind)
        return f"is not {_WANTED[kind]}{f'. {fix}' if fix else ''}"
    if kind in ("enum", "literal_error"):
        known = re.findall(r"'([^']*)'", str(context.get("expected", "")))
        hint = near_miss(value, known) if isinstance(value, str) else ""
        return f"is not one of {', '.join(known)}.{hint}"
    if kind == "string_pattern_mismatch":
        return _PATTERNS.get(str(path[-1]), f"does not match {context.get('pattern')}")
    if kind == "value_error":
        return str(context["error"])
    if kind in _LIMITS:
        return _LIMITS[kind].format(**context)
    return f"is refused: {fallback}"


def _shown(value: Any) -> str:
    """The value as YAML would write it, with a space behind; nothing for a whole section."""
    if isinstance(value, dict):
        return ""
    if value is None:
        return "no value: it "
    try:
        text = json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else f"'{value}'"
    except (TypeError, ValueError):
        text = str(value)
    return f"{text if len(text) <= 80 else text[:77] + '...'} "


def _unknown_key(path: KeyPath) -> str:
    name, section = str(path[-1]), _model_at(path[:-1])
    known = list(section.model_fields) if section else []
    if section is RunConfigSection and name in LAUNCHER_OWNED:
        return f"not for the file: {LAUNCHER_OWNED[name]}. Remove it."
    what = "task type" if section is Tasks else "key"
    if section is Tasks and name in _SYNONYMS:
        return f"unknown {what}. Did you mean '{_SYNONYMS[name]}'?"
    owners = [".".join(map(str, owner)) for owner in _sections_with(name)]
    if owners:
        place = f"under '{owners[0]}'" if owners[0] else "at the top of the file"
        return f"unknown key here. It belongs {place}."
    there_are = f" There are {', '.join(known)}."
    return f"unknown {what}.{near_miss(name, known) or there_are}"


def _missing(path: KeyPath) -> str:
    examples: dict[KeyPath, str] = {
        ("name",): "Write for example 'name: digits-local'.",
        ("tasks",): "Write for example 'tasks: {chief: {replicas: 1}}'.",
        ("strategy", "name"): "Write for example 'name: mirrored'.",
        ("ssh", "hosts", "name"): "Write for example '{name: h2, gpus: 2}'.",
        ("warm_start", "checkpoint"): "Write for example 'checkpoint: models/donor'.",
    }
    return examples.get(tuple(step for step in path if isinstance(step, str)), "Add it.")


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for part in get_args(annotation):
        model = _model_in(part)
        if model is not None:
            return model
    return None


def _model_at(path: KeyPath) -> type[BaseModel] | None:
    model: type[BaseModel] | None = ClusterConfig
    for step in path:
        if isinstance(step, int):
            continue  # an entry of a list of sections
        if model is None or step not in model.model_fields:
            return None
        model = _model_in(model.model_fields[str(step)].annotation)
    return model


def _sections_with(
    name: str, model: type[BaseModel] = ClusterConfig, path: KeyPath = ()
) -> Iterator[KeyPath]:
    if name in model.model_fields:
        yield path
    for key, field in model.model_fields.items():
        inner = _model_in(field.annotation)
        if inner is not None:
            yield from _sections_with(name, inner, (*path, key))
