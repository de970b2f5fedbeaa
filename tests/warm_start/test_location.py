"""From what a user names to the files of a checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import CheckpointError, WarmStartError
from orchestrator.warm_start.location import Storage, locate


def checkpoint(directory: Path, name: str, shards: int = 1) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{name}.index").write_bytes(b"")
    for number in range(shards):
        (directory / f"{name}.data-{number:05d}-of-{shards:05d}").write_bytes(b"")
    return directory / name


def test_a_prefix_and_each_of_its_files_name_the_checkpoint(tmp_path: Path) -> None:
    prefix = checkpoint(tmp_path, "model.ckpt-12")
    for named in (prefix, *tmp_path.glob("model*")):
        assert locate(named).path == str(prefix)


def test_another_machines_paths_in_the_state_file_do_not_matter(tmp_path: Path) -> None:
    checkpoint(tmp_path, "model.ckpt-5")
    newest = checkpoint(tmp_path, "model.ckpt-9")
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "/home/else/models/model.ckpt-9"\n')
    assert locate(tmp_path).path == str(newest)
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-5"\n')
    assert locate(tmp_path).path.endswith("model.ckpt-5")
    assert "state file" in locate(tmp_path).note


@pytest.mark.parametrize("state", [None, "", "rubbish", 'model_checkpoint_path: "/gone/model.ckpt-99"'])
def test_without_a_usable_state_file_the_last_of_a_series_is_taken(tmp_path: Path, state: str | None) -> None:
    for step in (5, 100, 20):
        checkpoint(tmp_path, f"model.ckpt-{step}")
    if state is not None:
        (tmp_path / "checkpoint").write_text(state)
    found = locate(tmp_path)
    assert found.path.endswith("model.ckpt-100")
    assert "step number" in found.note


def test_several_checkpoints_of_no_series_are_asked_about(tmp_path: Path) -> None:
    checkpoint(tmp_path, "best")
    checkpoint(tmp_path, "last")
    with pytest.raises(WarmStartError, match=r"several checkpoints \(best, last\).*Name one"):
        locate(tmp_path)


def test_a_saved_model_is_its_variables(tmp_path: Path) -> None:
    prefix = checkpoint(tmp_path / "variables", "variables")
    (tmp_path / "saved_model.pb").write_bytes(b"\0")
    assert locate(tmp_path).path == str(prefix)


def test_files_are_known_by_content(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(b"\x89HDF\r\n\x1a\n")
    assert locate(tmp_path / "weights").storage is Storage.HDF5
    (tmp_path / "a.keras").write_bytes(b"PK\x03\x04")
    assert locate(tmp_path / "a.keras").storage is Storage.KERAS_ARCHIVE
    (tmp_path / "weights.pkl").write_bytes(b"x")
    with pytest.raises(WarmStartError, match="no TensorFlow or Keras checkpoint"):
        locate(tmp_path / "weights.pkl")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("modle.ckpt-5", "key: .*modle.ckpt-5: there is no such checkpoint. Did you mean 'model.ckpt-5'"),
        ("gone/model.ckpt", "There is no directory"),
        ("empty", "holds no checkpoint"),
        (" ", "empty"),
    ],
)
def test_what_is_not_there_is_told_with_path_and_key(tmp_path: Path, name: str, text: str) -> None:
    checkpoint(tmp_path, "model.ckpt-5")
    (tmp_path / "empty").mkdir()
    with pytest.raises(WarmStartError, match=text):
        locate(str(tmp_path / name) if name.strip() else name, "key")


def test_missing_data_files_are_told(tmp_path: Path) -> None:
    prefix = checkpoint(tmp_path, "model.ckpt", shards=3)
    (tmp_path / "model.ckpt.data-00001-of-00003").unlink()
    with pytest.raises(CheckpointError, match=r"lacks model.ckpt.data-00001-of-00003 \(1 of 3"):
        locate(prefix)
    for path in tmp_path.glob("*.data*"):
        path.unlink()
    with pytest.raises(CheckpointError, match="incomplete"):
        locate(prefix)
