"""What a task's log looks like: one line a message, and none about TensorFlow's own start."""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
import warnings
from collections.abc import MutableMapping
from pathlib import Path

QUIET = {"TF_CPP_MIN_LOG_LEVEL": "2", "KERAS_BACKEND": "tensorflow"}
"""Set before TensorFlow is imported, where the user has not chosen otherwise."""


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


def _package_directory(name: str) -> Path:
    """Where a package lies; it is not imported."""
    spec = importlib.util.find_spec(name)
    return Path(spec.origin).parent if spec is not None and spec.origin else Path("/nowhere", name)


_TENSORFLOW = _package_directory("tensorflow")
_OURS = Path(__file__).parents[1]


class _WithoutInnerAffairs(logging.Filter):
    """Drops what TensorFlow says of its own steps, and its advice on calls that are not the user's."""

    def __init__(self) -> None:
        super().__init__()
        self._restored = False

    def filter(self, record: logging.LogRecord) -> bool:
        file = Path(record.pathname)
        if not file.is_relative_to(_TENSORFLOW):
            return True
        if file.name == "deprecation.py":
            place = str(record.args[0]) if isinstance(record.args, tuple) and record.args else ""
            return not place.startswith((f"{_TENSORFLOW}/", f"{_OURS}/"))
        if record.levelno > logging.INFO:
            return True
        if file.name == "saver.py":
            self._restored, first = True, not self._restored
            return first
        return file.name in _TOLD_TO_USERS and not record.getMessage().startswith(_BEFORE_AND_AFTER)


_ABOUT_THE_STRATEGYS_INPUT = "To make it possible to preserve tf.data options"
_TOLD_TO_USERS = ("basic_session_run_hooks.py",)
"""Hooks that users give. Of the saver only the first word: which checkpoint the task goes on from."""
_BEFORE_AND_AFTER = ("Create ", "Calling checkpoint listeners")


def configure() -> None:
    """Sends our messages, TensorFlow's warnings and Python's warnings to stderr in one form."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine())
    handler.addFilter(_WithoutInnerAffairs())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("orchestrator").setLevel(logging.INFO)
    # The engine, and hooks that users give, speak through TensorFlow's logger as Estimator's always did.
    for name, level in (("tensorflow", logging.INFO), ("absl", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(level)
    logging.captureWarnings(True)
    warnings.filterwarnings("ignore", message=_ABOUT_THE_STRATEGYS_INPUT)
    warnings.formatwarning = _warning_on_one_line


def _warning_on_one_line(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    del line
    return f"{category.__name__}: {message} ({filename}:{lineno})"
