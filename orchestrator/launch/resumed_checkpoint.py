"""The checkpoint that a model directory holds before anything is started."""

from __future__ import annotations

import re
from pathlib import Path

_NEWEST = re.compile(r'^model_checkpoint_path:\s*"[^"]*-(\d+)"', re.MULTILINE)
_MAX_BYTES = 2**20


def resumed_step(working_dir: Path, model_dir: str) -> int | None:
    """Step of the newest checkpoint, as TensorFlow's state file `checkpoint` names it.

    None where there is none, or where it cannot be read from here: at a URL,
    or on hosts that share no files with this machine.
    """
    if "://" in model_dir:
        return None
    try:
        with (working_dir / model_dir / "checkpoint").open(errors="replace") as stream:
            found = _NEWEST.search(stream.read(_MAX_BYTES))
    except OSError:
        return None
    return int(found[1]) if found is not None else None
