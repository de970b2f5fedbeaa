"""SavedModelExporter: the export that the public exporters time differently."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from orchestrator.errors import InvalidArgument
from orchestrator.exporters.exporter import Exporter
from orchestrator.exporters.receiver import check_receiver_fn


class SavedModelExporter(Exporter):
    """Exports a SavedModel each time it is asked to.

    Args:
      name: directory under `MODEL_DIR/export`.
      serving_input_receiver_fn: without arguments, returns a ServingInputReceiver.
      assets_extra: files to copy, by their path under `assets.extra`.
      as_text: whether the SavedModel is written as text.

    Raises InvalidType (a TypeError) where the receiver function is none, InvalidArgument where it
    needs arguments.
    """

    def __init__(
        self,
        name: str,
        serving_input_receiver_fn: Callable[[], Any],
        assets_extra: Mapping[str, str] | None = None,
        as_text: bool = False,
    ) -> None:
        check_receiver_fn(serving_input_receiver_fn, type(self).__name__)
        self._name = name
        self._serving_input_receiver_fn = serving_input_receiver_fn
        self._assets_extra = assets_extra
        self._as_text = as_text

    @property
    def name(self) -> str:
        return self._name

    def export(
        self,
        estimator: Any,
        export_path: str,
        checkpoint_path: str,
        eval_result: dict[str, Any],
        is_the_final_export: bool,
    ) -> str | bytes | None:
        del eval_result, is_the_final_export
        return estimator.export_saved_model(
            export_path,
            self._serving_input_receiver_fn,
            assets_extra=self._assets_extra,
            as_text=self._as_text,
            checkpoint_path=checkpoint_path,
        )


def check_exports_to_keep(owner: str, exports_to_keep: int | None) -> None:
    """Raises InvalidArgument unless it is None (keep all) or a positive number."""
    if exports_to_keep is not None and exports_to_keep <= 0:
        raise InvalidArgument(
            f"{owner}: `exports_to_keep`, if provided, must be a positive number, given: {exports_to_keep}."
        )
