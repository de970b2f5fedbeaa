"""Prediction: what a checkpoint says about features."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from orchestrator.errors import InvalidArgument
from orchestrator.estimator.graph import build_prediction_graph
from orchestrator.estimator.input_source import ends_by_itself
from orchestrator.estimator.logger import log
from orchestrator.estimator.model import Model
from orchestrator.estimator.session import HookedSession
from orchestrator.estimator.session_opening import SessionTarget, finalize, open_as_chief
from orchestrator.estimator.strategies import session_config_for
from orchestrator.estimator.warm_starting import plan_warm_start

v1 = tf.compat.v1


@dataclass(frozen=True)
class PredictionRequest:
    """What one call of `predict` asks for."""

    input_fn: Callable[..., Any]
    predict_keys: Any
    hooks: tuple[Any, ...]
    one_by_one: bool
    """Whether batches are taken apart."""


def predict(model: Model, request: PredictionRequest, checkpoint: str | None) -> Iterator[Any]:
    """Yields predictions, example by example or a batch at a time, until the input ends."""
    graph = build_prediction_graph(model, request.input_fn, request.predict_keys)
    with graph.entered():
        if not ends_by_itself(graph.input.features):
            log.warning(
                "Input graph does not use tf.data.Dataset or contain a QueueRunner. That means predict yields"
                " forever. This is probably a mistake."
            )
        session = _open(graph, model, request.hooks, checkpoint)
    # The graph is left while the caller has a batch: it may be working with another one.
    batches = _batches(graph, session)
    try:
        for batch in batches:
            yield from _examples(batch) if request.one_by_one else (batch,)
    finally:
        batches.close()


def _open(graph: Any, model: Model, hooks: tuple[Any, ...], checkpoint: str | None) -> HookedSession:
    all_hooks = [*graph.input.hooks, *hooks, *graph.prediction_hooks]
    target = SessionTarget(model.config.master, session_config_for(model.config, None))
    warm_start = plan_warm_start(model.warm_start) if checkpoint is None else None
    for hook in all_hooks:
        hook.begin()
    finalize(graph.scaffold)
    return HookedSession(
        lambda: open_as_chief(graph.scaffold, target, lambda: checkpoint, warm_start), all_hooks
    )


def _batches(graph: Any, session: HookedSession) -> Iterator[Any]:
    with session:
        while not session.should_stop():
            with graph.entered():
                batch = session.run(graph.predictions)
            yield batch


def _examples(batch: Any) -> Iterator[Any]:
    if not isinstance(batch, dict):
        yield from batch
        return
    for index in range(_batch_length(batch)):
        yield {key: value[index] for key, value in batch.items()}


def _batch_length(batch: dict[str, Any]) -> int:
    lengths = {key: value.shape[0] for key, value in batch.items()}
    if len(set(lengths.values())) > 1:
        raise InvalidArgument(
            f"Batch length of predictions should be same. They are {lengths};"
            " use yield_single_examples=False for predictions without a batch dimension."
        )
    return next(iter(lengths.values()))
