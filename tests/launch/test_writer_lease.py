from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.errors import EnvironmentProblem
from orchestrator.launch.process_identity import ProcessIdentity
from orchestrator.launch.writer_lease import FILE_NAME, RENEW_SECONDS, STALE_SECONDS, Holder, WriterLease

HOLD = """
import sys, time
from pathlib import Path
from orchestrator.launch.writer_lease import WriterLease
print(WriterLease(Path(sys.argv[1]), Path("runs/first")).take(), flush=True)
time.sleep(600)
"""


def lease(place: Path, now: float = 1000.0, host: str = "here") -> WriterLease:
    return WriterLease(place, place / "run", clock=lambda: now, host=host)


def left_behind(place: Path, host: str, renewed: float) -> None:
    """The file of a holder that did not let go."""
    dead = replace(ProcessIdentity.current(), start_ticks=1)
    text = json.dumps(Holder(dead, host, 900.0, renewed, str(place / "old-run")).as_json())
    (place / FILE_NAME).write_text(text)


def test_one_after_the_other(tmp_path: Path) -> None:
    for _ in range(2):
        held = lease(tmp_path)
        assert held.take() is None
        assert json.loads((tmp_path / FILE_NAME).read_text())["host"] == "here"
        held.release()
        held.release()
        assert list(tmp_path.iterdir()) == []


def test_a_second_run_is_refused_by_the_name_of_the_first(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == "None\n"
            with pytest.raises(
                EnvironmentProblem, match=rf"in use by process {other.pid} on .*runs/first"
            ) as error:
                lease(tmp_path).take()
            assert "--model-dir" in str(error.value)
            assert error.value.exit_code == 3
        finally:
            other.kill()
            other.wait()
        note = WriterLease(tmp_path, tmp_path / "run").take()
        assert note is not None
        assert f"process {other.pid}" in note
        assert "is gone" in note


def test_a_run_on_another_machine_is_believed_while_it_renews(tmp_path: Path) -> None:
    left_behind(tmp_path, "there", renewed=1000.0)
    with pytest.raises(EnvironmentProblem, match="on there"):
        lease(tmp_path, now=1000.0 + STALE_SECONDS - 1).take()
    note = lease(tmp_path, now=1000.0 + STALE_SECONDS + 1).take()
    assert note is not None
    assert "on there" in note
    assert "61 s ago" in note


def test_a_dead_holder_of_this_machine_is_named_however_fresh_its_lease(tmp_path: Path) -> None:
    left_behind(tmp_path, "here", renewed=999.0)
    note = lease(tmp_path).take()
    assert note is not None
    assert "old-run" in note


def test_a_torn_file_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text('{"pid": 12, "sta')
    assert lease(tmp_path).take() is None
    assert json.loads((tmp_path / FILE_NAME).read_text())["started"] == 1000.0


def test_it_is_renewed_now_and_then(tmp_path: Path) -> None:
    now = [1000.0]
    held = WriterLease(tmp_path, tmp_path / "run", clock=lambda: now[0])
    held.take()
    for tick in range(40):
        now[0] = 1000.0 + tick
        assert held.renew(tick) is None
    renewed = json.loads((tmp_path / FILE_NAME).read_text())["renewed"]
    assert renewed == 1000.0 + 2 * RENEW_SECONDS
    held.release()
    assert held.renew(1e9) is None


def test_a_directory_that_is_deleted_under_the_run_is_said_once(tmp_path: Path) -> None:
    place = tmp_path / "model"
    place.mkdir()
    held = lease(place)
    held.take()
    (place / FILE_NAME).unlink()
    place.rmdir()
    note = held.renew(100.0)
    assert note is not None
    assert "was removed or replaced" in note
    assert held.renew(200.0) is None
    held.release()
    assert not place.exists()


def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="cannot write"):
        lease(tmp_path / "missing").take()
