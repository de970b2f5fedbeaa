"""What a task's log looks like: one line a message, and none about TensorFlow's own start."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import MutableMapping

QUIET = {"TF_CPP_MIN_LOG_LEVEL": "2", "KERAS_BACKEND": "tensorflow"}
"""Set before TensorFlow is imported, where the user has not chosen otherwise."""

OURS = ("orchestrator", "tensorflow.estimator")
"""Loggers whose information is for the user; the second is the engine's, where Estimator's always was."""


def quiet_start(environ: MutableMapping[str, str] | None = None) -> None:
    """Sets the variables of `QUIET`; call it before TensorFlow is imported."""
    environ = os.environ if environ is None else environ
    for name, value in QUIET.items():
        environ.setdefault(name, value)


class _OneLine(logging.Formatter):
    """`12:30:59 text`, with the level where it is more than information."""

    def format(self, record: logging.LogRecord) -> str:
        level = f"{record.levelname.lower()}: " if record.levelno > logging.INFO else ""
        line = f"{self.formatTime(record, '%H:%M:%S')} {level}{record.getMessage().rstrip()}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


def configure() -> None:
    """Sends our messages, TensorFlow's warnings and Python's warnings to stderr in one form."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for name in OURS:
        logging.getLogger(name).setLevel(logging.INFO)
    for name in ("tensorflow", "absl"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(logging.WARNING)
    logging.captureWarnings(True)
    warnings.formatwarning = _warning_on_one_line


def _warning_on_one_line(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    del line
    return f"{category.__name__}: {message} ({filename}:{lineno})"
