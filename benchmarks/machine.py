"""What a measurement was made on, and whether an earlier one was of the same sources."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

PRINT_VERSIONS = (
    "import platform, importlib.metadata as m;"
    "print(platform.python_version(), m.version('tensorflow'), m.version('numpy'))"
)


def description(genuine: str) -> str:
    """One sentence: processor, cores, memory, versions of both environments, how busy it was before."""
    python, tensorflow, numpy = subprocess.run(
        [genuine, "-c", PRINT_VERSIONS], capture_output=True, text=True, check=True
    ).stdout.split()
    load = os.getloadavg()[2]
    return (
        f"{_processor()}, {len(os.sched_getaffinity(0))} cores, {_memory_gigabytes()} GB of memory;"
        f" {platform.system()} {platform.release()}. Ours: Python {platform.python_version()}, TensorFlow"
        f" {_version('tensorflow')}, NumPy {_version('numpy')}. tf.estimator: Python {python}, TensorFlow"
        f" {tensorflow}, NumPy {numpy}. Mean load of the last 15 minutes, the measurement's own included:"
        f" {load:.1f}."
    )


def _version(package: str) -> str:
    for name in (package, f"{package}-cpu"):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return "unknown"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return " ".join(line.partition(":")[2].split())
    return platform.machine()


def _memory_gigabytes() -> int:
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)


def source_state(root: Path, genuine: str) -> str:
    """Changes with the engine, the benchmarks and the interpreters: rows of two states are not mixed."""
    digest = hashlib.sha256(f"{sys.executable} {genuine} {os.cpu_count()}".encode())
    for folder in ("benchmarks", "orchestrator/estimator"):
        for path in sorted((root / folder).glob("*.py")):
            if path.name != "performance_page.py":
                digest.update(path.read_bytes())
    return digest.hexdigest()
