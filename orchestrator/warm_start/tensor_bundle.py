"""TensorFlow's own checkpoints: by name (TensorFlow 1) and by object (TensorFlow 2, SavedModels)."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from orchestrator.errors import CheckpointError
from orchestrator.warm_start.file_systems import first_line
from orchestrator.warm_start.roles import with_roles
from orchestrator.warm_start.tensors import Role, SourceTensor

OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
_SLOT = "/.OPTIMIZER_SLOT/"
_OTHER_ATTRIBUTE = "/.ATTRIBUTES/"
_OPTIMIZERS = frozenset({"optimizer", "_optimizer", "keras_optimizer"})
_COUNTERS = frozenset({"save_counter", "keras_api"})
_NO_TABLE = "it is damaged, or a file of another kind."
_READING_FAILED = (ValueError, RuntimeError, tf.errors.OpError)


class TensorBundleReader:
    """A checkpoint `PREFIX.index` with data files, or a single file of the oldest format."""

    def __init__(self, prefix: str) -> None:
        self.path = prefix
        try:
            self._reader = tf.compat.v1.train.NewCheckpointReader(prefix)
            shapes = self._reader.get_variable_to_shape_map()
            dtypes = self._reader.get_variable_to_dtype_map()
        except _READING_FAILED as error:
            reason = _NO_TABLE if "not an sstable" in str(error) else first_line(error)
            raise CheckpointError(f"{prefix}: cannot be read as a TensorFlow checkpoint: {reason}") from error
        by_object = OBJECT_GRAPH in shapes
        self.kind = f"TensorFlow checkpoint ({'by object' if by_object else 'by name'})"
        stored = [SourceTensor(name, tuple(shapes[name]), dtypes[name].name) for name in shapes]
        self._check_length(stored)
        self._tensors = sorted(self._by_object(stored), key=_name) if by_object else with_roles(stored)

    def tensors(self) -> list[SourceTensor]:
        """All tensors, sorted by name; the object graph itself is left out."""
        return self._tensors

    def read(self, tensor: SourceTensor) -> Any:
        """The value, put together where it was saved in slices."""
        try:
            return self._reader.get_tensor(tensor.place)
        except _READING_FAILED as error:
            raise CheckpointError(f"{self.path}: cannot read {tensor.place}: {first_line(error)}") from error

    def close(self) -> None:
        """Nothing to do: TensorFlow closes the files with the reader."""

    def _check_length(self, stored: list[SourceTensor]) -> None:
        """Truncated data files are told before training has waited for its first tensor."""
        directory, name = os.path.split(self.path)
        files = [n for n in tf.io.gfile.listdir(directory or ".") if n.startswith(f"{name}.data-")]
        if not files:  # the oldest format
            return
        there = sum(tf.io.gfile.stat(os.path.join(directory, n)).length for n in files)
        wanted = sum(t.size for t in stored)
        if there < wanted:
            raise CheckpointError(
                f"{self.path}: truncated: its tensors take {wanted} bytes, its data files have {there}."
                " Copy the checkpoint again."
            )

    def _by_object(self, stored: list[SourceTensor]) -> Iterator[SourceTensor]:
        """Object paths as names; the names of the variables that were saved, as aliases."""
        full_names = self._full_names()
        for tensor in stored:
            if tensor.name == OBJECT_GRAPH:
                continue
            name = tensor.name.removesuffix(_VALUE)
            alias = full_names.get(tensor.name, "")
            yield dataclasses.replace(
                tensor,
                name=name,
                key=tensor.name,
                role=_object_role(tensor, name, alias),
                aliases=(alias,) if alias and alias != name else (),
            )

    def _full_names(self) -> dict[str, str]:
        from tensorflow.core.protobuf import trackable_object_graph_pb2 as schema

        try:
            graph = schema.TrackableObjectGraph.FromString(self._reader.get_tensor(OBJECT_GRAPH))
        except Exception as error:
            raise CheckpointError(
                f"{self.path}: its object graph cannot be read: {first_line(error)}"
            ) from error
        return {
            attribute.checkpoint_key: attribute.full_name
            for node in graph.nodes
            for attribute in node.attributes
            if attribute.full_name
        }


def _object_role(tensor: SourceTensor, name: str, alias: str) -> Role:
    if name == "global_step" or alias == "global_step":
        return Role.STEP
    if _SLOT in name:
        return Role.SLOT
    parts = name.split("/")
    owner = next((i for i, part in enumerate(parts[:-1]) if part in _OPTIMIZERS), None)
    if owner is not None:
        # An optimizer of Keras 3 also refers to the model's own weights; saved once, they may stand there.
        return Role.WEIGHT if parts[owner + 1] == "_trainable_variables" else Role.SLOT
    if parts[0] in _COUNTERS or _OTHER_ATTRIBUTE in name or tensor.dtype == "string":
        return Role.OTHER
    return Role.WEIGHT


def _name(tensor: SourceTensor) -> str:
    return tensor.name
