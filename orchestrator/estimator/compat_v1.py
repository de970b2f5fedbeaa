"""`tf.compat.v1.estimator`: the same names, with the Estimator that TensorFlow 1 programs know."""

from __future__ import annotations

from orchestrator.estimator import PLACES
from orchestrator.estimator.lazy_names import lazy

_PLACES = {**PLACES, "Estimator": "orchestrator.estimator.estimator:EstimatorV1"}

__path__: list[str] = []
"""Import statements ask `__getattr__` of packages alone before they make up an error of their own."""
__all__ = list(_PLACES)
__getattr__, __dir__ = lazy(__name__, _PLACES)
