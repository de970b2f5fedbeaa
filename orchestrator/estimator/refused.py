"""The names of tf.estimator that are left out on purpose, and the line that says so."""

from __future__ import annotations

import sys

from orchestrator.errors import EstimatorError, Unsupported

_CANNED = "canned models are not part of it; write a model_fn, or take tensorflow_decision_forests or Keras"
_HEAD = "heads are not part of it; build loss, metrics and EstimatorSpec in the model_fn"
_TPU = "TPUs are not supported; take Estimator and RunConfig"

_REASONS = {
    "BaselineClassifier": _CANNED,
    "BaselineEstimator": _CANNED,
    "BaselineRegressor": _CANNED,
    "BoostedTreesClassifier": _CANNED,
    "BoostedTreesEstimator": _CANNED,
    "BoostedTreesRegressor": _CANNED,
    "DNNClassifier": _CANNED,
    "DNNEstimator": _CANNED,
    "DNNLinearCombinedClassifier": _CANNED,
    "DNNLinearCombinedEstimator": _CANNED,
    "DNNLinearCombinedRegressor": _CANNED,
    "DNNRegressor": _CANNED,
    "KMeans": _CANNED,
    "LinearClassifier": _CANNED,
    "LinearEstimator": _CANNED,
    "LinearRegressor": _CANNED,
    "LinearSDCA": _CANNED,
    "RNNClassifier": _CANNED,
    "RNNEstimator": _CANNED,
    "dnn_logit_fn_builder": _CANNED,
    "linear_logit_fn_builder": _CANNED,
    "BinaryClassHead": _HEAD,
    "Head": _HEAD,
    "LogisticRegressionHead": _HEAD,
    "MultiClassHead": _HEAD,
    "MultiHead": _HEAD,
    "MultiLabelHead": _HEAD,
    "PoissonRegressionHead": _HEAD,
    "RegressionHead": _HEAD,
}
_OF_TPU = dict.fromkeys(
    ("InputPipelineConfig", "RunConfig", "TPUConfig", "TPUEstimator", "TPUEstimatorSpec", "experimental"),
    _TPU,
)

NAMES = tuple(_REASONS)
TPU_NAMES = tuple(_OF_TPU)


class UnsupportedImport(EstimatorError, ImportError):
    """`from ... import NAME` of a name that is left out on purpose."""


def refusal(module: str, name: str) -> Exception | None:
    """The error for `module.name`, or None where the name is not one that is left out.

    Unsupported (an AttributeError), so that `hasattr` is False; but within a
    `from ... import` statement an ImportError, because Python would replace the
    text of an AttributeError with one of its own. Call it from `__getattr__`.
    """
    reasons = _OF_TPU if module.endswith(".tpu") else _REASONS
    if name not in reasons:
        return None
    text = f"{module}.{name} is not available: {reasons[name]}."
    importing = sys._getframe(2).f_code.co_name == "_handle_fromlist"
    return UnsupportedImport(text) if importing else Unsupported(text)
