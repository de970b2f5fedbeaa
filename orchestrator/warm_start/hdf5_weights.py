"""Keras weights in HDF5: `.h5` of whole models and of weights, and `.weights.h5` of Keras 3."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import h5py
import numpy as np

from orchestrator.errors import CheckpointError
from orchestrator.warm_start import keras_names
from orchestrator.warm_start.file_systems import is_remote, local_copy
from orchestrator.warm_start.hdf5_guard import datasets, open_guarded
from orchestrator.warm_start.tensors import Role, SourceTensor

_NUMBERS = "biufc"


class Hdf5WeightsReader:
    """Weights of an HDF5 file; the model's description in it is not looked at."""

    def __init__(self, file: h5py.File, path: str, layers: Mapping[str, Any] | None = None) -> None:
        self.path = path
        self._file = file
        if "layer_names" in file.attrs or "model_weights" in file:
            self.kind = "Keras HDF5 (by layer)"
            found = list(self._by_layer())
        elif _holds_positions(file):
            self.kind = "Keras 3 HDF5 (by position)"
            found = list(self._by_position(layers or {}))
        else:
            self.kind = "HDF5"
            found = [
                SourceTensor(name.removesuffix(":0"), item.shape, item.dtype.name, key=name)
                for name, item in self._arrays(file)
            ]
        self._tensors = sorted(_unique(found), key=lambda tensor: tensor.name)

    @staticmethod
    def open(path: str) -> Hdf5WeightsReader:
        """Opens a file; raises CheckpointError for one that is damaged or points outside of itself."""
        file = local_copy(path) if is_remote(path) else path
        return Hdf5WeightsReader(open_guarded(file, path), path)

    def tensors(self) -> list[SourceTensor]:
        """All tensors, sorted by name."""
        return self._tensors

    def read(self, tensor: SourceTensor) -> Any:
        """The value of one tensor."""
        try:
            item = self._file[tensor.place]
            value = np.empty(item.shape, item.dtype)
            if value.size:
                item.read_direct(value)
        except (OSError, KeyError, ValueError) as error:
            raise CheckpointError(f"{self.path}: cannot read {tensor.place}: {error}") from error
        return value if value.dtype.name == tensor.dtype else value.view(_bfloat16())

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _arrays(self, group: h5py.Group) -> Iterator[tuple[str, h5py.Dataset]]:
        for name, item in datasets(group, self.path):
            if item.dtype.kind in _NUMBERS and item.shape is not None:
                yield name, item

    def _by_layer(self) -> Iterator[SourceTensor]:
        """Keras 1 and 2, and `.h5` of Keras 3: a group a layer, names of weights in attributes."""
        inner = "model_weights" in self._file
        root = self._file["model_weights"] if inner else self._file
        prefix = "model_weights/" if inner else ""
        for layer in _texts(root, "layer_names", self.path):
            if layer not in root:
                raise CheckpointError(f"{self.path}: layer '{layer}' is listed and not in the file.")
            group = root[layer]
            names = _texts(group, "weight_names", self.path)
            for name in names:
                if name not in group or not isinstance(group[name], h5py.Dataset):
                    raise CheckpointError(f"{self.path}: weight '{name}' is listed and not in the file.")
            shapes = [group[name].shape for name in names]
            for name, (plain, rule) in zip(names, keras_names.of_layer(layer, names, shapes), strict=True):
                item = group[name]
                yield SourceTensor(
                    plain,
                    item.shape,
                    item.dtype.name,
                    key=f"{prefix}{layer}/{name}",
                    rule=rule,
                    role=keras_names.role_of(plain),
                    aliases=keras_names.without_model_scope(plain, layer),
                )
        if "optimizer_weights" in self._file:
            for name, item in self._arrays(self._file["optimizer_weights"]):
                key = f"optimizer_weights/{name}"
                plain = key.removesuffix(":0")
                yield SourceTensor(plain, item.shape, item.dtype.name, key=key, role=Role.SLOT)

    def _by_position(self, layers: Mapping[str, Any]) -> Iterator[SourceTensor]:
        """The layout of Keras 3: `layers/dense_1/vars/0`; roles follow from the kind of layer."""
        for key, item in self._arrays(self._file):
            owner, _, position = key.rpartition("/vars/")
            group = self._file[f"{owner}/vars"] if owner else None
            called = str(group.attrs["name"]) if group is not None and "name" in group.attrs else ""
            count = len(group) if group is not None else 0
            name, aliases, rule = keras_names.of_position(key, position, count, called, layers)
            optimizer = key.split("/")[0] == "optimizer"
            half = item.attrs.get("dtype") == "bfloat16"
            yield SourceTensor(
                name,
                item.shape,
                "bfloat16" if half else item.dtype.name,
                key=key,
                aliases=aliases,
                rule=rule,
                role=Role.SLOT if optimizer else keras_names.role_of(name),
            )


def _holds_positions(file: h5py.File) -> bool:
    return any(key in file for key in ("layers", "_layer_checkpoint_dependencies", "vars", "optimizer"))


def _texts(group: h5py.Group, name: str, path: str) -> list[str]:
    """A list of texts in an attribute, which Keras cuts into `name0`, `name1` when it is long."""
    attributes = group.attrs
    values = attributes.get(name)
    if values is None:
        values, number = [], 0
        while f"{name}{number}" in attributes:
            values = [*values, *attributes[f"{name}{number}"]]
            number += 1
    try:
        return [value.decode() if isinstance(value, bytes) else str(value) for value in values]
    except (UnicodeDecodeError, TypeError) as error:
        raise CheckpointError(f"{path}: attribute '{name}' is no list of names.") from error


def _unique(tensors: list[SourceTensor]) -> Iterator[SourceTensor]:
    """Layers may share names, and then the place in the file is the name."""
    counts = Counter(tensor.name for tensor in tensors)
    for tensor in tensors:
        if counts[tensor.name] == 1:
            yield tensor
        else:
            name = tensor.place.removesuffix(":0")
            yield dataclasses.replace(tensor, name=name, aliases=(tensor.name, *tensor.aliases))


def _bfloat16() -> Any:
    import ml_dtypes

    return ml_dtypes.bfloat16
