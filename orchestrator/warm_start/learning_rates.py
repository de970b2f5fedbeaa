"""A learning rate, or an optimizer, for each scope of a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from orchestrator.errors import WarmStartError, near_miss
from orchestrator.warm_start.patterns import Pattern

v1 = tf.compat.v1


def minimize_by_scope(
    loss: tf.Tensor, optimizers: Mapping[str, Any], global_step: Any = None
) -> tf.Operation:
    """One training step in which each scope has its own optimizer, and so its own rate.

        minimize_by_scope(loss, {"Logits": Adam(1e-3), ".*": Adam(1e-5)}, global_step)

    Args:
      loss: a scalar.
      optimizers: `tf.compat.v1.train.Optimizer` by scope or regular expression. A
        trainable variable takes the first that chooses it, and none chooses
        twice; one that takes no variable because all are frozen is left out.
      global_step: is raised by one a step.

    The gradients are computed once. Raises WarmStartError where a trainable
    variable is chosen by no pattern, or where nothing is trainable.
    """
    variables = v1.trainable_variables()
    if not variables:
        raise WarmStartError("minimize_by_scope: there is no trainable variable; everything is frozen.")
    groups: dict[str, list[Any]] = {text: [] for text in optimizers}
    patterns = [Pattern(text) for text in optimizers]
    for variable in variables:
        name = variable.name.partition(":")[0]
        chosen = next((pattern for pattern in patterns if pattern.matches(name)), None)
        if chosen is None:
            raise WarmStartError(
                f"minimize_by_scope: no pattern chooses '{name}'. Add '.*' for the rest, or freeze it."
                f"{near_miss(name, optimizers)}"
            )
        groups[chosen.text].append(variable)
    first = next(text for text in optimizers if groups[text])
    gradients = {id(v): g for g, v in optimizers[first].compute_gradients(loss, variables)}
    steps = [
        optimizers[text].apply_gradients([(gradients[id(v)], v) for v in members])
        for text, members in groups.items()
        if any(gradients[id(v)] is not None for v in members)
    ]
    if global_step is None:
        return tf.group(*steps)
    with tf.control_dependencies(steps):
        return tf.group(global_step.assign_add(1))
