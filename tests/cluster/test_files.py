from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from orchestrator.cluster.files import read_json, write_json_atomically, write_text_atomically


def test_text_is_replaced_as_a_whole_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "note.txt"
    write_text_atomically(path, "first")
    write_text_atomically(path, "second: ü")
    assert path.read_text(encoding="utf-8") == "second: ü"
    assert os.listdir(tmp_path) == ["note.txt"]


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    values = [{"n": n, "filling": "x" * 20_000} for n in range(50)]
    write_json_atomically(path, values[0])
    torn: list[object] = []
    done = threading.Event()

    def keep_reading() -> None:
        while not done.is_set():
            value = read_json(path)
            if value not in values:
                torn.append(value)

    reader = threading.Thread(target=keep_reading)
    reader.start()
    for value in values:
        write_json_atomically(path, value)
    done.set()
    reader.join(timeout=60)
    assert not reader.is_alive()
    assert torn == []


def test_a_failed_write_keeps_the_old_file_and_leaves_no_other(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    write_json_atomically(path, {"n": 1})
    with pytest.raises(TypeError):
        write_json_atomically(path, {"n": object()})
    with pytest.raises(UnicodeEncodeError):
        write_text_atomically(path, "\ud800")
    assert read_json(path) == {"n": 1}
    assert os.listdir(tmp_path) == ["value.json"]


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"nul"])
def test_what_is_not_json_reads_as_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "value.json"
    path.write_bytes(content)
    assert read_json(path) is None


def test_what_is_not_there_reads_as_none(tmp_path: Path) -> None:
    assert read_json(tmp_path / "value.json") is None
    assert read_json(tmp_path) is None
