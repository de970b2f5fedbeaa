"""Sizes in bytes, as people write them: `2GiB`, `500MB`."""

from __future__ import annotations

import re

_UNITS = {
    "B": 1,
    **{f"{prefix}B": 1000**power for power, prefix in enumerate("KMGTP", start=1)},
    **{f"{prefix}iB": 1024**power for power, prefix in enumerate("KMGTP", start=1)},
}
SIZE_PATTERN = r"^[0-9]+(\.[0-9]+)? ?([KMGTP]i?)?B$"
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]+)")
_BY_LOWER_CASE = {unit.lower(): unit for unit in _UNITS}


def parse_size(text: str) -> int:
    """Bytes of `2GiB` (powers of 1024) or `2GB` (powers of 1000).

    Raises ValueError, saying what to write, for anything else.
    """
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise ValueError("is not a size. Write a number and a unit, for example 2GiB or 500MB")
    number, unit = match[1], match[2]
    if unit not in _UNITS:
        close = _BY_LOWER_CASE.get(unit.lower()) or _BY_LOWER_CASE.get(f"{unit.lower()}ib")
        hint = f". Did you mean {number}{close}?" if close else f". The units are {', '.join(_UNITS)}"
        raise ValueError(f"has the unknown unit '{unit}'{hint}")
    size = float(number) * _UNITS[unit]
    if size < 1:
        raise ValueError("is less than a byte")
    return int(size)


def format_size(size: float) -> str:
    """For people: `2.0 GiB`, `340 MiB`, `12 B`."""
    for power, prefix in reversed(list(enumerate("KMGTP", start=1))):
        if size >= 1024**power:
            value = size / 1024**power
            return f"{value:.1f} {prefix}iB" if value < 10 else f"{value:.0f} {prefix}iB"
    return f"{size:.0f} B"
