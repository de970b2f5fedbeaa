"""The Estimator API: every public name of `tf.compat.v1.estimator`, without canned models, heads and TPU.

Names are imported on first use; importing this package imports no TensorFlow.
"""

from __future__ import annotations

from orchestrator.estimator import own_threads
from orchestrator.estimator.lazy_names import lazy

own_threads.ask_for()

_HERE = "orchestrator.estimator"
_TRAIN = "tensorflow:compat.v1.train"
_HOOKS = (
    "CheckpointSaverHook",
    "CheckpointSaverListener",
    "FeedFnHook",
    "FinalOpsHook",
    "GlobalStepWaiterHook",
    "LoggingTensorHook",
    "NanLossDuringTrainingError",
    "NanTensorHook",
    "SecondOrStepTimer",
    "SessionRunArgs",
    "SessionRunContext",
    "SessionRunHook",
    "SessionRunValues",
    "StepCounterHook",
    "StopAtStepHook",
    "SummarySaverHook",
)

PLACES = {
    "BestExporter": "orchestrator.exporters.best:BestExporter",
    "DistributeConfig": f"{_HERE}.distribute_config:DistributeConfig",
    "Estimator": f"{_HERE}.estimator:Estimator",
    "EstimatorSpec": f"{_HERE}.specs:EstimatorSpec",
    "EvalSpec": f"{_HERE}.specs:EvalSpec",
    "Exporter": "orchestrator.exporters.exporter:Exporter",
    "FinalExporter": "orchestrator.exporters.final:FinalExporter",
    "LatestExporter": "orchestrator.exporters.latest:LatestExporter",
    "ModeKeys": f"{_HERE}.modes:ModeKeys",
    "ProfilerHook": "orchestrator.hooks.profiler:ProfilerHook",
    "RunConfig": f"{_HERE}.run_config:RunConfig",
    "TrainSpec": f"{_HERE}.specs:TrainSpec",
    "VocabInfo": f"{_TRAIN}.VocabInfo",
    "WarmStartSettings": f"{_HERE}.warm_start_settings:WarmStartSettings",
    "add_metrics": f"{_HERE}.added_metrics:add_metrics",
    "classifier_parse_example_spec": f"{_HERE}.parsing_specs:classifier_parse_example_spec",
    "experimental": f"{_HERE}.experimental",
    "export": f"{_HERE}.export",
    "inputs": f"{_HERE}.inputs",
    "install": f"{_HERE}.installation:install",
    "model_to_estimator": f"{_HERE}.keras:model_to_estimator",
    "regressor_parse_example_spec": f"{_HERE}.parsing_specs:regressor_parse_example_spec",
    "tpu": f"{_HERE}.tpu",
    "train_and_evaluate": f"{_HERE}.training_and_evaluation:train_and_evaluate",
    **{name: f"{_TRAIN}.{name}" for name in _HOOKS},
}

__all__ = list(PLACES)
__getattr__, __dir__ = lazy(__name__, PLACES)
