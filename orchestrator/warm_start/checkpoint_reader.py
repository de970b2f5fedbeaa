"""Opens a checkpoint of any kind for reading: names first, then one tensor at a time."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Protocol

from orchestrator.errors import CheckpointError, WarmStartError
from orchestrator.warm_start.location import Location, Storage, locate
from orchestrator.warm_start.tensors import Role, SourceTensor


class UnreadableSource(WarmStartError, CheckpointError):
    """A file that was named to be read from is damaged, of another kind, or not to be trusted."""


class CheckpointReader(Protocol):
    """Weights on disk. Nothing of the file is ever executed: no model is built, no function deserialised."""

    path: str
    """What is read: a prefix or a file."""
    kind: str
    """For people, such as 'TensorFlow checkpoint (by name)'."""

    def tensors(self) -> list[SourceTensor]:
        """All tensors, sorted by name."""

    def read(self, tensor: SourceTensor) -> Any:
        """The value, a NumPy array of `tensor.shape`. Raises CheckpointError where it cannot be read."""

    def close(self) -> None:
        """Lets go of the file."""


@dataclass(frozen=True)
class OpenCheckpoint:
    """A reader and where its files were found; a context that closes it."""

    location: Location
    reader: CheckpointReader

    @property
    def path(self) -> str:
        return self.reader.path

    @property
    def kind(self) -> str:
        return self.reader.kind

    def tensors(self) -> list[SourceTensor]:
        """All tensors, sorted by name."""
        return self.reader.tensors()

    def read(self, tensor: SourceTensor) -> Any:
        """The value of one tensor, as a NumPy array."""
        return self.reader.read(tensor)

    def global_step(self) -> int | None:
        """The step stored in the checkpoint; None where it has none."""
        steps = [tensor for tensor in self.tensors() if tensor.role is Role.STEP and not tensor.shape]
        return int(self.read(steps[0])) if steps else None

    def __enter__(self) -> OpenCheckpoint:
        return self

    def __exit__(self, *details: object) -> None:
        self.reader.close()


def open_checkpoint(path: str | os.PathLike[str], what: str = "checkpoint") -> OpenCheckpoint:
    """Opens what `locate` finds; `what` names the option or key in errors.

    Raises WarmStartError where there is no checkpoint, UnreadableSource for one
    that cannot be read or must not be trusted.
    """
    location = locate(path, what)
    try:
        return OpenCheckpoint(location, _reader(location))
    except CheckpointError as error:
        raise UnreadableSource(str(error)) from None  # the text says it all


def _reader(location: Location) -> CheckpointReader:
    if location.storage is Storage.TENSORFLOW:
        from orchestrator.warm_start.tensor_bundle import TensorBundleReader

        return TensorBundleReader(location.path)
    if location.storage is Storage.HDF5:
        from orchestrator.warm_start.hdf5_weights import Hdf5WeightsReader

        return Hdf5WeightsReader.open(location.path)
    from orchestrator.warm_start.keras_archive import open_archive

    return open_archive(location.path)
