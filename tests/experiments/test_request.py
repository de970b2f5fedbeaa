from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import ConfigError
from orchestrator.experiments.request import ExperimentRequest

COMPLETE: dict[str, Any] = {
    "experiment": "digits:experiment",
    "params": {"max_steps": 10},
    "strategy": {"name": "mirrored", "logical_devices": 2},
    "run_config": {"save_checkpoints_steps": 5},
    "model_dir": "/models/digits",
    "data_dir": None,
    "working_dir": "/home/me",
}


def written(directory: Path, **changes: Any) -> Path:
    path = directory / "experiment.json"
    path.write_text(json.dumps({**COMPLETE, **changes}))
    return path


def test_a_complete_file_is_read(tmp_path: Path) -> None:
    assert ExperimentRequest.read(written(tmp_path)) == ExperimentRequest(
        experiment="digits:experiment",
        params={"max_steps": 10},
        strategy="mirrored",
        logical_devices=2,
        run_config={"save_checkpoints_steps": 5},
        model_dir="/models/digits",
        data_dir=None,
        working_dir="/home/me",
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"experiment": None}, "'experiment' is None; it must be a string"),
        ({"params": []}, r"'params' is \[\]; it must be an object"),
        ({"strategy": {}}, "'strategy.name' is missing; it must be a string"),
        (
            {"strategy": {"name": "mirrored", "logical_devices": True}},
            "'strategy.logical_devices' is True; it must be a whole number",
        ),
        ({"data_dir": 3}, "'data_dir' is 3; it must be a string"),
    ],
)
def test_a_wrong_entry_is_named_with_its_file(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"experiment.json: {message}"):
        ExperimentRequest.read(written(tmp_path, **changes))


@pytest.mark.parametrize(
    ("text", "message"), [("{", "is not JSON"), ("[]", "must hold a JSON object, not list")]
)
def test_something_else_than_an_object_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "experiment.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        ExperimentRequest.read(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent.json: cannot be read: No such file"):
        ExperimentRequest.read(tmp_path / "absent.json")
