"""Applies a plan in a session: through a `Scaffold`'s `init_fn`, once, before the first step."""

from __future__ import annotations

import dataclasses
import logging
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from orchestrator.errors import CheckpointError, WarmStartError
from orchestrator.warm_start import layouts, vocabulary
from orchestrator.warm_start.assignment import assign
from orchestrator.warm_start.checkpoint_reader import OpenCheckpoint, open_checkpoint
from orchestrator.warm_start.graph_variables import GraphVariable, variables_of
from orchestrator.warm_start.report import plan_lines, summary
from orchestrator.warm_start.request import WarmStart
from orchestrator.warm_start.tensors import shown_shape
from orchestrator.warm_start.variable_map import Load, Plan, named, plan
from orchestrator.warm_start.verification import SessionVerification

Session = Any
"""A `tf.compat.v1.Session`."""
LOG = logging.getLogger("orchestrator")


def scaffold_init_fn(
    source: str | os.PathLike[str] | WarmStart | Plan, **options: Any
) -> Callable[[Any, Session], None]:
    """A function for `tf.compat.v1.train.Scaffold(init_fn=...)` that loads another model's weights.

    It is called once, after the graph is finalized and before the first step,
    and not at all where the model has a checkpoint of its own. It reads one
    tensor at a time, and adds nothing to the graph but three operations for each
    tensor of more than 1 GiB that goes to another process.

    Args:
      source: a checkpoint (prefix, file or directory of any kind that
        `open_checkpoint` reads), a WarmStart, or a Plan.
      options: with a checkpoint: `include`, `exclude` (scopes or regular
        expressions), `rename` ("OLD=NEW", several, or a mapping), `map` (a file
        or a mapping variable: tensor), `on_mismatch` and `on_missing` ("error"
        or "skip"), `optimizer`, `global_step`, `averages`, `allow_cast`,
        `vocabularies` (`VocabInfo` by variable) and `verify` (a
        SessionVerification).

    Raises WarmStartError at once for wrong options and a missing checkpoint;
    when called, for a plan that cannot be applied.
    """
    wanted = _wanted(source, options)
    if isinstance(wanted, WarmStart):
        open_checkpoint(wanted.checkpoint, wanted.what).reader.close()

    def init_fn(scaffold: Any, session: Session) -> None:
        del scaffold
        loader_for_graph(session.graph, wanted)(session)

    return init_fn


def _wanted(source: Any, options: Mapping[str, Any]) -> WarmStart | Plan:
    if isinstance(source, (WarmStart, Plan)):
        if options:
            raise WarmStartError(
                f"options {sorted(options)} go with the name of a checkpoint, not with a plan."
            )
        return source
    return WarmStart.of(source, **options)


def plan_for_graph(graph: tf.Graph, wanted: WarmStart) -> Plan:
    """The plan of a warm start of this graph's variables. Raises where the checkpoint cannot be read."""
    with open_checkpoint(wanted.checkpoint, wanted.what) as checkpoint:
        return _plan(checkpoint, variables_of(graph), wanted)


def _plan(checkpoint: OpenCheckpoint, variables: list[GraphVariable], wanted: WarmStart) -> Plan:
    targets = [variable.target for variable in variables]
    result = plan(checkpoint.tensors(), targets, wanted.rules, wanted.vocabularies)
    loads, problems = [], list(result.problems)
    for load in result.loads:
        if load.target.name in wanted.vocabularies:
            try:
                remapping = _remapping(load, wanted)
            except WarmStartError as error:
                problems.append(str(error))
                continue
            loads.append(dataclasses.replace(load, vocabulary=str(remapping)))
        else:
            loads.append(load)
    result = dataclasses.replace(result, loads=tuple(loads), problems=tuple(problems))
    return named(result, checkpoint.path, checkpoint.kind)


def _remapping(load: Load, wanted: WarmStart) -> vocabulary.Remapping:
    name = load.target.name
    return vocabulary.remapping_of(wanted.vocabularies[name], name, load.target.shape, load.source.shape)


def loader_for_graph(graph: tf.Graph, wanted: WarmStart | Plan) -> Callable[[Session], None]:
    """Plans now, and returns the function that loads in a session whose variables are initialised.

    Raises WarmStartError for a plan that cannot be applied, CheckpointError for unreadable files.
    """
    variables = variables_of(graph)
    if isinstance(wanted, Plan):
        chosen, request = _present(wanted.require(), variables), WarmStart(wanted.checkpoint)
    else:
        with open_checkpoint(wanted.checkpoint, wanted.what) as checkpoint:
            chosen, request = _plan(checkpoint, variables, wanted).require(), wanted
    by_name = {variable.target.name: variable for variable in variables}

    def load_all(session: Session) -> None:
        start = time.monotonic()
        with open_checkpoint(chosen.checkpoint) as opened:
            for load in chosen.loads:
                _load(session, opened, load, by_name[load.target.name], request)
        _say(chosen, time.monotonic() - start)
        if isinstance(request.verify, SessionVerification):
            request.verify.check(session)

    return load_all


def _present(chosen: Plan, variables: list[GraphVariable]) -> Plan:
    """The part of a plan that concerns this graph's variables, which must be as they were planned."""
    known = {variable.target.name: variable.target for variable in variables}
    loads = tuple(load for load in chosen.loads if load.target.name in known)
    if any(load.vocabulary for load in loads):
        raise WarmStartError("a plan with vocabularies is applied as a WarmStart, which knows the words.")
    for load in loads:
        target = known[load.target.name]
        if (target.shape, target.dtype) != (load.target.shape, load.target.dtype):
            raise WarmStartError(
                f"the plan was made for another model: {target.name} was {shown_shape(load.target.shape)}"
                f" {load.target.dtype}, and is {shown_shape(target.shape)} {target.dtype}. Plan again."
            )
    if not loads:
        raise WarmStartError("the plan was made for another model: it loads none of this graph's variables.")
    return dataclasses.replace(chosen, loads=loads)


def _load(
    session: Session, opened: OpenCheckpoint, load: Load, variable: GraphVariable, request: WarmStart
) -> None:
    value = opened.read(load.source)
    if value.shape != load.source.shape:
        raise CheckpointError(
            f"{opened.path}: '{load.source.name}' has shape {value.shape} now, and had {load.source.shape}"
            " when the warm start was planned. Leave the checkpoint alone while training starts."
        )
    if load.layout:
        value = np.ascontiguousarray(layouts.LAYOUTS[load.layout].apply(value))
    if load.vocabulary:
        value = vocabulary.apply(_remapping(load, request), value)
    if load.cast:
        value = value.astype(tf.as_dtype(load.target.dtype).as_numpy_dtype)
    for part in variable.parts:
        assign(session, part, value)


def _say(chosen: Plan, seconds: float) -> None:
    LOG.info("warm start from %s: %s, in %.1f s", chosen.checkpoint, summary(chosen), seconds)
    for skip in chosen.skips:
        if not skip.expected:
            LOG.warning("warm start: %s keeps its initial value: %s", skip.target.name, skip.why)
    for line in plan_lines(chosen):
        LOG.debug("%s", line)
