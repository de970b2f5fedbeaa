"""LatestExporter: exports after every evaluation and removes old exports."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from orchestrator.exporters.old_exports import remove_old_exports
from orchestrator.exporters.saved_model import SavedModelExporter, check_exports_to_keep


class LatestExporter(SavedModelExporter):
    """Exports after every evaluation; keeps the newest `exports_to_keep` (None: all).

    The other arguments are SavedModelExporter's. Raises InvalidArgument (a
    ValueError) or InvalidType (a TypeError).
    """

    def __init__(
        self,
        name: str,
        serving_input_receiver_fn: Callable[[], Any],
        assets_extra: Mapping[str, str] | None = None,
        as_text: bool = False,
        exports_to_keep: int | None = 5,
    ) -> None:
        super().__init__(name, serving_input_receiver_fn, assets_extra, as_text)
        check_exports_to_keep("LatestExporter", exports_to_keep)
        self._exports_to_keep = exports_to_keep

    def export(
        self,
        estimator: Any,
        export_path: str,
        checkpoint_path: str,
        eval_result: dict[str, Any],
        is_the_final_export: bool,
    ) -> str | bytes | None:
        directory = super().export(estimator, export_path, checkpoint_path, eval_result, is_the_final_export)
        remove_old_exports(export_path, self._exports_to_keep)
        return directory
