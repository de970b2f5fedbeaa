from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import ConfigError
from orchestrator.launch.launcher import Launcher
from orchestrator.launch.registry import known_launchers, launcher_class, make_launcher
from orchestrator.testing import FakeClock, FakeLauncher


def test_the_local_launcher_is_known_and_is_one(tmp_path: Path) -> None:
    assert "local" in known_launchers()
    launcher = make_launcher("local", tmp_path)
    assert isinstance(launcher, Launcher)
    launcher.close()


def test_an_unknown_launcher_is_refused_with_the_near_miss() -> None:
    with pytest.raises(ConfigError, match=r"unknown launcher 'locale'\. Did you mean 'local'\?"):
        launcher_class("locale")


def test_the_fake_launcher_is_one_too() -> None:
    assert isinstance(FakeLauncher(FakeClock()), Launcher)
