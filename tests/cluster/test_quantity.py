from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.cluster.quantity import format_size, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [("1B", 1), ("2GiB", 2 * 1024**3), ("2 GB", 2_000_000_000), ("1.5KiB", 1536), ("500MB", 500_000_000)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("2", "2GiB"),
        ("GiB", "2GiB"),
        ("-2GiB", "2GiB"),
        ("2gib", "Did you mean 2GiB?"),
        ("2G", "Did you mean 2GiB?"),
        ("2m", "Did you mean 2MiB?"),
        ("2 bytes", "B, KB"),
        ("0GiB", "less than a byte"),
        ("", "2GiB"),
    ],
)
def test_anything_else_is_refused_with_what_to_write(text: str, fragment: str) -> None:
    with pytest.raises(ValueError, match=re.escape(fragment)):
        parse_size(text)


@given(st.integers(1, 1023), st.sampled_from(["B", "KiB", "MiB", "GiB", "TiB"]))
def test_a_shown_size_is_the_size(number: int, unit: str) -> None:
    shown = format_size(parse_size(f"{number}{unit}"))
    assert parse_size(shown) == parse_size(f"{number}{unit}")
