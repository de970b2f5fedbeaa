from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import InvalidArgument, InvalidType
from orchestrator.exporters.best import BestExporter
from orchestrator.exporters.exporter import Exporter
from orchestrator.exporters.final import FinalExporter
from orchestrator.exporters.latest import LatestExporter
from orchestrator.exporters.old_exports import existing_exports, remove_old_exports
from tests.exporters.recording_estimator import RecordingEstimator

pytestmark = pytest.mark.xdist_group("estimator_api")


def receiver() -> None:
    """Stands for a serving_input_receiver_fn."""


@pytest.fixture
def estimator(tmp_path: Path) -> RecordingEstimator:
    return RecordingEstimator(tmp_path)


def export(exporter: Exporter, estimator: Any, metrics: Any = None, final: bool = False) -> Any:
    path = str(Path(estimator.model_dir) / "export" / exporter.name)
    return exporter.export(estimator, path, "ckpt-1", metrics or {}, final)


def exports_of(exporter: Exporter, estimator: Any) -> list[str]:
    return existing_exports(str(Path(estimator.model_dir) / "export" / exporter.name))


def test_an_exporter_passes_its_arguments_on(estimator: RecordingEstimator) -> None:
    exporter = LatestExporter("latest", receiver, {"a": "/b"}, as_text=True)
    directory = export(exporter, estimator)
    assert Path(directory).is_dir()
    assert estimator.exported == [
        {
            "base": str(Path(directory).parent),
            "receiver_fn": receiver,
            "assets_extra": {"a": "/b"},
            "as_text": True,
            "checkpoint_path": "ckpt-1",
        }
    ]


def test_the_latest_exporter_keeps_the_newest(estimator: RecordingEstimator) -> None:
    exporter = LatestExporter("latest", receiver, exports_to_keep=2)
    for _ in range(4):
        export(exporter, estimator)
    assert exports_of(exporter, estimator) == ["1700000003", "1700000004"]


def test_the_final_exporter_waits_for_the_end(estimator: RecordingEstimator) -> None:
    exporter = FinalExporter("final", receiver)
    assert export(exporter, estimator) is None
    assert export(exporter, estimator, final=True) is not None
    assert len(estimator.exported) == 1


def test_nothing_but_exports_is_removed(tmp_path: Path) -> None:
    for name in ("1700000001", "1700000002", "1700000003", "temp-1700000000", "12", "notes"):
        (tmp_path / name).mkdir()
    remove_old_exports(str(tmp_path), keep=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "12",
        "1700000003",
        "notes",
        "temp-1700000000",
    ]
    remove_old_exports(str(tmp_path / "absent"), keep=1)
    remove_old_exports(str(tmp_path), keep=None)
    assert existing_exports(str(tmp_path)) == ["1700000003"]


@pytest.mark.parametrize("kind", [LatestExporter, FinalExporter, BestExporter])
def test_a_receiver_function_is_required(kind: Any) -> None:
    with pytest.raises(InvalidType, match=f"{kind.__name__}: serving_input_receiver_fn must be a function"):
        kind("name", None)


@pytest.mark.parametrize("kind", [LatestExporter, FinalExporter, BestExporter])
def test_a_receiver_function_that_needs_arguments_is_refused_at_once(kind: Any) -> None:
    def needs_a_size(size: int, depth: int = 3) -> Any: ...

    with pytest.raises(InvalidArgument, match=rf"{kind.__name__}: .*needs_a_size is called without.*'size'"):
        kind("name", needs_a_size)
    assert kind("name", functools.partial(needs_a_size, 8)).name == "name"


@pytest.mark.parametrize("kind", [LatestExporter, BestExporter])
def test_keeping_no_export_is_refused(kind: Any) -> None:
    with pytest.raises(InvalidArgument, match="`exports_to_keep`, if provided, must be a positive number"):
        kind("name", receiver, exports_to_keep=0)


def test_an_exporter_must_say_its_name_and_export() -> None:
    class Incomplete(Exporter):
        pass

    with pytest.raises(TypeError, match="abstract"):
        Incomplete()
