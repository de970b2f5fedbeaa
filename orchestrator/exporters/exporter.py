"""Exporter: writes the model out after evaluations of train_and_evaluate."""

from __future__ import annotations

import abc
from typing import Any


class Exporter(abc.ABC):
    """Decides after each evaluation whether, and how, the model is exported."""

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """Directory under `MODEL_DIR/export`; unique among the exporters of an EvalSpec."""

    @abc.abstractmethod
    def export(
        self,
        estimator: Any,
        export_path: str,
        checkpoint_path: str,
        eval_result: dict[str, Any],
        is_the_final_export: bool,
    ) -> str | bytes | None:
        """Exports `checkpoint_path` below the directory `export_path`.

        `eval_result` holds the metrics of that checkpoint; `is_the_final_export`
        is true once, when training has ended. Returns the directory of the
        export, or None where nothing was exported.
        """
