"""Tests for orchestrator.launch.node.record_mirror."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator.cluster.files import write_bytes_atomically
from orchestrator.cluster.task import TaskId, TaskType
from orchestrator.launch.node import record_mirror
from orchestrator.launch.node.record_mirror import RecordChange, RecordMirror

TASK, OTHER = TaskId(TaskType.WORKER, 0), TaskId(TaskType.WORKER, 1)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "tasks" / str(TASK)
    path.mkdir(parents=True)
    return path


def test_a_record_is_told_when_it_is_new_and_when_it_changes(tmp_path: Path, directory: Path) -> None:
    mirror = RecordMirror(tmp_path)
    assert list(mirror.changes(TASK)) == []
    write_bytes_atomically(directory / "progress.json", b"1")
    assert list(mirror.changes(TASK)) == [RecordChange(TASK, "progress.json", b"1")]
    assert list(mirror.changes(TASK)) == []
    write_bytes_atomically(directory / "progress.json", b"2")
    assert list(mirror.changes(TASK)) == [RecordChange(TASK, "progress.json", b"2")]


def test_a_replaced_record_of_the_same_size_and_time_is_told(tmp_path: Path, directory: Path) -> None:
    mirror = RecordMirror(tmp_path)
    for text in (b"1", b"2"):
        write_bytes_atomically(directory / "new", text)
        os.utime(directory / "new", ns=(5, 5))
        if text == b"2":
            os.rename(directory / "progress.json", tmp_path / "kept")  # so that its inode is not given again
        os.rename(directory / "new", directory / "progress.json")
        assert list(mirror.changes(TASK)) == [RecordChange(TASK, "progress.json", text)]


def test_a_file_that_grows_is_told_whole(tmp_path: Path, directory: Path) -> None:
    mirror = RecordMirror(tmp_path)
    for text in ("", "a\n", "a\nb\n"):
        (directory / "stacks-7.txt").write_text(text)
        assert list(mirror.changes(TASK)) == [RecordChange(TASK, "stacks-7.txt", text.encode())]


def test_a_removed_record_is_told_once(tmp_path: Path, directory: Path) -> None:
    mirror = RecordMirror(tmp_path)
    (directory / "progress.json").write_bytes(b"1")
    list(mirror.changes(TASK))
    (directory / "progress.json").unlink()
    assert list(mirror.changes(TASK)) == [RecordChange(TASK, "progress.json", None)]
    assert list(mirror.changes(TASK)) == []


def test_temporary_files_links_and_other_tasks_are_left_out(tmp_path: Path, directory: Path) -> None:
    (tmp_path / "tasks" / str(OTHER)).mkdir()
    (tmp_path / "tasks" / str(OTHER) / "progress.json").write_bytes(b"1")
    (directory / ".progress.json.x.tmp").write_bytes(b"1")
    (directory / "link.json").symlink_to("/etc/passwd")
    (directory / "folder").mkdir()
    assert list(RecordMirror(tmp_path).changes(TASK)) == []
    assert list(RecordMirror(tmp_path / "nowhere").changes(TASK)) == []


def test_of_a_huge_file_the_end_is_told(
    tmp_path: Path, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_mirror, "MAX_RECORD_BYTES", 4)
    (directory / "stacks-7.txt").write_bytes(b"0123456789")
    assert [change.data for change in RecordMirror(tmp_path).changes(TASK)] == [b"6789"]
