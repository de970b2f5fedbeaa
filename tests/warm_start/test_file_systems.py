"""Checkpoints at places that only TensorFlow reaches, with the file system in memory that it has built in."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tensorflow as tf

from orchestrator.errors import CheckpointError, WarmStartError
from orchestrator.warm_start import file_systems
from orchestrator.warm_start.checkpoint_reader import open_checkpoint
from orchestrator.warm_start.location import Storage, locate
from tests.warm_start.test_checkpoint_reader import KERNEL, keras_model, values_of, write_by_name

_COUNT = itertools.count()


@pytest.fixture
def place() -> str:
    """An empty directory in memory."""
    place = f"ram://warm-start-{next(_COUNT)}/models"
    tf.io.gfile.makedirs(place)
    return place


def uploaded(source: Path, place: str) -> None:
    for path in source.rglob("*"):
        target = f"{place}/{path.relative_to(source)}"
        if path.is_dir():
            tf.io.gfile.makedirs(target)
        else:
            with tf.io.gfile.GFile(target, "wb") as stream:
                stream.write(path.read_bytes())


def test_a_prefix_a_file_of_it_and_its_directory(tmp_path: Path, place: str) -> None:
    for step in (5, 20, 100):
        write_by_name(tmp_path / f"model.ckpt-{step}", {"net/kernel": KERNEL * step})
    uploaded(tmp_path, place)
    for named in (f"{place}/model.ckpt-5", f"{place}/model.ckpt-5.index"):
        assert locate(named).path == f"{place}/model.ckpt-5"
        np.testing.assert_array_equal(values_of(named)["net/kernel"], KERNEL * 5)
    assert locate(f"{place}/").path == f"{place}/model.ckpt-100"
    state = f'model_checkpoint_path: "{place}/elsewhere/model.ckpt-20"\n'
    with tf.io.gfile.GFile(f"{place}/checkpoint", "w") as stream:
        stream.write(state)
    assert locate(place).path == f"{place}/model.ckpt-20"
    np.testing.assert_array_equal(values_of(place)["net/kernel"], KERNEL * 20)


def test_a_saved_model(tmp_path: Path, place: str) -> None:
    net = tf.Module()
    net.kernel = tf.Variable(KERNEL)
    tf.saved_model.save(net, str(tmp_path))
    uploaded(tmp_path, place)
    np.testing.assert_array_equal(values_of(place)["kernel"], KERNEL)


@pytest.mark.parametrize("name", ["a.keras", "a.weights.h5"])
def test_keras_files_are_read_through_a_copy(tmp_path: Path, place: str, name: str) -> None:
    model = keras_model()
    model.save_weights(tmp_path / name) if "weights" in name else model.save(tmp_path / name)
    uploaded(tmp_path, place)
    there, here = values_of(f"{place}/{name}"), values_of(tmp_path / name)
    assert there.keys() == here.keys()
    for key, value in here.items():
        np.testing.assert_array_equal(there[key], value)


def test_what_is_not_there_or_incomplete_is_told(tmp_path: Path, place: str) -> None:
    write_by_name(tmp_path / "model.ckpt-5", {"net/kernel": KERNEL})
    uploaded(tmp_path, place)
    with pytest.raises(WarmStartError, match=r"key: ram://.*no such checkpoint. Did you mean 'model.ckpt-5'"):
        locate(f"{place}/modle.ckpt-5", "key")
    with pytest.raises(WarmStartError, match="There is no directory ram://"):
        locate(f"{place}/gone/model.ckpt-5")
    data = f"{place}/model.ckpt-5.data-00000-of-00001"
    tf.io.gfile.remove(data)  # the file system in memory does not shorten files
    with tf.io.gfile.GFile(data, "wb") as stream:
        stream.write(b"short")
    with pytest.raises(CheckpointError, match="truncated"):
        open_checkpoint(f"{place}/model.ckpt-5")
    tf.io.gfile.remove(data)
    with pytest.raises(CheckpointError, match="incomplete"):
        locate(f"{place}/model.ckpt-5")


def test_an_unknown_file_system_is_told() -> None:
    with pytest.raises(WarmStartError, match="TensorFlow has no file system for attic:// here"):
        locate("attic://models/model.ckpt-5")


def test_a_remote_file_with_a_link_to_another_is_refused(tmp_path: Path, place: str) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["kernel"] = h5py.ExternalLink("/etc/other.h5", "x")
    uploaded(tmp_path, place)
    assert locate(f"{place}/a.h5").storage is Storage.HDF5
    with pytest.raises(CheckpointError, match="link to another file"):
        open_checkpoint(f"{place}/a.h5")


def test_a_copy_needs_room(tmp_path: Path, monkeypatch: Any) -> None:
    class Usage:
        free = 10

    monkeypatch.setattr(file_systems.shutil, "disk_usage", lambda path: Usage)
    with pytest.raises(CheckpointError, match=r"claim 11 bytes, and .* has 10 free"):
        file_systems.require_room(11, "a.h5")
