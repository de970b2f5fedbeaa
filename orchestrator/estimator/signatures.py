"""Which arguments a user's function takes, and whether they are the right ones."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from orchestrator.errors import InvalidArgument, InvalidType, near_miss

MODEL_FN_ARGUMENTS = ("features", "labels", "mode", "params", "config")
INPUT_FN_ARGUMENTS = ("mode", "params", "config", "input_context")


def describe(function: Any) -> str:
    """The function's name and place, as errors show it."""
    plain = function
    while isinstance(plain, functools.partial):
        plain = plain.func
    name = getattr(plain, "__qualname__", None) or repr(function)
    code = getattr(inspect.unwrap(plain) if callable(plain) else plain, "__code__", None)
    return f"{name} ({code.co_filename}:{code.co_firstlineno})" if code else name


def argument_names(function: Callable[..., Any]) -> tuple[str, ...]:
    """Names that a caller can still give: without `self` and what a partial has bound."""
    bound: set[str] = set()
    partial = function
    while isinstance(partial, functools.partial):
        bound.update(partial.keywords)
        partial = partial.func
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return ()
    skipped = (
        inspect.Parameter.VAR_KEYWORD,
        inspect.Parameter.VAR_POSITIONAL,
        inspect.Parameter.POSITIONAL_ONLY,
    )
    return tuple(p.name for p in parameters if p.kind not in skipped and p.name not in bound)


def check_model_fn(model_fn: Any, params_given: bool) -> None:
    """Raises InvalidArgument or InvalidType where `model_fn` cannot be called as Estimator calls it."""
    if model_fn is None:
        raise InvalidArgument("model_fn must be provided to Estimator.")
    if not callable(model_fn):
        raise InvalidType(f"model_fn must be callable, given: {model_fn!r}.")
    names = argument_names(model_fn)
    where = describe(model_fn)
    if "features" not in names:
        raise InvalidArgument(f"model_fn ({where}) must include features argument; it takes {list(names)}.")
    if params_given and "params" not in names:
        raise InvalidArgument(
            f"model_fn ({where}) does not include params argument, but params are passed to Estimator."
        )
    unknown = [name for name in names if name not in MODEL_FN_ARGUMENTS]
    if unknown:
        raise InvalidArgument(
            f"model_fn ({where}) has following not expected args: {unknown}."
            f"{near_miss(unknown[0], MODEL_FN_ARGUMENTS)} It can take {', '.join(MODEL_FN_ARGUMENTS)}."
        )


def check_estimator(estimator: Any, caller: str) -> None:
    """Raises InvalidType for what is no Estimator."""
    if not (hasattr(estimator, "config") and hasattr(estimator, "model_dir")):
        raise InvalidType(f"{caller}: `estimator` must have type Estimator, given: {estimator!r}.")


def check_input_fn(input_fn: Any, caller: str) -> None:
    """Raises where `input_fn` is no function or has required arguments that nobody gives."""
    if not callable(input_fn):
        raise InvalidType(f"{caller}: input_fn must be callable, given: {input_fn!r}.")
    try:
        parameters = inspect.signature(input_fn).parameters.values()
    except (TypeError, ValueError):
        return
    bound = set(input_fn.keywords) if isinstance(input_fn, functools.partial) else set()
    required = [
        p.name
        for p in parameters
        if p.default is inspect.Parameter.empty
        and p.kind in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        and p.name not in bound
        and p.name not in INPUT_FN_ARGUMENTS
    ]
    if required:
        raise InvalidArgument(
            f"{caller}: input_fn {describe(input_fn)} requires {required}, which nothing gives."
            f"{near_miss(required[0], INPUT_FN_ARGUMENTS)} It can take {', '.join(INPUT_FN_ARGUMENTS)};"
            " bind everything else with functools.partial."
        )
