"""Input functions over arrays in memory."""

from __future__ import annotations

from orchestrator.estimator.lazy_names import lazy

_PLACES = {
    "numpy_input_fn": "orchestrator.estimator.inputs.numpy_input:numpy_input_fn",
    "pandas_input_fn": "orchestrator.estimator.inputs.pandas_input:pandas_input_fn",
}

__all__ = list(_PLACES)
__getattr__, __dir__ = lazy(__name__, _PLACES)
