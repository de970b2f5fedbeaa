"""Reading the state file of a model directory without TensorFlow."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.launch.resumed_checkpoint import resumed_step


@pytest.mark.parametrize(
    ("text", "step"),
    [
        ('model_checkpoint_path: "model.ckpt-1000"\nall_model_checkpoint_paths: "model.ckpt-900"\n', 1000),
        ('model_checkpoint_path: "/a-1/b/model.ckpt-7"\n', 7),
        ('all_model_checkpoint_paths: "model.ckpt-900"\n', None),
        ('model_checkpoint_path: "pretrained"\n', None),
        ("", None),
    ],
)
def test_the_newest_checkpoint_names_its_step(tmp_path: Path, text: str, step: int | None) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "checkpoint").write_text(text)
    assert resumed_step(tmp_path, "model") == step
    assert resumed_step(Path("/nowhere"), str(tmp_path / "model")) == step


def test_what_cannot_be_read_tells_nothing(tmp_path: Path) -> None:
    assert resumed_step(tmp_path, "model") is None
    assert resumed_step(tmp_path, "gs://bucket/model") is None
    (tmp_path / "model" / "checkpoint").mkdir(parents=True)
    assert resumed_step(tmp_path, "model") is None
