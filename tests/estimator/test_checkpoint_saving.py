"""Where tasks that save in lockstep put what nobody keeps."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from orchestrator.cluster.records import TaskEnvironment
from orchestrator.cluster.task import TaskId
from orchestrator.estimator.checkpoint_saving import scratch_directory

PROGRAM = """
import pathlib, sys
from orchestrator.estimator.checkpoint_saving import scratch_directory

made = pathlib.Path(scratch_directory(None))
(made / "model.ckpt-1.index").write_text("left behind")
print(made, made.is_dir(), flush=True)
if sys.argv[1] == "raises":
    raise RuntimeError("in the middle of training")
"""


def test_without_a_launcher_the_process_removes_its_own_however_it_ends(tmp_path: Path) -> None:
    for end, code in (("ends", 0), ("raises", 1)):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, end],
            env={"PATH": "/usr/bin:/bin", "TMPDIR": str(tmp_path), "TF_CPP_MIN_LOG_LEVEL": "2"},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == code, done.stderr
        place, existed = done.stdout.split()
        assert Path(place).parent == tmp_path
        assert existed == "True"
        assert list(tmp_path.iterdir()) == []


def test_under_the_launcher_it_lies_in_the_run_directory_and_starts_empty(tmp_path: Path) -> None:
    environment = TaskEnvironment(tmp_path, TaskId.parse("worker-1"), 0)
    first = Path(scratch_directory(environment))
    assert tmp_path in first.parents
    (first / "model.ckpt-1.index").touch()
    assert Path(scratch_directory(environment)) == first
    assert list(first.iterdir()) == []
