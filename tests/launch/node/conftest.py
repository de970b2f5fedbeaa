from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.launch.node.host import Host, host_at


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """A host without anything of ours on it."""
    with host_at(tmp_path) as made:
        yield made
