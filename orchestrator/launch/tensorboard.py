"""TensorBoard as a side-car: where it is, how it is called, and where its page is."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import EnvironmentProblem, PortError

NAME = "tensorboard"
FIRST_PORT = 6006
"""TensorBoard's own default."""
PORTS_TRIED = 100
INSTALL = "not installed. Run pip install tensorboard, or remove 'tensorboard' from the cluster file."
_EVERYBODY = ("0.0.0.0",)
_QUIET = {"TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "-1"}


@dataclass(frozen=True)
class Tensorboard:
    """How it is started, once its port is chosen."""

    command: tuple[str, ...]
    host: str
    port: int

    @property
    def url(self) -> str:
        """Where a browser on this machine, or on another where that is allowed, finds it."""
        host = socket.gethostname() if self.host in _EVERYBODY else self.host
        return f"http://{host}:{self.port}/"

    @property
    def audience(self) -> str:
        """Who can open the page."""
        if self.host == "localhost" or self.host.startswith("127."):
            return "this machine alone"
        return "anybody who reaches this machine"


def choose(host: str, port: int | None, model_dir: str, working_dir: Path) -> Tensorboard:
    """The TensorBoard of a model directory; EnvironmentProblem where it is not installed, PortError."""
    program = find_program()
    if program is None:
        raise EnvironmentProblem(f"tensorboard is {INSTALL}")
    chosen = _free_port(host, port)
    place = model_dir if "://" in model_dir else os.path.join(working_dir, model_dir)
    options = ("--logdir", place, "--host", host, "--port", str(chosen))
    return Tensorboard((*program, *options), host, chosen)


def find_program() -> tuple[str, ...] | None:
    """What starts it: the module of this interpreter, else the command on PATH; None where there is none."""
    spec = importlib.util.find_spec(NAME)
    if spec is not None and spec.origin is not None:
        return (sys.executable, "-m", f"{NAME}.main")
    found = shutil.which(NAME)
    return None if found is None else (found,)


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Its environment: no GPU, few messages."""
    return {**environ, **_QUIET}


def _free_port(host: str, declared: int | None) -> int:
    tried = range(FIRST_PORT, min(FIRST_PORT + PORTS_TRIED, 65536)) if declared is None else (declared,)
    why = ""
    for port in tried:
        try:
            with socket.create_server((host, port)):
                return port
        except OSError as error:
            why = error.strerror or str(error)
    which = f"port {declared}" if declared is not None else f"any port from {FIRST_PORT} on"
    fix = "Give another tensorboard.port or tensorboard.host, or leave both out."
    raise PortError(f"tensorboard cannot listen on {host}, {which}: {why}. {fix}")
