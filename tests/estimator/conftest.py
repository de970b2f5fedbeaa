"""What several tests of the engine need."""

from __future__ import annotations

import pytest

from orchestrator.estimator import logger


@pytest.fixture
def warnings_said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Warnings of this test; those of earlier ones count as not said."""
    said: list[str] = []
    monkeypatch.setattr(logger, "_said", set())
    monkeypatch.setattr(logger.log, "warning", lambda text, *values: said.append(text))
    return said
