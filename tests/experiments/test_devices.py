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


@pytest.mark.parametrize("growth", [True, False])
def test_gpus_are_shared_between_tasks_unless_the_run_config_says_no(
    monkeypatch: pytest.MonkeyPatch, growth: bool
) -> None:
    import tensorflow as tf

    from orchestrator.experiments import devices

    set_to: dict[str, bool] = {}
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [f"{kind}:0", f"{kind}:1"])
    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", set_to.__setitem__)
    monkeypatch.setattr(
        tf.config, "set_logical_device_configuration", lambda *_: pytest.fail("GPUs come before split CPUs")
    )
    devices.configure(2, growth)
    assert set_to == {"GPU:0": growth, "GPU:1": growth}
