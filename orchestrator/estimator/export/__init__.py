"""What an exported model takes (receivers) and gives (outputs)."""

from __future__ import annotations

from orchestrator.estimator.lazy_names import lazy

_OUTPUTS = "orchestrator.estimator.export.outputs"
_RECEIVERS = "orchestrator.estimator.export.receivers"
_BUILDERS = "orchestrator.estimator.export.receiver_builders"

_PLACES = {
    "ClassificationOutput": f"{_OUTPUTS}:ClassificationOutput",
    "EvalOutput": f"{_OUTPUTS}:EvalOutput",
    "ExportOutput": f"{_OUTPUTS}:ExportOutput",
    "PredictOutput": f"{_OUTPUTS}:PredictOutput",
    "RegressionOutput": f"{_OUTPUTS}:RegressionOutput",
    "ServingInputReceiver": f"{_RECEIVERS}:ServingInputReceiver",
    "SupervisedInputReceiver": f"{_RECEIVERS}:SupervisedInputReceiver",
    "TensorServingInputReceiver": f"{_RECEIVERS}:TensorServingInputReceiver",
    "TrainOutput": f"{_OUTPUTS}:TrainOutput",
    "UnsupervisedInputReceiver": f"{_RECEIVERS}:UnsupervisedInputReceiver",
    "build_parsing_serving_input_receiver_fn": f"{_BUILDERS}:build_parsing_serving_input_receiver_fn",
    "build_raw_serving_input_receiver_fn": f"{_BUILDERS}:build_raw_serving_input_receiver_fn",
    "build_raw_supervised_input_receiver_fn": f"{_BUILDERS}:build_raw_supervised_input_receiver_fn",
    "build_supervised_input_receiver_fn_from_input_fn": (
        f"{_BUILDERS}:build_supervised_input_receiver_fn_from_input_fn"
    ),
}

__all__ = list(_PLACES)
__getattr__, __dir__ = lazy(__name__, _PLACES)
