"""`Estimator(warm_start_from=...)`: weights of another model, once, before step 0."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from orchestrator.errors import InvalidArgument
from orchestrator.estimator.logger import log
from orchestrator.estimator.warm_start_settings import WarmStartSettings
from orchestrator.warm_start.patterns import Pattern
from orchestrator.warm_start.request import Assignment, Rules, WarmStart
from orchestrator.warm_start.scaffold import loader_for_graph
from orchestrator.warm_start.variable_map import Plan

v1 = tf.compat.v1
Load = Callable[[v1.Session], None]
Source = WarmStart | WarmStartSettings | Plan
_ARGUMENT = "warm_start_from"


def source_of(warm_start_from: Any) -> Source | None:
    """What a user gave, checked: a checkpoint of any kind, settings, a WarmStart, a plan or None.

    Raises InvalidArgument for anything else, WarmStartError for a plan that cannot be applied.
    """
    if warm_start_from is None or isinstance(warm_start_from, (WarmStartSettings, WarmStart)):
        return warm_start_from
    if isinstance(warm_start_from, Plan):
        return warm_start_from.require()
    if isinstance(warm_start_from, (str, bytes, os.PathLike)):
        return WarmStart(os.fsdecode(warm_start_from), what=_ARGUMENT)
    raise InvalidArgument(
        "warm_start_from must be a string, a WarmStartSettings, a WarmStart or a Plan, instead got"
        f" {type(warm_start_from)}."
    )


def plan_warm_start(source: Source | None) -> Load | None:
    """How the default graph's variables are loaded in a session that has just initialised them.

    The values are fed to the variables' own initializers, so the graph grows
    by nothing and every replica gets them. Raises WarmStartError for a plan that
    cannot be applied to this graph, CheckpointError for files that cannot be read.
    """
    if source is None:
        return None
    graph = v1.get_default_graph()
    wanted = _as_warm_start(source) if isinstance(source, WarmStartSettings) else source
    return None if wanted is None else loader_for_graph(graph, wanted)


def say_restored(source: Source | None, checkpoint: str) -> None:
    """Tells that a model that was to be warm-started goes on from its own checkpoint instead."""
    if source is not None:
        log.info("Restoring %s; the warm start was done before and is not done again.", checkpoint)


def _as_warm_start(settings: WarmStartSettings) -> WarmStart | None:
    """The documented meaning of WarmStartSettings: every variable that it names must be in the checkpoint."""
    vocabularies = {_plain(name): info for name, info in settings.var_name_to_vocab_info.items()}
    earlier = {_plain(new): _plain(old) for new, old in settings.var_name_to_prev_var_name.items()}
    names = list(dict.fromkeys([*_chosen_names(settings.vars_to_warm_start), *vocabularies]))
    if not names:
        if settings.vars_to_warm_start is None:
            return None
        raise InvalidArgument(
            f"warm_start_from: vars_to_warm_start {settings.vars_to_warm_start!r} matches no variable."
        )
    rules = Rules(
        include=tuple(Pattern(f"^{re.escape(name)}$") for name in names),
        assign={name: Assignment(earlier.get(name, name)) for name in names},
    )
    return WarmStart(os.fsdecode(settings.ckpt_to_initialize_from), rules, _ARGUMENT, vocabularies)


def _chosen_names(chosen: Any) -> list[str]:
    """What `vars_to_warm_start` means: an expression is for trainable variables, a list for all of them."""
    if chosen is None:
        return []
    if isinstance(chosen, str):
        return [_name_of(v) for v in v1.get_collection(v1.GraphKeys.TRAINABLE_VARIABLES, scope=chosen)]
    found: list[Any] = []
    for item in chosen:
        in_scope = isinstance(item, str)
        found += v1.get_collection(v1.GraphKeys.GLOBAL_VARIABLES, scope=item) if in_scope else [item]
    return [_name_of(variable) for variable in found]


def _name_of(variable: Any) -> str:
    """The name that a checkpoint has for the variable: of the whole, where this is a part."""
    whole = getattr(variable, "_save_slice_info", None)
    return whole.full_name if whole is not None else _plain(variable.name)


def _plain(name: str) -> str:
    return name.partition(":")[0]
