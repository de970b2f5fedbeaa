"""Freezing: variables that do not train, and so take no gradient and no optimizer slot."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import tensorflow as tf

from orchestrator.errors import WarmStartError, near_miss
from orchestrator.warm_start.patterns import Pattern


@contextlib.contextmanager
def trainable_only(*patterns: str | Pattern) -> Iterator[None]:
    """Within the block, only variables that a scope or regular expression chooses are made trainable.

        with warm_start.trainable_only("Logits"):
            logits = build(features)

    The others are made as with `trainable=False`: optimizers neither see them
    nor make slots for them. Moving statistics of normalisations go on moving.
    Without patterns nothing changes.

    Raises WarmStartError when the block ends and a pattern has chosen no trainable variable.
    """
    chosen = [pattern if isinstance(pattern, Pattern) else Pattern(pattern) for pattern in patterns]
    if not chosen:
        yield
        return
    used: set[str] = set()
    names: list[str] = []

    def create(make: Any, **arguments: Any) -> Any:
        kept_apart = arguments.get("synchronization") == tf.VariableSynchronization.ON_READ
        if arguments.get("trainable") is False or kept_apart:
            return make(**arguments)
        name = _future_name(arguments)
        matches = [pattern.text for pattern in chosen if pattern.matches(name)]
        used.update(matches)
        names.append(name)
        return make(**{**arguments, "trainable": bool(matches)})

    with tf.variable_creator_scope(create):
        yield
    for pattern in chosen:
        if pattern.text not in used:
            raise WarmStartError(
                f"trainable: '{pattern.text}' chooses no trainable variable."
                f"{near_miss(pattern.text, _scopes(names))}"
            )


def _future_name(arguments: dict[str, Any]) -> str:
    """The name that the variable will have; `get_variable` gives it whole, outside of any name scope."""
    scope = tf.compat.v1.get_default_graph().get_name_scope()
    name = arguments.get("name") or "Variable"
    return f"{scope}/{name}" if scope else str(name)


def _scopes(names: Iterable[str]) -> list[str]:
    found: dict[str, None] = {}
    for name in names:
        parts = name.split("/")
        found.update({"/".join(parts[:count]): None for count in range(1, len(parts) + 1)})
    return list(found)
