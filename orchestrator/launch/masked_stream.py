"""Hides secrets in a stream of bytes that arrives in pieces of any size."""

from __future__ import annotations

import re
from collections.abc import Collection

from orchestrator.cluster.secrets import MASK, SHORTEST


class MaskedStream:
    """Replaces each of `values` by the mask; a value of several lines also line by line.

    What may be the beginning of a value is held back until more has come.
    """

    def __init__(self, values: Collection[str]) -> None:
        pieces = {piece for value in values for piece in (value, *value.splitlines())}
        known = sorted((p.encode() for p in pieces if len(p) >= SHORTEST), key=len, reverse=True)
        self._known = known
        self._pattern = re.compile(b"|".join(map(re.escape, known))) if known else None
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """What can be shown now of all that has come."""
        if self._pattern is None:
            return data
        data = self._held + data
        after = 0
        for match in self._pattern.finditer(data):
            after = match.end()
        keep = self._beginning_of_a_value(data[after:])
        self._held = data[len(data) - keep :]
        return self._masked(data[: len(data) - keep])

    def finish(self) -> bytes:
        """What was held back, for when nothing more comes."""
        rest, self._held = self._held, b""
        return self._masked(rest)

    def _masked(self, data: bytes) -> bytes:
        return data if self._pattern is None else self._pattern.sub(MASK.encode(), data)

    def _beginning_of_a_value(self, data: bytes) -> int:
        """How many of the last bytes a value may begin with."""
        longest = 0
        for value in self._known:
            for size in range(min(len(value) - 1, len(data)), longest, -1):
                if data.endswith(value[:size]):
                    longest = size
                    break
        return longest
