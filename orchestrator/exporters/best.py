"""BestExporter: exports whenever an evaluation is better than all before it."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from typing import Any

from orchestrator.errors import InvalidArgument
from orchestrator.exporters.evaluation_events import evaluations
from orchestrator.exporters.old_exports import existing_exports, remove_old_exports
from orchestrator.exporters.saved_model import SavedModelExporter, check_exports_to_keep

_COMPARED = ("best_eval_result", "current_eval_result")
Metrics = Mapping[str, Any]


def loss_smaller(best_eval_result: Metrics, current_eval_result: Metrics) -> bool:
    """Whether the current loss is below the best one; raises InvalidArgument where one has no loss."""
    for name, metrics in zip(_COMPARED, (best_eval_result, current_eval_result), strict=True):
        if not metrics or "loss" not in metrics:
            raise InvalidArgument(
                f"BestExporter: {name} cannot be empty or no loss is found in it: {metrics}."
                " Give a compare_fn that looks at another metric."
            )
    return bool(current_eval_result["loss"] < best_eval_result["loss"])


class BestExporter(SavedModelExporter):
    """Exports a checkpoint whose evaluation beats every earlier one.

    Args:
      name, serving_input_receiver_fn, assets_extra, as_text: as
        SavedModelExporter's.
      event_file_pattern: event files of the evaluation, relative to the model
        directory, from which a restarted process learns the best result so far;
        None forgets it.
      compare_fn: `f(best_eval_result, current_eval_result)`, whether the current
        one is better; the default compares the loss.
      exports_to_keep: newest exports kept; None keeps all.

    Raises InvalidArgument (a ValueError) or InvalidType (a TypeError).
    """

    def __init__(  # noqa: PLR0917 - the order of the public API
        self,
        name: str = "best_exporter",
        serving_input_receiver_fn: Callable[[], Any] | None = None,
        event_file_pattern: str | None = "eval/*.tfevents.*",
        compare_fn: Callable[..., bool] = loss_smaller,
        assets_extra: Mapping[str, str] | None = None,
        as_text: bool = False,
        exports_to_keep: int | None = 5,
    ) -> None:
        super().__init__(name, serving_input_receiver_fn, assets_extra, as_text)
        _check_compare_fn(compare_fn)
        check_exports_to_keep("BestExporter", exports_to_keep)
        self._event_file_pattern = event_file_pattern
        self._compare_fn = compare_fn
        self._exports_to_keep = exports_to_keep
        self._best: Metrics | None = None
        self._model_dir: str | None = None

    def export(
        self,
        estimator: Any,
        export_path: str,
        checkpoint_path: str,
        eval_result: dict[str, Any],
        is_the_final_export: bool,
    ) -> str | bytes | None:
        restarted = self._model_dir != estimator.model_dir
        if restarted:
            self._model_dir = estimator.model_dir
            self._best = self._best_of_events(eval_result)
        if self._best is None or self._is_better(eval_result):
            self._best = eval_result
        elif not (restarted and not existing_exports(export_path)):
            return None
        directory = super().export(estimator, export_path, checkpoint_path, eval_result, is_the_final_export)
        remove_old_exports(export_path, self._exports_to_keep)
        return directory

    def _is_better(self, metrics: Metrics) -> bool:
        return self._compare_fn(best_eval_result=self._best, current_eval_result=metrics)

    def _best_of_events(self, current: Metrics) -> Metrics | None:
        """The best earlier evaluation on disk; the current one is there too, and is left out by its step."""
        if not self._event_file_pattern or not self._model_dir:
            return None
        present = None if not current else current.get("global_step")
        best = None
        for step, metrics in evaluations(os.path.join(self._model_dir, self._event_file_pattern)):
            if step == present:
                continue
            if best is None or self._compare_fn(best_eval_result=best, current_eval_result=metrics):
                best = metrics
        return best


def _check_compare_fn(compare_fn: Any) -> None:
    if compare_fn is None:
        raise InvalidArgument("BestExporter: `compare_fn` must not be None.")
    names = list(inspect.signature(compare_fn).parameters)
    for name in _COMPARED:
        if name not in names:
            raise InvalidArgument(f"BestExporter: compare_fn ({compare_fn}) must include {name} argument.")
    unknown = [name for name in names if name not in _COMPARED]
    if unknown:
        raise InvalidArgument(
            f"BestExporter: compare_fn ({compare_fn}) has following not expected args: {unknown}."
        )
