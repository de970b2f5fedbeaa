"""FinalExporter: exports once, when training has ended."""

from __future__ import annotations

from typing import Any

from orchestrator.exporters.saved_model import SavedModelExporter


class FinalExporter(SavedModelExporter):
    """Exports the last checkpoint and no other; arguments as SavedModelExporter's."""

    def export(
        self,
        estimator: Any,
        export_path: str,
        checkpoint_path: str,
        eval_result: dict[str, Any],
        is_the_final_export: bool,
    ) -> str | bytes | None:
        if not is_the_final_export:
            return None
        return super().export(estimator, export_path, checkpoint_path, eval_result, is_the_final_export)
