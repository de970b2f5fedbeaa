from __future__ import annotations

from pathlib import Path

from orchestrator.launch.log_stream import (
    LineReader,
    LogMark,
    older_log,
    part_of,
    prefix_width,
    prefixed,
    read_logs,
    start_mark,
    tail,
)
from tests.launch.jobs import task


def test_the_tail_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    assert tail(log, 5) == ()
    log.write_text(
        "".join(f"line {i}\n" for i in range(100))
        + "cut \udce9".encode("utf-8", "surrogateescape").decode("latin-1")
    )
    assert tail(log, 2) == ("line 99", "cut \xe9")
    assert tail(log, 1000)[0] == "line 0"
    assert tail(log, 1000, limit=50)[0].startswith("line ")
    assert len(tail(log, 1000, limit=50)) < 9


def test_the_tail_behind_an_earlier_start(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("old\n")
    since = LogMark.end_of(log)
    assert tail(log, 9, since=since) == ()
    with log.open("a") as stream:
        stream.write("new\n")
    assert tail(log, 9, since=since) == ("new",)
    log.write_text("x\n")
    assert tail(log, 9, since=since) == ("x",), "a log that was replaced counts whole"


def test_bytes_that_are_no_text_do_no_harm(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(b"\xff\xfe ok\n")
    assert tail(log, 1)[0].endswith(" ok")
    assert LineReader(log).read()[0].endswith(" ok")


def test_a_growing_log_gives_whole_lines_once(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    reader = LineReader(log)
    assert reader.read() == []
    with log.open("a") as stream:
        stream.write("one\ntw")
    assert reader.read() == ["one"]
    with log.open("a") as stream:
        stream.write("o\nthree")
    assert reader.read() == ["two"]
    assert reader.rest() == ["three"]
    assert reader.rest() == []


def test_a_replaced_log_is_read_from_its_start(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("one\n")
    reader = LineReader(log)
    reader.read()
    new = tmp_path / "b.log"
    new.write_text("another\n")
    new.replace(log)
    assert reader.read() == ["another"]


def test_logs_are_read_one_after_the_other(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("1\n2\n")
    (tmp_path / "b.log").write_text("3")
    paths = {"a": tmp_path / "a.log", "b": tmp_path / "b.log", "c": tmp_path / "c.log"}
    assert list(read_logs(paths)) == [("a", "1"), ("a", "2"), ("b", "3")]


def test_followed_logs_end_with_the_run_and_lose_nothing(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("1\n")
    rounds = iter([False, False, True])

    def finished() -> bool:
        over = next(rounds)
        if over:
            with log.open("a") as stream:
                stream.write("last")
        return over

    def sleep(seconds: float) -> None:
        with log.open("a") as stream:
            stream.write("more\n")

    assert [line for _, line in read_logs({"a": log}, finished, sleep)] == ["1", "more", "more", "last"]


def test_prefixes_line_up() -> None:
    tasks = [task("ps-0"), task("evaluator-0")]
    width = prefix_width(tasks)
    assert prefixed(tasks[0], "x", width) == "ps-0        | x"
    assert prefixed(tasks[1], "10 %\r50 %\r100 %\r\n", width) == "evaluator-0 | 100 %"
    assert prefix_width([]) == 0


def put_aside(log: Path, text: str) -> None:
    """What a launcher does with a log that is full, keeping one older one."""
    log.replace(older_log(log, 1))
    log.write_text(text)


def test_the_tail_goes_on_into_the_log_that_was_put_aside_since(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("an earlier start\n")
    since = LogMark.end_of(log)
    with log.open("a") as stream:
        stream.write("one\ntwo\n")
    put_aside(log, "three\n")
    assert tail(log, 9, since=since) == ("one", "two", "three")
    assert tail(log, 2, since=since) == ("two", "three")
    assert tail(log, 9) == ("three",)


def test_a_followed_log_loses_no_line_when_it_is_put_aside(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("one\n")
    reader = LineReader(log)
    assert reader.read() == ["one"]
    with log.open("a") as stream:
        stream.write("two\n")
    put_aside(log, "three\n")
    assert reader.read() == ["two", "three"]
    assert reader.read() == []


def test_a_log_is_read_from_the_oldest_part_on(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    for age, text in ((2, "one\n"), (1, "two\n"), (0, "three\n")):
        older_log(log, age).write_text(text)
    assert [line for _, line in read_logs({"a": log})] == ["one", "two", "three"]


def test_the_lines_of_one_start(tmp_path: Path) -> None:
    log = tmp_path / "worker-0.log"
    log.write_text(f"a\n{start_mark('worker-0', 1, 1)}b\n{start_mark('worker-0', 1, 2)}c\nd\n")
    lines = list(read_logs({"worker-0": log}))
    assert [list(part_of(lines, start=number)) for number in (1, 2, 3, 4)] == [
        [("worker-0", "a")],
        [("worker-0", "b")],
        [("worker-0", "c"), ("worker-0", "d")],
        [],
    ]
    attempts = [[line for _, line in part_of(lines, attempt=number)] for number in (1, 2, 3)]
    assert attempts == [["a"], ["b", "c", "d"], []]
    assert list(part_of(lines, start=2, attempt=1)) == []
    assert ("worker-0", "==== worker-0: start 2, attempt 2 ====") in lines
