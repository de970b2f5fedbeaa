"""Whether each session has threads of its own for the work within operations.

Otherwise the first session or eager operation of a process decides how many
there are for all of its sessions. TensorFlow looks at the variable once, at
that time, so it is set when the engine is imported.
"""

from __future__ import annotations

import os

VARIABLE = "TF_OVERRIDE_GLOBAL_THREADPOOL"


def ask_for() -> None:
    """Takes effect unless TensorFlow has looked already; a value that the user has set stays."""
    os.environ.setdefault(VARIABLE, "1")


def were_asked_for() -> bool:
    """Whether a number in a session's configuration concerns that session alone."""
    return os.environ.get(VARIABLE, "").lower() in ("1", "true")
