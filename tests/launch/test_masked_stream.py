"""Secrets in streams, however they are cut."""

from __future__ import annotations

import pytest

from orchestrator.launch.masked_stream import MaskedStream

TEXT = b"a secret-one b\nsecret-onesecret-two secret-on\n\xff secret-tw"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 11, 1000])
def test_a_value_is_masked_wherever_the_stream_is_cut(size: int) -> None:
    stream = MaskedStream(["secret-one", "secret-two"])
    pieces = [stream.feed(TEXT[i : i + size]) for i in range(0, len(TEXT), size)]
    assert b"".join([*pieces, stream.finish()]) == b"a *** b\n****** secret-on\n\xff secret-tw"


def test_nothing_is_held_back_but_what_may_be_a_beginning() -> None:
    stream = MaskedStream(["secret-one"])
    assert stream.feed(b"step 1\rstep 2\r") == b"step 1\rstep 2\r"
    assert stream.feed(b"sec") == b""
    assert stream.feed(b"onds ") == b"seconds "
    assert stream.feed(b"secret-one") == b"***"
    assert stream.finish() == b""


def test_a_value_of_several_lines_is_masked_line_by_line() -> None:
    stream = MaskedStream(["first line\nsecond line\nlast"])
    assert stream.feed(b"second line\n") + stream.finish() == b"***\n"


def test_without_values_everything_passes() -> None:
    stream = MaskedStream(["short"])
    assert stream.feed(b"short") == b"short"
    assert stream.finish() == b""
