"""`tf.estimator.experimental`: early stopping, evaluation within training, raw receivers."""

from __future__ import annotations

from orchestrator.estimator.lazy_names import lazy

_HERE = "orchestrator.estimator.experimental"
_EARLY = f"{_HERE}.early_stopping"

_PLACES = {
    "InMemoryEvaluatorHook": f"{_HERE}.in_memory_evaluator:InMemoryEvaluatorHook",
    "build_raw_supervised_input_receiver_fn": (
        "orchestrator.estimator.export.receiver_builders:build_raw_supervised_input_receiver_fn"
    ),
    "call_logit_fn": f"{_HERE}.logit_fn:call_logit_fn",
    "make_early_stopping_hook": f"{_EARLY}:make_early_stopping_hook",
    "make_stop_at_checkpoint_step_hook": f"{_HERE}.checkpoint_step:make_stop_at_checkpoint_step_hook",
    "stop_if_higher_hook": f"{_EARLY}:stop_if_higher_hook",
    "stop_if_lower_hook": f"{_EARLY}:stop_if_lower_hook",
    "stop_if_no_decrease_hook": f"{_EARLY}:stop_if_no_decrease_hook",
    "stop_if_no_increase_hook": f"{_EARLY}:stop_if_no_increase_hook",
}

__all__ = list(_PLACES)
__getattr__, __dir__ = lazy(__name__, _PLACES)
