"""`verify=` of a warm start: predictions of the warm-started model, before it is trained."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from orchestrator.estimator.graph import build_prediction_graph
from orchestrator.estimator.model import Model
from orchestrator.estimator.session_opening import finalize
from orchestrator.estimator.strategies import session_config_for
from orchestrator.estimator.warm_starting import plan_warm_start
from orchestrator.warm_start.verification import Verification

v1 = tf.compat.v1


def verify_warm_start(model: Model) -> None:
    """Does nothing where nothing is to be verified; raises WarmStartError where outputs differ."""
    verification = getattr(model.warm_start, "verify", None)
    if not isinstance(verification, Verification):
        return

    def input_fn() -> tf.data.Dataset:
        return tf.data.Dataset.from_tensors(verification.features)

    graph = build_prediction_graph(model, input_fn)
    with graph.entered():
        for hook in graph.input.hooks:
            hook.begin()
        load = plan_warm_start(model.warm_start)
        finalize(graph.scaffold)
        with v1.Session(config=session_config_for(model.config, None)) as session:
            verification.compare(_predictions(session, graph, load))


def _predictions(session: Any, graph: Any, load: Any) -> Any:
    session.run(graph.scaffold.init_op)
    load(session)
    session.run(graph.scaffold.local_init_op)
    for hook in graph.input.hooks:
        hook.after_create_session(session, None)
    return session.run(graph.predictions)
