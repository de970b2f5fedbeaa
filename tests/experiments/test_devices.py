from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import os
from orchestrator.experiments import devices
os.write(2, b"BEGIN\\n")
devices.configure(3)
import tensorflow as tf
print(len(tf.config.list_logical_devices("CPU")))
os.write(2, b"still heard\\n")
"""


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="splits the CPU only where there is no GPU")
def test_the_cpu_is_split_without_a_complaint_about_a_missing_gpu() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=200, check=True
    )
    assert done.stdout == "3\n"
    assert done.stderr.partition("BEGIN\n")[2] == "still heard\n"
