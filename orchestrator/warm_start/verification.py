"""Whether a warm-started model gives what its donor gave, asked before the first step."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from orchestrator.errors import WarmStartError, near_miss

LOG = logging.getLogger("orchestrator")


@dataclass(frozen=True)
class Verification:
    """`Estimator(warm_start_from=WarmStart.of(..., verify=Verification(...)))`: compares predictions.

    Before training, `model_fn` is called in mode PREDICT with these features and
    the warm-started weights, which is what the donor must have been asked too.
    """

    features: Any
    """One batch, as `input_fn` would give it: an array, or a dict of arrays."""
    expected: Mapping[str, Any]
    """The donor's outputs for it, by the key of the predictions."""
    tolerance: float = 1e-4
    """Largest difference that is let pass, absolute and relative."""

    def compare(self, predictions: Any) -> None:
        """Raises WarmStartError, naming output and difference, where predictions differ."""
        if not isinstance(predictions, Mapping):
            predictions = dict.fromkeys(self.expected, predictions)
        for key, wanted in self.expected.items():
            if key not in predictions:
                raise WarmStartError(f"verify: the model predicts no '{key}'.{near_miss(key, predictions)}")
            require_equal(key, predictions[key], wanted, self.tolerance)
        LOG.info("warm start: verified %s against the donor's", ", ".join(self.expected))


@dataclass(frozen=True)
class SessionVerification:
    """`scaffold_init_fn(..., verify=SessionVerification(...))`: compares tensors of the same graph."""

    feeds: Mapping[Any, Any]
    """Values by tensor, or by a tensor's name."""
    expected: Mapping[Any, Any]
    """The donor's outputs by tensor, or by a tensor's name."""
    tolerance: float = 1e-4

    def check(self, session: Any) -> None:
        """Runs the tensors; raises WarmStartError, naming tensor and difference, where they differ."""
        found = session.run(list(self.expected), feed_dict=dict(self.feeds))
        for key, value in zip(self.expected, found, strict=True):
            require_equal(getattr(key, "name", str(key)), value, self.expected[key], self.tolerance)
        LOG.info("warm start: verified %d outputs against the donor's", len(found))


def require_equal(name: str, found: Any, wanted: Any, tolerance: float) -> None:
    """Raises WarmStartError where two arrays differ in shape, or by more than the tolerance."""
    found, wanted = np.asarray(found), np.asarray(wanted)
    if found.shape != wanted.shape:
        raise WarmStartError(
            f"verify: '{name}' has shape {found.shape}, and the donor's output has {wanted.shape}."
        )
    if not np.allclose(found, wanted, rtol=tolerance, atol=tolerance):
        difference = float(np.max(np.abs(found.astype(np.float64) - wanted.astype(np.float64))))
        raise WarmStartError(
            f"verify: '{name}' differs from the donor's output by up to {difference:.3g}, more than"
            f" {tolerance:g}. The weights are not where they belong, or the two models compute different"
            " things."
        )
