"""Readers, on files written here and on real pretrained ones."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tensorflow as tf

from orchestrator.errors import CheckpointError
from orchestrator.warm_start.checkpoint_reader import open_checkpoint
from orchestrator.warm_start.tensors import Role
from tests.warm_start import real_checkpoints as real

v1 = tf.compat.v1
KERNEL = np.arange(12, dtype=np.float32).reshape(4, 3)


def write_by_name(prefix: Path, values: dict[str, Any]) -> str:
    with tf.Graph().as_default(), v1.Session() as session:
        for name, value in values.items():
            v1.get_variable(name, initializer=np.asarray(value))
        session.run(v1.global_variables_initializer())
        return v1.train.Saver().save(session, str(prefix), write_meta_graph=False, write_state=False)


def values_of(path: Any) -> dict[str, np.ndarray]:
    with open_checkpoint(path) as opened:
        return {t.name: opened.read(t) for t in opened.tensors() if t.role is Role.WEIGHT}


def test_a_checkpoint_by_name_without_meta_and_state(tmp_path: Path) -> None:
    stored = {
        "net/kernel": KERNEL,
        "net/kernel/Adam": KERNEL * 2,
        "net/kernel/ExponentialMovingAverage": KERNEL * 3,
        "beta1_power": np.float32(0.9),
        "global_step": np.int64(7),
    }
    with open_checkpoint(write_by_name(tmp_path / "a", stored)) as opened:
        assert {t.name: t.role for t in opened.tensors()} == {
            "beta1_power": Role.SLOT,
            "global_step": Role.STEP,
            "net/kernel": Role.WEIGHT,
            "net/kernel/Adam": Role.SLOT,
            "net/kernel/ExponentialMovingAverage": Role.AVERAGE,
        }
        assert opened.global_step() == 7
        assert opened.kind == "TensorFlow checkpoint (by name)"
    np.testing.assert_array_equal(values_of(tmp_path / "a")["net/kernel"], KERNEL)


def test_slices_of_a_partitioned_variable_are_put_together(tmp_path: Path) -> None:
    with tf.Graph().as_default(), v1.Session() as session:
        parts = v1.get_variable("w", [4, 3], partitioner=v1.fixed_size_partitioner(2))
        session.run([part.assign(KERNEL[2 * n : 2 * n + 2]) for n, part in enumerate(parts)])
        v1.train.Saver(sharded=True).save(session, str(tmp_path / "a"), write_meta_graph=False)
    np.testing.assert_array_equal(values_of(tmp_path)["w"], KERNEL)


def test_a_truncated_checkpoint_is_told_before_any_tensor_is_read(tmp_path: Path) -> None:
    prefix = write_by_name(tmp_path / "a", {"w": np.zeros([100])})
    data = tmp_path / "a.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:50])
    with pytest.raises(CheckpointError, match="truncated"):
        open_checkpoint(prefix)
    (tmp_path / "a.index").write_bytes(b"rubbish")
    with pytest.raises(CheckpointError, match="cannot be read as a TensorFlow checkpoint"):
        open_checkpoint(prefix)


def test_a_checkpoint_by_object(tmp_path: Path) -> None:
    kernel, rate = tf.Variable(KERNEL, name="dense/kernel"), tf.Variable(0.1)
    optimizer = tf.Module()
    optimizer.learning_rate = rate
    path = tf.train.Checkpoint(net=[kernel], optimizer=optimizer).write(str(tmp_path / "a"))
    with open_checkpoint(path) as opened:
        assert {t.name: t.role for t in opened.tensors()} == {
            "net/0": Role.WEIGHT,
            "optimizer/learning_rate": Role.SLOT,
        }
        assert opened.tensors()[0].aliases == ("dense/kernel",)
    np.testing.assert_array_equal(values_of(path)["net/0"], KERNEL)


def keras_model() -> Any:
    import keras

    model = keras.Sequential(
        [
            keras.layers.Input((4,)),
            keras.layers.Dense(3, name="first"),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.Dense(2, name="last"),
        ]
    )
    for variable in model.variables:
        variable.assign(np.random.RandomState(variable.shape[0]).rand(*variable.shape))
    return model


@pytest.mark.parametrize("name", ["a.keras", "a.weights.h5", "a.h5"])
def test_keras_files_of_every_layout_give_the_same_names_and_values(tmp_path: Path, name: str) -> None:
    model = keras_model()
    model.save_weights(tmp_path / name) if "weights" in name else model.save(tmp_path / name)
    values: dict[str, np.ndarray] = {}
    with open_checkpoint(tmp_path / name) as opened:
        for tensor in opened.tensors():
            values |= dict.fromkeys((tensor.name, *tensor.aliases), opened.read(tensor))
    for layer in model.layers:
        for weight in layer.weights:
            np.testing.assert_array_equal(values[f"{layer.name}/{weight.name}"], weight.numpy())


def test_old_keras_names(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "old.h5", "w") as file:
        file.attrs["layer_names"] = [b"conv", b"norm"]
        for layer, names in (("conv", ["uniform1", "conv_b"]), ("norm", ["norm_gamma", "norm_running_std"])):
            group = file.create_group(layer)
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name in names:
                group[name] = np.ones((2, 2) if name == "uniform1" else (2,), np.float32)
    with open_checkpoint(tmp_path / "old.h5") as opened:
        assert [t.name for t in opened.tensors()] == [
            "conv/bias",
            "conv/kernel",
            "norm/gamma",
            "norm/moving_variance",
        ]
        assert {t.rule for t in opened.tensors()} == {"old Keras name"}


def layered(path: Path) -> h5py.File:
    file = h5py.File(path, "w")
    file.attrs["layer_names"] = ["a"]
    file.create_group("a").attrs["weight_names"] = ["a/kernel:0"]
    return file


def test_links_to_other_files_are_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["kernel"] = KERNEL
    with layered(tmp_path / "external.h5") as file:
        file["a/a/kernel:0"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "kernel")
    with layered(tmp_path / "group.h5") as file:
        file["a/a"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "/")
    with layered(tmp_path / "soft.h5") as file:
        file["a/a/kernel:0"] = h5py.SoftLink("/a")
    (tmp_path / "passwords").write_bytes(bytes(48))
    with layered(tmp_path / "raw.h5") as file:
        file.create_dataset("a/a/kernel:0", (4, 3), "f4", external=[(str(tmp_path / "passwords"), 0, 48)])
    with layered(tmp_path / "virtual.h5") as file:
        layout = h5py.VirtualLayout((4, 3), "f4")
        layout[:] = h5py.VirtualSource(str(tmp_path / "secret.h5"), "kernel", (4, 3))
        file.create_virtual_dataset("a/a/kernel:0", layout)
    for name, text in {
        "external": "link to another file",
        "group": "link to another file",
        "soft": "symbolic link",
        "raw": "lie in another file",
        "virtual": "put together from other files",
    }.items():
        with pytest.raises(CheckpointError, match=text):
            open_checkpoint(tmp_path / f"{name}.h5")


def test_an_unused_foreign_link_is_refused_all_the_same(tmp_path: Path) -> None:
    with layered(tmp_path / "a.h5") as file:
        file["a/a/kernel:0"] = KERNEL
        file["zzz/deep"] = h5py.ExternalLink("other.h5", "x")
    with pytest.raises(CheckpointError, match="zzz/deep"):
        open_checkpoint(tmp_path / "a.h5")


def test_damaged_hdf5_is_told(tmp_path: Path) -> None:
    with layered(tmp_path / "a.h5") as file:
        file["a/a/kernel:0"] = np.zeros([1000], np.float32)
    whole = (tmp_path / "a.h5").read_bytes()
    (tmp_path / "a.h5").write_bytes(whole[:1000])
    with pytest.raises(CheckpointError, match=r"cannot be read as HDF5|damaged"):
        open_checkpoint(tmp_path / "a.h5")
    with layered(tmp_path / "b.h5") as file:
        file.create_dataset("a/a/kernel:0", (1 << 40,), "f4", chunks=(1024,))
    with pytest.raises(CheckpointError, match="none of them are in the file"):
        open_checkpoint(tmp_path / "b.h5")
    with layered(tmp_path / "c.h5"):
        pass
    with pytest.raises(CheckpointError, match="listed and not in the file"):
        open_checkpoint(tmp_path / "c.h5")


@pytest.mark.parametrize("member", ["../outside", "/etc/outside", "a/../../outside", "C:\\outside"])
def test_archive_members_outside_are_refused(tmp_path: Path, member: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.keras", "w") as archive:
        archive.writestr(member, b"x")
        archive.writestr("model.weights.h5", b"x")
    with pytest.raises(CheckpointError, match="lies outside of the archive"):
        open_checkpoint(tmp_path / "a.keras")
    assert not (tmp_path.parent / "outside").exists()


def test_archives_with_links_without_weights_and_damaged_ones_are_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("model.weights.h5")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "link.keras", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(CheckpointError, match="is a symbolic link"):
        open_checkpoint(tmp_path / "link.keras")
    with zipfile.ZipFile(tmp_path / "none.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    with pytest.raises(CheckpointError, match=r"holds no model.weights.h5"):
        open_checkpoint(tmp_path / "none.keras")
    (tmp_path / "cut.keras").write_bytes((tmp_path / "none.keras").read_bytes()[:40])
    with pytest.raises(CheckpointError, match="cannot be read as a Keras archive"):
        open_checkpoint(tmp_path / "cut.keras")


def test_an_external_link_inside_an_archive_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "weights", "w") as file:
        file["layers/dense/vars/0"] = h5py.ExternalLink("/etc/other.h5", "x")
    with zipfile.ZipFile(tmp_path / "a.keras", "w") as archive:
        archive.write(tmp_path / "weights", "model.weights.h5")
    with pytest.raises(CheckpointError, match="link to another file"):
        open_checkpoint(tmp_path / "a.keras")


def test_a_lambda_layer_is_never_run(tmp_path: Path) -> None:
    """Its description, with code in it, is not looked at beyond layers' names."""
    keras_model().save(tmp_path / "good.keras")
    trap = tmp_path / "ran"
    config = {
        "class_name": "Sequential",
        "config": {
            "layers": [
                {
                    "class_name": "Lambda",
                    "config": {"name": "lambda", "function": f"__import__('os').mkdir({str(trap)!r})"},
                }
            ]
        },
    }
    import json

    with (
        zipfile.ZipFile(tmp_path / "good.keras") as good,
        zipfile.ZipFile(tmp_path / "bad.keras", "w") as bad,
    ):
        bad.writestr("config.json", json.dumps(config))
        bad.writestr("model.weights.h5", good.read("model.weights.h5"))
    with open_checkpoint(tmp_path / "bad.keras") as opened:
        assert len(opened.tensors()) == 8
    assert not trap.exists()


@real.needs_data
@pytest.mark.parametrize(
    ("path", "weights", "step", "some"),
    [
        (real.MOBILENET_TF1, 137, 0, "MobilenetV1/Conv2d_0/weights"),
        (real.MOBILENET_TF1.parent, 137, 0, "MobilenetV1/Logits/Conv2d_1c_1x1/biases"),
        (real.SOFTMAX_MNIST, 2, None, "regression/W"),
        (real.MOBILENET_H5, 137, None, "conv_dw_1/depthwise_kernel"),
        (real.RESNET8_H5, 48, None, "conv2d_1/kernel"),
        (real.SQUEEZENET_H5, 50, None, "fire2/squeeze1x1/kernel"),
        (real.BASIC_PITCH, 24, None, "layer_with_weights-0/gamma"),
    ],
    ids=lambda value: value.name if isinstance(value, Path) else None,
)
def test_real_checkpoints(path: Path, weights: int, step: int | None, some: str) -> None:
    with open_checkpoint(path) as opened:
        found = {t.name: t for t in opened.tensors() if t.role is Role.WEIGHT}
        assert opened.global_step() == step
        assert all(opened.read(t).shape == t.shape for t in opened.tensors() if t.dtype != "string")
    assert some in found
    assert len(found) == weights
