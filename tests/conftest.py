"""Every test starts with a clean environment; golden files are rewritten with --update-golden."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Property tests fail neither because the machine is busy nor because of what is drawn this time.
settings.register_profile(
    "steady", deadline=None, max_examples=60, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("steady")
CLEARED = ("TF_CONFIG", "CUDA_VISIBLE_DEVICES", "TFDS_DATA_DIR")
CLEARED_PREFIXES = ("SLURM_", "ORCHESTRATOR_")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="rewrite golden files with what was produced"
    )


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the cluster, launcher or GPU selection of the shell it was started from."""
    for name in list(os.environ):
        if name in CLEARED or name.startswith(CLEARED_PREFIXES):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def same_loggers() -> Iterator[None]:
    """No test hears less, or more, because of what another did to TensorFlow's loggers."""
    loggers = [logging.getLogger(name) for name in ("orchestrator", "tensorflow", "absl")]
    before = [(logger.level, logger.propagate, logger.disabled, list(logger.handlers)) for logger in loggers]
    yield
    for logger, (level, propagate, disabled, handlers) in zip(loggers, before, strict=True):
        logger.setLevel(level)
        logger.propagate, logger.disabled = propagate, disabled
        logger.handlers[:] = handlers


@pytest.fixture
def check_golden(request: pytest.FixtureRequest) -> Callable[[Path, str], None]:
    """Compares a text with a golden file, or rewrites the file under --update-golden."""

    def check(path: Path, text: str) -> None:
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        assert path.exists(), f"{path} is missing; run pytest with --update-golden and look at it"
        assert text == path.read_text()

    return check
