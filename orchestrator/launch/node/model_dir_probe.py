"""Whether hosts share a model directory: each leaves a file there and looks for those of the others.

A directory that does not exist yet is not made: the file lies in the deepest one
of its path that does, and hosts that disagree about that one do not share it.
URLs are asked through the TensorFlow of the tasks.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PREFIX = ".orchestrator-probe-"
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_TENSORFLOW_SECONDS = 150.0
"""Importing it takes long where many do so at a time."""
_PATIENCE = 5.0
"""Seconds for a file to become visible on file systems that cache."""
_GFILE = """\
import json, sys
stage, place, name, others = json.load(sys.stdin)
import tensorflow as tf
files = tf.io.gfile
result = None
try:
    if stage == "leave":
        files.makedirs(place)
        with files.GFile(name, "w") as stream:
            stream.write("probe")
    elif stage == "look":
        result = [other for other in others if files.exists(other)]
    else:
        files.remove(name)
    print("answer " + json.dumps([result, None]))
except Exception as error:
    print("answer " + json.dumps([None, f"{type(error).__name__}: {error}"]))
"""


class ModelDirProbe:
    """One host's file in the model directory."""

    def __init__(self, model_dir: str, token: str, executable: str) -> None:
        """`executable` is the tasks' interpreter, for URLs."""
        self._model_dir = model_dir
        self._token = token
        self._executable = executable
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
        question = json.dumps([stage, self._place, self._file(self._token), list(others)])
        try:
            done = subprocess.run(
                [self._executable, "-c", _GFILE],
                input=question,
                capture_output=True,
                text=True,
                timeout=_TENSORFLOW_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return None, f"no answer in {_TENSORFLOW_SECONDS:g} s"
        except OSError as error:
            return None, error.strerror or str(error)
        for line in reversed(done.stdout.splitlines()):
            if line.startswith("answer "):
                result, problem = json.loads(line[len("answer ") :])
                return result, problem
        last = done.stderr.strip().splitlines()
        return None, last[-1] if last else f"TensorFlow ended with exit code {done.returncode}"
