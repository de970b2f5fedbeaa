from __future__ import annotations

import os
import stat
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.launch.job import LogLimits
from orchestrator.launch.log_stream import part_of, start_mark
from orchestrator.launch.task_output import MAX_LINE_BYTES, LineSplitter, LogFile, OutputPipe


def split(*pieces: bytes) -> list[str]:
    splitter = LineSplitter()
    return [text for text in [*(splitter.feed(piece) for piece in pieces), splitter.finish()] if text]


def test_lines_come_whole() -> None:
    assert split(b"on", b"e\ntw", b"o\nthree\nfo", b"ur") == ["one\n", "two\nthree\n", "four\n"]


def test_a_character_that_is_cut_in_two_is_put_together() -> None:
    first, second = "é".encode()[:1], "é".encode()[1:]
    assert split(b"a" + first, second + b"\n") == ["aé\n"]


def test_what_cannot_be_decoded_is_replaced() -> None:
    assert split(b"a\xff\xfeb\n", b"\xc3") == ["a\ufffd\ufffdb\n", "\ufffd\n"]


def test_a_line_without_end_is_passed_on_in_pieces() -> None:
    pieces = split(*[b"x" * 1000] * 200)
    assert "".join(pieces).replace("\n", "") == "x" * 200_000
    assert all(len(piece) <= MAX_LINE_BYTES + 1001 for piece in pieces)


@given(st.lists(st.binary(max_size=50)))
def test_nothing_is_lost_however_it_is_cut(pieces: list[bytes]) -> None:
    whole = b"".join(pieces).decode("utf-8", "replace")
    assert "".join(split(*pieces)) == whole + ("\n" if whole and not whole.endswith("\n") else "")


def test_a_log_is_appended_to_and_private(tmp_path: Path) -> None:
    path = tmp_path / "worker-0.log"
    for _ in range(2):
        log = LogFile(path)
        log.append(b"a\nb")
        log.close()
    assert path.read_bytes() == b"a\nb\na\nb\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_full_disk_is_noted_and_not_raised(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.symlink_to("/dev/full")
    log = LogFile(path)
    log.append(b"12345")
    log.append(b"678")
    log.close()
    assert (log.lost_bytes, log.error) == (8, "No space left on device")


def test_a_gap_is_marked_when_the_disk_takes_more(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "missing" / "log")
    log.append(b"lost\n")
    (tmp_path / "missing").mkdir()
    log.append(b"kept\n")
    log.append(b"more\n")
    log.close()
    assert log.path.read_text() == "[5 bytes are missing here: No such file or directory]\nkept\nmore\n"
    assert (log.lost_bytes, log.error) == (5, "No such file or directory")


def test_a_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    pipe = OutputPipe(LogFile(tmp_path / "log"))
    assert pipe.read() == ""
    os.write(pipe.write_fd, b"one\ntwo")
    assert pipe.read() == "one\n"
    pipe.release_write_end()
    assert pipe.open
    assert pipe.read() == "two\n"
    assert not pipe.open
    assert (tmp_path / "log").read_bytes() == b"one\ntwo\n"
    assert pipe.finish() == ""


def test_a_chatterer_does_not_hold_the_launcher_up(tmp_path: Path) -> None:
    pipe = OutputPipe(LogFile(tmp_path / "log"))
    os.set_blocking(pipe.write_fd, False)
    os.write(pipe.write_fd, b"line\n" * 40_000)
    assert 0 < len(pipe.read(limit=10_000)) < 200_000
    pipe.finish()


def test_a_full_log_is_put_aside_and_the_oldest_forgotten(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "a.log", LogLimits(max_bytes=10, keep=2))
    for number in range(8):
        log.append(b"line %d\n" % number)
    log.close()
    found = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert found == {"a.log.2": "line 4\nline 5\n", "a.log.1": "line 6\nline 7\n"}
    assert log.error is None


def test_what_follows_the_part_that_was_put_aside_says_whose_it_is(tmp_path: Path) -> None:
    mark = start_mark("worker-0", 1, 2, goes_on=True)
    log = LogFile(tmp_path / "a.log", LogLimits(max_bytes=100, keep=1), mark)
    for number in range(11):
        log.append(b"a line of 20 bytes\n" if number % 2 else b"another one as long\n")
    log.close()
    first, second = (tmp_path / "a.log.1").read_text(), (tmp_path / "a.log").read_text()
    assert first.startswith(mark), "a part before it is forgotten already"
    assert second.startswith(mark)
    lines = [("a", line) for line in (first + second).splitlines()]
    assert len(list(part_of(lines, start=3))) == len(lines) - 2
    assert list(part_of(lines, start=1)) == []


def test_a_line_is_never_cut_by_putting_the_log_aside(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "a.log", LogLimits(max_bytes=4, keep=2))
    for piece in (b"a long ", b"line\n", b"next"):
        log.append(piece)
    log.close()
    assert (tmp_path / "a.log.2").read_text() == "a long line\n"
    assert (tmp_path / "a.log.1").read_text() == "next\n"


def test_logs_may_grow_without_limit(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "a.log", LogLimits(max_bytes=None))
    log.append(b"x\n" * 1000)
    log.close()
    assert [path.name for path in tmp_path.iterdir()] == ["a.log"]


def test_a_size_that_an_earlier_start_left_counts(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("x" * 99 + "\n")
    log = LogFile(tmp_path / "a.log", LogLimits(max_bytes=100, keep=1))
    log.append(b"new\n")
    log.close()
    assert (tmp_path / "a.log.1").read_text().endswith("\nnew\n")
