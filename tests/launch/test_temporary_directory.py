"""The temporary directories of tasks: chosen purely, made by a parent, gone with whoever is killed."""

from __future__ import annotations

import os
import signal
from multiprocessing import shared_memory
from pathlib import Path

import pytest

from orchestrator.cluster.task import TaskType
from orchestrator.launch.temporary_directory import TaskDirectories, choose_path, remove_abandoned
from tests.launch.local_runs import (
    CHIEF,
    WORKER,
    Watch,
    alive,
    environment,
    launcher,
    local_job,
    python,
    run_to_end,
    wait_until,
    write_program,
)

LITTER = """
    import os, sys, tempfile, time
    from multiprocessing import resource_tracker, shared_memory
    tempfile.NamedTemporaryFile(delete=False)
    tempfile.mkdtemp()
    block = shared_memory.SharedMemory(create=True, size=8)
    # Whoever is to remove the block ignores SIGTERM once it is at work.
    status = f"/proc/{resource_tracker._resource_tracker._pid}/status"
    def ignored():
        return int(next(line.split()[1] for line in open(status) if line.startswith("SigIgn")), 16)
    while not ignored() & 1 << 14:
        time.sleep(0.01)
    place = os.environ["TMPDIR"]
    print("litter", place, block.name, os.stat(place).st_mode & 0o777, flush=True)
    time.sleep(1000)
"""


def test_the_path_is_named_after_the_run(tmp_path: Path) -> None:
    found = choose_path(Path("/runs/digits-20261122T053938Z"), {"TMPDIR": "/"})
    assert found.parent == Path("/")
    assert found.name.startswith("orchestrator-run-digits-20261122T053938Z-")
    assert not found.exists()
    assert choose_path(Path("/runs/digits"), {"TMPDIR": "/"}) != choose_path(
        Path("/runs/digits"), {"TMPDIR": "/"}
    )


@pytest.mark.parametrize("run", ["x" * 200, "ä" * 100, "with.dots..." * 10])
def test_the_path_leaves_room_for_the_addresses_of_sockets(run: str) -> None:
    assert len(os.fsencode(choose_path(Path("/runs") / run, {"TMPDIR": "/tmp"}))) <= 64


def test_under_a_long_path_the_name_is_short(tmp_path: Path) -> None:
    parent = tmp_path / ("x" * 100)
    parent.mkdir()
    found = choose_path(Path("/runs/digits"), {"TMPDIR": str(parent)})
    assert found.parent == parent
    assert len(found.name) <= 12


@pytest.mark.parametrize("where", ["", "relative", "/does/not/exist"])
def test_a_place_that_is_none_is_not_taken(where: str) -> None:
    assert choose_path(Path("/runs/digits"), {"TMPDIR": where}).parent.is_dir()


def test_each_start_has_an_empty_directory_of_its_own(tmp_path: Path) -> None:
    directories = TaskDirectories(tmp_path / "root")
    first = directories.make("worker-0")
    (first / "left").touch()
    assert directories.make("worker-0") == first
    assert list(first.iterdir()) == []
    other = directories.make("worker-1")
    assert {oct(path.stat().st_mode & 0o777) for path in (first, other, first.parent)} == {"0o700"}
    directories.remove("worker-0")
    assert not first.exists()
    assert other.exists()
    directories.close()
    assert not first.parent.exists()


def test_what_nobody_holds_any_more_is_removed_and_nothing_else(tmp_path: Path) -> None:
    held = TaskDirectories(tmp_path / "orchestrator-run-held-0123abcd")
    used = held.make("chief-0")
    paths = [tmp_path / f"orchestrator-run-{name}-0123abcd" for name in ("left", "young")]
    others = [tmp_path / "orchestrator-scratch-12345678", tmp_path / "orchestrator-run-mine"]
    for path in (*paths, *others):
        (path / "deep").mkdir(parents=True)
    link = tmp_path / "orchestrator-run-link-12345678"
    link.symlink_to(others[0])
    for path in (used.parent, paths[0], *others):
        os.utime(path, (1000.0, 1000.0))
    os.utime(paths[1], (2000.0, 2000.0))
    remove_abandoned(tmp_path, 2030.0)
    assert not paths[0].exists()
    assert all(path.exists() for path in (used, paths[1], *others, link))
    held.close()
    assert not used.exists()


