from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.data.handwritten_digits import HandwrittenDigits
from orchestrator.data.tfds_input import TfdsInput


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> TfdsInput:
    """The handwritten digits, prepared once for all tests."""
    prepared = TfdsInput(HandwrittenDigits, str(tmp_path_factory.mktemp("data")))
    prepared.prepare()
    return prepared


@pytest.fixture
def unprepared(tmp_path: Path) -> TfdsInput:
    return TfdsInput(HandwrittenDigits, str(tmp_path))
