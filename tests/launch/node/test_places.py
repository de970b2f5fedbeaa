"""Tests for orchestrator.launch.node.places."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from orchestrator.launch.node.places import KEEP_SECONDS, LOCK, PlaceError, Places, take_lock


@pytest.fixture
def places(tmp_path: Path) -> Places:
    made = Places.of(tmp_path, "run-1-h1")
    made.create()
    return made


def test_directories_are_their_owners_alone(places: Places) -> None:
    before = os.umask(0)
    try:
        Places.of(places.root, "run-2-h1").create()
    finally:
        os.umask(before)
    for name in ("run-2-h1", "run-2-h1/logs", "run-2-h1/tasks"):
        assert (places.root / "runs" / name).stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("path", ["experiment.json", "tasks/chief-0/progress.json"])
def test_a_path_below_the_run_directory_is_taken(places: Places, path: str) -> None:
    assert places.inside(path) == places.run_dir / path


@pytest.mark.parametrize("path", ["", ".", "/etc/passwd", "../x", "tasks/../../x", "a\0b", "link/x"])
def test_a_path_that_leads_out_is_refused(places: Places, path: str) -> None:
    (places.run_dir / "link").symlink_to("/tmp")
    with pytest.raises(PlaceError):
        places.inside(path)


def test_what_nobody_has_used_for_a_week_is_removed(places: Places) -> None:
    old = time.time() - KEEP_SECONDS - 100
    runs, packages = places.run_dir.parent, places.packages
    for path in (runs / "old", runs / "busy", runs / "new", packages / "old", packages / "used"):
        (path / "logs").mkdir(parents=True)
        (path / LOCK).touch()
        os.utime(path, (old, old))
    os.utime(places.run_dir, (old, old))
    os.utime(runs / "new")
    held = take_lock(runs / "busy" / LOCK)
    assert held is not None
    os.utime(runs / "busy", (old, old))
    places.keep_fresh(packages / "used")
    os.utime(places.run_dir, (old, old))
    places.clean()
    os.close(held)
    assert sorted(path.name for path in runs.iterdir()) == ["busy", "new", "run-1-h1"]
    assert [path.name for path in packages.iterdir()] == ["used"]


def test_a_lock_is_held_by_one(places: Places) -> None:
    path = places.run_dir / LOCK
    held = take_lock(path)
    assert held is not None
    assert take_lock(path) is None
    path.unlink()  # the run directory was removed and made again
    again = take_lock(path)
    assert again is not None
    os.close(held)
    assert take_lock(path) is None
    os.close(again)
    last = take_lock(path)
    assert last is not None
    os.close(last)