def test_a_directory_that_cannot_be_made_is_an_error_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        TaskDirectories(tmp_path / "not" / "there").make("worker-0")


def litter_of(watch: Watch) -> tuple[Path, str]:
    """The temporary directory of the chief and the name of its shared memory, once both hold something."""
    watch.until_output(CHIEF, "litter")
    _, directory, block, mode = watch.output(CHIEF).split()
    assert int(mode) == 0o700
    assert len(list(Path(directory).iterdir())) == 2
    return Path(directory), block


def has_block(name: str) -> bool:
    return Path("/dev/shm", name).exists()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_killed_task_leaves_no_temporary_file(tmp_path: Path, method: str) -> None:
    machine = tmp_path / "machine"
    machine.mkdir()
    write_program(tmp_path, LITTER)
    job = local_job(tmp_path, python("program.py"), options={"start_method": method})
    with launcher(job, environ=environment(TMPDIR=str(machine))) as made:
        watch = Watch(made)
        made.submit(made.plan(job, 0))
        directory, block = litter_of(watch)
        assert directory.parent.parent == machine
        os.kill(watch.starts(CHIEF)[0].pid, signal.SIGKILL)
        watch.until_exited([CHIEF])
        assert not has_block(block)
        wait_until(lambda: not directory.exists(), "removal of the task's directory")
    assert list(machine.iterdir()) == []


def test_a_killed_parent_leaves_no_temporary_file(tmp_path: Path) -> None:
    machine = tmp_path / "machine"
    machine.mkdir()
    write_program(tmp_path, LITTER)
    job = local_job(tmp_path, python("program.py"))
    with launcher(job, environ=environment(TMPDIR=str(machine))) as made:
        watch = Watch(made)
        made.submit(made.plan(job, 0))
        _, block = litter_of(watch)
        parent = made.parent_pid
        assert parent is not None
        os.kill(parent, signal.SIGKILL)
        watch.until_exited([CHIEF])
        assert not alive(parent)
        assert not has_block(block)
        assert list(machine.iterdir()) == []


def test_the_users_own_choice_stands(tmp_path: Path) -> None:
    chosen = tmp_path / "chosen"
    chosen.mkdir()
    text = "import os, tempfile; print(os.environ.get('TMPDIR'), tempfile.mkdtemp())"
    write_program(tmp_path, text)
    env = {TaskType.CHIEF: {"TMPDIR": str(chosen)}}
    job = local_job(tmp_path, python("program.py"), env, chief=1, worker=1)
    _, watch = run_to_end(job)
    assert watch.output(CHIEF).split()[0] == str(chosen)
    assert len(list(chosen.iterdir())) == 1
    assert watch.output(WORKER).split()[0].endswith("/worker-0")


def test_where_none_can_be_made_the_task_runs_without_and_that_is_said(tmp_path: Path) -> None:
    machine = tmp_path / "machine"
    machine.mkdir()
    job = local_job(tmp_path, ("sh", "-c", "echo at ${TMPDIR}"))
    with launcher(job, environ=environment(TMPDIR=str(machine))) as made:
        watch = Watch(made)
        made.warm(job)
        machine.rmdir()
        made.submit(made.plan(job, 0))
        watch.until_exited([CHIEF])
    assert watch.output(CHIEF) == f"at {machine}\n"
    assert any("no temporary directory for a task alone" in note for note in watch.notes())


def test_shared_memory_of_this_test_can_be_seen() -> None:
    block = shared_memory.SharedMemory(create=True, size=8)
    try:
        assert has_block(block.name)
    finally:
        block.close()
        block.unlink()
