"""Distributed training orchestrator for TensorFlow, and the home of the Estimator API.

Importing this package imports no TensorFlow; the names below are found on use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from orchestrator.experiments.experiment import Experiment as Experiment

_LAZY = {"Experiment": "orchestrator.experiments.experiment"}
__all__ = ["Experiment", "__version__"]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'orchestrator' has no attribute '{name}'")
