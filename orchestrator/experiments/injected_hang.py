"""A hang on request: what `run --inject hang:TASK` does to a task."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable, Mapping

from orchestrator.cluster.records import ENV_FAULTS, HANG_SIGNAL

LOG = logging.getLogger("orchestrator")


def listen(environ: Mapping[str, str] | None = None, sleep: Callable[[float], None] = time.sleep) -> bool:
    """Has the main thread stop for ever at HANG_SIGNAL, where the run injects faults; whether it does."""
    if not (os.environ if environ is None else environ).get(ENV_FAULTS):
        return False

    def hang(*_: object) -> None:
        LOG.warning("this task hangs from here on, as --inject asked for")
        while True:
            sleep(3600.0)

    signal.signal(HANG_SIGNAL, hang)
    return True
