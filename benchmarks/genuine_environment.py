"""The second virtual environment: TensorFlow 2.15.1, the last with the genuine Estimator."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

REQUIREMENTS = ("tensorflow==2.15.1", "numpy<2")
OLDEST, NEWEST = (3, 9), (3, 11)
PRINT_VERSION = "import sys; print(*sys.version_info[:2])"


def interpreter() -> str:
    """A Python that TensorFlow 2.15.1 has wheels for; exits with one line where there is none."""
    candidates = [shutil.which(f"python3.{minor}") for minor in range(NEWEST[1], OLDEST[1] - 1, -1)]
    for candidate in [sys.executable, *filter(None, candidates)]:
        asked = subprocess.run([candidate, "-c", PRINT_VERSION], capture_output=True, text=True)
        if asked.returncode == 0 and OLDEST <= tuple(map(int, asked.stdout.split())) <= NEWEST:
            return candidate
    sys.exit(
        "TensorFlow 2.15.1 needs Python 3.9 to 3.11, and none is on PATH; install one, or set GENUINE_PYTHON."
    )


def genuine_python() -> str:
    """Python of an environment with TensorFlow 2.15.1; made once, kept under .cache.

    GENUINE_PYTHON in the environment names one that is already there.
    """
    if given := os.environ.get("GENUINE_PYTHON"):
        return given
    place = Path(__file__).parent.parent / ".cache" / "tensorflow-2.15.1"
    python = place / "bin" / "python"
    if not (place / "complete").exists():
        shutil.rmtree(place, ignore_errors=True)
        print(f"installing {' '.join(REQUIREMENTS)} into {place} (once)", flush=True)
        subprocess.run([interpreter(), "-m", "venv", str(place)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *REQUIREMENTS], check=True)
        (place / "complete").touch()
    return str(python)
