"""Hosts for tests, where namespaces, sshd and root allow them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.hosts.ssh_hosts import SshHosts, why_not


@pytest.fixture(scope="session")
def _hosts_are_possible() -> None:
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)


@pytest.fixture
def private_place(tmp_path: Path) -> Path:
    """A directory that the hosts do not see, as that of a laptop."""
    place = tmp_path / "private"
    place.mkdir()
    return place


@pytest.fixture
def hosts(_hosts_are_possible: None, tmp_path: Path, private_place: Path) -> Iterator[SshHosts]:
    """`h1`, `h2`, `h3`, each with an sshd, as new."""
    with SshHosts(tmp_path / "hosts", hidden=[private_place]) as made:
        yield made
