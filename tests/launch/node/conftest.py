from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.launch.node.host import Host, host_at


@pytest.fixture
def bare_host(tmp_path: Path) -> Iterator[Host]:
    """A host without anything of ours on it."""
    with host_at(tmp_path) as made:
        yield made


@pytest.fixture(scope="session")
def used_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our directory on a host that has seen runs before."""
    return tmp_path_factory.mktemp("host") / "root"


@pytest.fixture
def host(tmp_path: Path, used_root: Path) -> Iterator[Host]:
    """A host for one run, which has the package from runs before."""
    with host_at(tmp_path, used_root) as made:
        yield made
