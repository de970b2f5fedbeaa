"""What this machine has, asked without importing TensorFlow."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from orchestrator.cluster.quantity import format_size
from orchestrator.launch import device_shares, private_network
from orchestrator.launch.job import Job, TaskRequest
from orchestrator.launch.summary import shown_path

OLDEST_TENSORFLOW = (2, 16)
TENSORFLOW_DISTRIBUTIONS = ("tensorflow", "tensorflow-cpu", "tf-nightly", "tf-nightly-cpu", "tensorflow-rocm")
ENOUGH_SPACE = 256 * 1024**2
"""Bytes below which checkpoints of a small model already fill the disk."""
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


@dataclass(frozen=True)
class Finding:
    """The answer to one question; where it is no, the text says what to do."""

    name: str
    ok: bool
    text: str


def python() -> Finding:
    """The interpreter that every task of an experiment runs."""
    return Finding("python", True, f"{platform.python_version()}, {sys.executable}")


def tensorflow(command: tuple[str, ...], *, is_experiment: bool) -> Finding:
    """Whether the tasks' interpreter has a TensorFlow that is new enough."""
    if not is_experiment and not runs_this_python(command):
        return Finding("tensorflow", True, f"not looked for: {command[0]} brings its own")
    version = _tensorflow_version()
    if version is None or importlib.util.find_spec("tensorflow") is None:
        return Finding("tensorflow", False, "not installed. Run pip install 'tensorflow>=2.16'.")
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if numbers < OLDEST_TENSORFLOW:
        return Finding("tensorflow", False, f"{version} is too old. Run pip install 'tensorflow>=2.16'.")
    return Finding("tensorflow", True, version)


def runs_this_python(command: tuple[str, ...]) -> bool:
    """Whether the command's program is the interpreter that runs the launcher."""
    found = shutil.which(command[0])
    return found is not None and (
        os.path.realpath(found) == os.path.realpath(sys.executable)
        and Path(found).parent.resolve() == Path(sys.executable).parent.resolve()
    )


def _tensorflow_version() -> str | None:
    for name in TENSORFLOW_DISTRIBUTIONS:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def writable(name: str, place: str, option: str) -> Finding:
    """Whether a directory can be made and written, and has space left."""
    if _URL.match(place):
        return Finding(name, True, f"{place}: not looked at, it is a URL")
    path = Path(place)
    existing = next(parent for parent in (path, *path.parents) if parent.exists())
    made = "" if existing == path else ", to be made"
    if not existing.is_dir():
        return Finding(name, False, f"{place}: {existing} is a file. Name another {option}.")
    try:
        with tempfile.NamedTemporaryFile(dir=existing, prefix=".orchestrator-check-"):
            pass
    except OSError as error:
        fix = f"Make it writable, or name another {option}."
        return Finding(name, False, f"{place}: cannot write in {existing}: {error.strerror}. {fix}")
    free = shutil.disk_usage(existing).free
    if free < ENOUGH_SPACE:
        fix = f"Free some space, or name another {option}."
        return Finding(name, False, f"{place}: {format_size(free)} are free on its disk. {fix}")
    return Finding(name, True, f"{shown_path(place)}{made}, {format_size(free)} free")


def data_directory(place: str | None, *, prepared: bool) -> Finding:
    """Whether data sets can be read, and written where the experiment prepares them."""
    chosen = place or os.environ.get("TFDS_DATA_DIR") or str(Path.home() / "tensorflow_datasets")
    if prepared or _URL.match(chosen):
        return writable("data dir", chosen, "--data-dir")
    if not Path(chosen).is_dir():
        return Finding("data dir", False, f"{chosen}: no such directory. Name another --data-dir.")
    if not os.access(chosen, os.R_OK | os.X_OK):
        return Finding("data dir", False, f"{chosen}: cannot be read. Make it readable.")
    return Finding("data dir", True, chosen)


def memory(job: Job) -> Finding:
    """Whether the declared memory of all tasks is available now."""
    available = psutil.virtual_memory().available
    declared = _declared(job, lambda request: request.memory_bytes)
    if declared > available:
        return Finding(
            "memory",
            False,
            f"{format_size(declared)} declared by all tasks, {format_size(available)} available."
            " Lower resources.memory or replicas.",
        )
    wanted = f"{format_size(declared)} declared, " if declared else ""
    return Finding("memory", True, f"{wanted}{format_size(available)} available")


def cpus(job: Job) -> Finding:
    """Whether there are as many processor cores as declared."""
    usable = len(os.sched_getaffinity(0))
    declared = _declared(job, lambda request: request.cpus)
    if declared > usable:
        text = f"{declared:g} declared by all tasks, {usable} usable. Lower resources.cpus or replicas."
        return Finding("cpus", False, text)
    return Finding(
        "cpus", True, f"{declared:g} declared, {usable} usable" if declared else f"{usable} usable"
    )


def gpus(job: Job) -> Finding:
    """Whether there are as many GPUs as declared."""
    visible = visible_gpus()
    declared = int(_declared(job, lambda request: request.gpus))
    if declared > visible:
        return Finding(
            "gpus",
            False,
            f"{declared} declared by all tasks, {visible} visible. Lower resources.gpus or replicas.",
        )
    return Finding(
        "gpus", True, f"{declared} declared, {visible} visible" if declared else f"{visible} visible"
    )


def isolation() -> Finding:
    """Whether the kernel lets tasks have a network of their own."""
    refused = private_network.why_refused()
    if refused is not None:
        return Finding("isolation", False, f"no private network: {refused}. Or remove 'security: isolated'.")
    return Finding("isolation", True, "tasks have a private network that nothing outside can reach")


def visible_gpus(driver: Path = Path("/proc/driver/nvidia/gpus"), devices: Path = Path("/dev")) -> int:
    """NVIDIA GPUs that a task would see: the driver's, as far as CUDA_VISIBLE_DEVICES lets through."""
    present = len(list(driver.iterdir())) if driver.is_dir() else 0
    present = present or sum(path.name[6:].isdigit() for path in devices.glob("nvidia*"))
    return len(device_shares.visible_gpus(os.environ.get(device_shares.VISIBLE_GPUS), present))


def _declared(job: Job, amount: Callable[[TaskRequest], float | None]) -> float:
    return sum((amount(request) or 0) * request.replicas for request in job.tasks.values())
