"""`tf.compat.v1.estimator.tpu`, of which nothing is available: each name is refused with the reason."""

from __future__ import annotations

from orchestrator.estimator.lazy_names import lazy

__path__: list[str] = []
"""Import statements ask `__getattr__` of packages alone before they make up an error of their own."""
__all__: list[str] = []
__getattr__, __dir__ = lazy(__name__, {})
