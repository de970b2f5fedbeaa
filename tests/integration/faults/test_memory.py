"""A task that outgrows its memory, in a control group made for the run: what is told, and who killed it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.integration.launched import COMMAND_LINE, Launched, wait_until
from tests.launch.local_runs import write_program

pytestmark = [pytest.mark.timeout(900), pytest.mark.faults]
GROUPS = Path("/sys/fs/cgroup")
LIMIT = 400 << 20
CLUSTER = """\
name: grows
tasks: {chief: {resources: {memory: 200MiB}}}
local: {start_method: spawn}
run_policy: {max_restarts: 0}
"""
GROWS = """
    import os, sys, time
    held = [b"x" * (10 << 20) for _ in range(19)]
    while not os.path.exists(sys.argv[1]):
        time.sleep(0.05)
    while len(held) < 200:  # more than the group may have
        held.append(b"x" * (10 << 20))
"""


@pytest.fixture
def control_group() -> Iterator[Path]:
    """A control group, of either version, in which processes together have LIMIT bytes."""
    version_1 = (GROUPS / "memory" / "memory.limit_in_bytes").exists()
    place = (GROUPS / "memory" if version_1 else GROUPS) / f"orchestrator-test-{os.getpid()}"
    try:
        place.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error.strerror}")
    try:
        try:
            (place / ("memory.limit_in_bytes" if version_1 else "memory.max")).write_text(str(LIMIT))
            swap = place / ("memory.memsw.limit_in_bytes" if version_1 else "memory.swap.max")
            if swap.exists():
                swap.write_text(str(LIMIT) if version_1 else "0")
        except OSError as error:
            pytest.skip(f"no limit of memory can be set here: {error.strerror}")
        yield place
    finally:

        def removed() -> bool:
            with suppress(OSError):
                place.rmdir()
            return not place.exists()

        wait_until(removed, lambda: f"the end of all processes in {place}")


def test_growth_is_told_and_the_kernels_killer_is_named(
    tmp_path: Path, control_group: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enter = f'echo $$ > "{control_group}/cgroup.procs" && exec "$@"'
    monkeypatch.setattr("tests.integration.launched.COMMAND_LINE", ("sh", "-c", enter, "sh", *COMMAND_LINE))
    (tmp_path / "cluster.yaml").write_text(CLUSTER)
    program, go = write_program(tmp_path, GROWS), tmp_path / "go"
    words = ("cluster.yaml", "--model-dir", str(tmp_path / "model"))
    with Launched(tmp_path, *words, "--", sys.executable, str(program), str(go)) as run:
        told = "memory: chief-0 uses"
        ended = run.process.poll
        wait_until(lambda: told in run.output or ended() is not None, lambda: f"the warning:\n{run.output}")
        go.touch()
        assert run.wait() == 1, run.output
    assert told in run.output
    assert "of 200 MiB, its resources.memory" in run.output
    assert "The kernel's out-of-memory killer" in run.output
    failure = json.loads(run.run_dir.verdict.read_text())["first_failure"]
    assert (failure["task"], failure["kind"], failure["exit_code"]) == ("chief-0", "out_of_memory", 137)
