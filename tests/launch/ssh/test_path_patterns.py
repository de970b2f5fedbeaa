"""Patterns that include and exclude."""

from __future__ import annotations

import pytest

from orchestrator.launch.ssh.path_patterns import matches


@pytest.mark.parametrize(
    ("path", "pattern", "fits"),
    [
        ("a.csv", "*.csv", True),
        ("deep/a.csv", "*.csv", True),
        ("a.csv.py", "*.csv", False),
        ("data/x/y.py", "data", True),
        ("src/data/y.py", "data", True),
        ("src/data/y.py", "data/", True),
        ("src/data/y.py", "/data", False),
        ("data/y.py", "/data", True),
        ("models/large/w.bin", "models/large", True),
        ("src/models/large/w.bin", "models/large", False),
        ("src/models/large/w.bin", "**/models/large", True),
        ("models/large/w.bin", "models/*.bin", False),
        ("models/w.bin", "models/*.bin", True),
        ("models/a/b/w.bin", "models/**/w.bin", True),
        ("models/w.bin", "./models", True),
        ("A.csv", "*.CSV", False),
        ("a", "/", False),
        ("a", "", False),
    ],
)
def test_a_pattern_fits_names_or_paths(path: str, pattern: str, fits: bool) -> None:
    assert matches(path, [pattern]) is fits
