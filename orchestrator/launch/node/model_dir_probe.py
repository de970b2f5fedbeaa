"""Whether hosts share a model directory: each leaves a file there and looks for those of the others.

A directory that does not exist yet is not made: the file lies in the deepest one
of its path that does, and hosts that disagree about that one do not share it.
URLs are asked through the TensorFlow of the tasks.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.launch.node.asked_python import ask_python

PREFIX = ".orchestrator-probe-"
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_TENSORFLOW_SECONDS = 150.0
"""Importing it takes long where many do so at a time."""
_PATIENCE = 5.0
"""Seconds for a file to become visible on file systems that cache."""
_THROUGH_TENSORFLOW = """\
import importlib
def answer(question):
    stage, place, name, others = question
    files = importlib.import_module("tensorflow").io.gfile
    if stage == "leave":
        files.makedirs(place)
        with files.GFile(name, "w") as stream:
            stream.write("probe")
    elif stage == "look":
        return [other for other in others if files.exists(other)]
    else:
        files.remove(name)
"""
"""Run by the tasks' interpreter: this layer itself names TensorFlow and never imports it."""


class ModelDirProbe:
    """One host's file in the model directory."""

    def __init__(self, model_dir: str, token: str, executable: str, environ: Mapping[str, str]) -> None:
        """`executable` and `environ` are those of tasks, for URLs."""
        self._model_dir = model_dir
        self._token = token
        self._executable = executable
        self._environ = environ
        self._place = model_dir.rstrip("/") if _URL.match(model_dir) else None
        self._left = False

    def leave(self) -> dict[str, Any]:
        """Leaves the file: {place, error, free_bytes}; place is the directory that holds it."""
        if self._place is not None:
            _, error = self._through_tensorflow("leave")
            self._left = error is None
            return {"place": self._place, "error": error, "free_bytes": None}
        path = Path(self._model_dir)
        existing = next((parent for parent in (path, *path.parents) if parent.exists()), Path("/"))
        self._place = str(existing)
        found: dict[str, Any] = {"place": self._place, "error": None, "free_bytes": None}
        try:
            with open(self._file(self._token), "x", encoding="ascii") as stream:
                stream.write(self._token)
            self._left = True
            found["free_bytes"] = shutil.disk_usage(existing).free
        except OSError as error:
            found["error"] = error.strerror or str(error)
        return found

    def look(self, tokens: Sequence[str]) -> dict[str, str | None]:
        """For each of the others' tokens None where their file is seen, else why not."""
        if _URL.match(self._model_dir):
            seen, error = self._through_tensorflow("look", [self._file(token) for token in tokens])
            return {
                token: None if self._file(token) in (seen or []) else error or "not seen" for token in tokens
            }
        end = time.monotonic() + _PATIENCE
        found: dict[str, str | None] = dict.fromkeys(tokens, "not seen")
        while True:
            for token, state in found.items():
                if state is not None:
                    found[token] = self._read(token)
            if not any(found.values()) or time.monotonic() > end:
                return found
            time.sleep(0.2)

    def take_away(self) -> None:
        """Removes the file that was left."""
        if not self._left:
            return
        self._left = False
        if _URL.match(self._model_dir):
            self._through_tensorflow("take away")
        else:
            Path(self._file(self._token)).unlink(missing_ok=True)

    def _file(self, token: str) -> str:
        return f"{self._place}/{PREFIX}{token}"

    def _read(self, token: str) -> str | None:
        try:
            return None if Path(self._file(token)).read_text(encoding="ascii") == token else "not seen"
        except FileNotFoundError:
            return "not seen"
        except (OSError, UnicodeDecodeError) as error:
            return str(error)

    def _through_tensorflow(self, stage: str, others: Sequence[str] = ()) -> tuple[Any, str | None]:
        question = [stage, self._place, self._file(self._token), list(others)]
        return ask_python(self._executable, self._environ, _THROUGH_TENSORFLOW, question, _TENSORFLOW_SECONDS)
