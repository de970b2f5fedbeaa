"""Fork or exec: decided for each task from what is known before it starts."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import ConfigError, near_miss
from orchestrator.launch.device_shares import VISIBLE_GPUS, visible_gpus
from orchestrator.launch.job import Job, StartMethod
from orchestrator.launch.python_command import PythonCommand, parse_python_command

READ_WHILE_IMPORTING = (
    "PYTHON", "LD_", "GLIBC_", "MALLOC_", "LC_", "LANG",
    "OMP_", "OPENBLAS_", "MKL_", "GOTO_", "KMP_", "GOMP_", "BLIS_", "NUMEXPR_", "NPY_",
    "TF_CPP_", "TF_ENABLE_ONEDNN_OPTS", "TF_XLA_FLAGS", "XLA_FLAGS", "TF2_BEHAVIOR",
    "TF_USE_LEGACY_KERAS", "KERAS_", "CUDA_VISIBLE_DEVICES", "NVIDIA_", "GRPC_",
)  # fmt: skip
"""Prefixes of variables that an interpreter, a library or TensorFlow reads while it is loaded."""
_HONOURED_AFTER_FORK = {"PYTHONUNBUFFERED"}
_SET_BY_PROGRAMS = re.compile(
    r"TF_USE_LEGACY_KERAS|KERAS_BACKEND|TF_ENABLE_ONEDNN_OPTS|TF_XLA_FLAGS|\bXLA_FLAGS|TF2_BEHAVIOR"
    r"|(?:OMP|MKL|OPENBLAS|NUMEXPR)_NUM_THREADS"
)
"""In a program's text: it may set what TensorFlow reads while it is imported, and a fork comes too late."""
_OPTIONS = {"fork": StartMethod.FORK, "spawn": StartMethod.EXEC, "exec": StartMethod.EXEC}


@dataclass(frozen=True)
class ParentFacts:
    """What the decision needs to know of the process that would fork."""

    interpreter: str
    """Its `sys.executable`."""
    environ: Mapping[str, str]
    gpu: bool
    """A GPU is visible to it."""
    working_dir: Path


def wanted_method(job: Job) -> StartMethod | None:
    """What the job asks for; None where the choice is ours. ConfigError for an unknown option."""
    if job.start_method is not None:
        return job.start_method
    option = job.launcher_options.get("start_method")
    if option is None:
        return None
    if option not in _OPTIONS:
        known = ("fork", "spawn")
        raise ConfigError(
            f"start_method is {option!r}.{near_miss(str(option), known)} It must be fork or spawn."
        )
    return _OPTIONS[option]


def choose(
    wanted: StartMethod | None, command: tuple[str, ...], environ: Mapping[str, str], parent: ParentFacts
) -> tuple[StartMethod, str]:
    """How a task with this command and this whole environment starts, and why, in one clause."""
    if wanted is StartMethod.EXEC:
        return StartMethod.EXEC, "asked for by start_method"
    if wanted is None and parent.gpu:
        return StartMethod.EXEC, "a GPU is visible, and forking has not been proven with one"
    obstacle = _obstacle(command, environ, parent)
    if obstacle is not None:
        return StartMethod.EXEC, obstacle
    reason = "asked for by start_method" if wanted is StartMethod.FORK else "no GPU is visible"
    return StartMethod.FORK, f"{reason}; TensorFlow is imported once for all tasks"


def _obstacle(command: tuple[str, ...], environ: Mapping[str, str], parent: ParentFacts) -> str | None:
    """Why a fork of the parent would not be what the command says."""
    program = parse_python_command(command)
    if program is None:
        return "the command is not a plain Python program"
    if not same_interpreter(program.interpreter, parent.interpreter, environ.get("PATH")):
        return f"{program.interpreter} is not the launcher's own interpreter"
    differing = differing_variables(environ, parent.environ)
    if differing:
        return f"{', '.join(differing)} must be set before TensorFlow is imported"
    mentioned = variables_in_program(program, parent.working_dir)
    if mentioned:
        return f"{program.program} mentions {mentioned}, which is read while TensorFlow is imported"
    return None


def differing_variables(environ: Mapping[str, str], of_parent: Mapping[str, str]) -> list[str]:
    """Names of the variables read at import or load time whose values differ."""
    names = {name for name in (*environ, *of_parent) if name.startswith(READ_WHILE_IMPORTING)}
    return sorted(n for n in names - _HONOURED_AFTER_FORK if environ.get(n) != of_parent.get(n))


def variables_in_program(program: PythonCommand, working_dir: Path) -> str | None:
    """The first variable read at import time that the program's main file mentions."""
    if program.script is not None:
        candidates = [working_dir / program.script]
    else:
        place = working_dir.joinpath(*(program.module or "").split("."))
        candidates = [place.with_suffix(".py"), place / "__main__.py"]
    for path in candidates:
        try:
            found = _SET_BY_PROGRAMS.search(path.read_text(encoding="utf-8", errors="replace"))
        except (OSError, ValueError):
            continue
        return found[0] if found else None
    return None


def same_interpreter(name: str, own: str = sys.executable, path: str | None = None) -> bool:
    """Whether the command `name` runs the interpreter `own`, in the same virtual environment."""
    resolved = shutil.which(name, path=path)
    if resolved is None:
        return False
    if os.path.abspath(resolved) == os.path.abspath(own):
        return True
    return os.path.realpath(resolved) == os.path.realpath(own) and _environment_of(
        resolved
    ) == _environment_of(own)


def _environment_of(interpreter: str) -> str | None:
    """The virtual environment that an interpreter's path stands for."""
    folder = os.path.dirname(os.path.abspath(interpreter))
    for place in (folder, os.path.dirname(folder)):
        if os.path.exists(os.path.join(place, "pyvenv.cfg")):
            return os.path.realpath(place)
    return None


def gpu_visible(environ: Mapping[str, str], devices: Path = Path("/dev")) -> bool:
    """Whether TensorFlow would find a GPU, judged by device files and CUDA_VISIBLE_DEVICES."""
    chosen, present = environ.get(VISIBLE_GPUS), len(list(devices.glob("nvidia[0-9]*")))
    if present:
        return bool(visible_gpus(chosen, present))
    hidden = chosen is not None and (not chosen.strip() or chosen.strip().startswith("-1"))
    return not hidden and (devices / "kfd").exists()
