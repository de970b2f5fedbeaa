"""Warm starts: weights of another model, planned, shown, and loaded once before step 0.

    from orchestrator import warm_start

    init_fn = warm_start.scaffold_init_fn("models/donor", exclude="Logits")
    scaffold = tf.compat.v1.train.Scaffold(init_fn=init_fn)

Importing this package imports no TensorFlow; the names below are found on use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.warm_start.checkpoint_reader import open_checkpoint as open_checkpoint
    from orchestrator.warm_start.request import WarmStart as WarmStart
    from orchestrator.warm_start.scaffold import plan_for_graph as plan_for_graph
    from orchestrator.warm_start.scaffold import scaffold_init_fn as scaffold_init_fn
    from orchestrator.warm_start.variable_map import Plan as Plan
    from orchestrator.warm_start.variable_map import plan as plan

_HERE = "orchestrator.warm_start"
_LAZY = {
    "Plan": f"{_HERE}.variable_map",
    "Rules": f"{_HERE}.request",
    "SessionVerification": f"{_HERE}.verification",
    "SourceTensor": f"{_HERE}.tensors",
    "TargetVariable": f"{_HERE}.tensors",
    "Verification": f"{_HERE}.verification",
    "WarmStart": f"{_HERE}.request",
    "make_rules": f"{_HERE}.request",
    "minimize_by_scope": f"{_HERE}.learning_rates",
    "open_checkpoint": f"{_HERE}.checkpoint_reader",
    "plan": f"{_HERE}.variable_map",
    "plan_for_graph": f"{_HERE}.scaffold",
    "scaffold_init_fn": f"{_HERE}.scaffold",
    "trainable_only": f"{_HERE}.freezing",
}
__all__ = sorted(_LAZY)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
