"""What an HDF5 file may hold to be read: data of its own, and nothing that points outside of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import h5py

from orchestrator.errors import CheckpointError

MAX_DEPTH = 64
MAX_OBJECTS = 1_000_000


def open_guarded(file: Any, path: str) -> h5py.File:
    """Opens for reading and looks through the whole file before anything is read.

    Raises CheckpointError for a file that is damaged, and for one with links
    to other files, linked names, data kept elsewhere or virtual data.
    """
    try:
        opened = h5py.File(file, "r")
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read as HDF5: {error}.") from error
    try:
        for _ in datasets(opened, path):
            pass
    except CheckpointError:
        opened.close()
        raise
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        opened.close()
        raise CheckpointError(f"{path}: damaged HDF5 file: {error}.") from error
    return opened


def datasets(root: h5py.Group, path: str) -> Iterator[tuple[str, h5py.Dataset]]:
    """Every data set below `root` with its name; raises CheckpointError at the first foreign link."""
    waiting: list[tuple[str, h5py.Group, int]] = [("", root, 0)]
    seen = 0
    while waiting:
        prefix, group, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise CheckpointError(f"{path}: groups are nested more than {MAX_DEPTH} deep at '{prefix}'.")
        for key in group:
            seen += 1
            if seen > MAX_OBJECTS:
                raise CheckpointError(f"{path}: more than {MAX_OBJECTS} objects, or groups in a circle.")
            name = f"{prefix}/{key}" if prefix else key
            _check_link(group.get(key, getlink=True), name, path)
            item = group[key]
            if isinstance(item, h5py.Group):
                waiting.append((name, item, depth + 1))
            elif isinstance(item, h5py.Dataset):
                _check_dataset(item, name, path)
                yield name, item


def _check_link(link: Any, name: str, path: str) -> None:
    if isinstance(link, h5py.ExternalLink):
        raise CheckpointError(
            f"{path}: '{name}' is a link to another file ({link.filename}). Such files are refused: weights"
            " must be in the file itself."
        )
    if not isinstance(link, h5py.HardLink):
        raise CheckpointError(f"{path}: '{name}' is a symbolic link, which no weight file needs. Refused.")


def _check_dataset(item: h5py.Dataset, name: str, path: str) -> None:
    if item.external:
        raise CheckpointError(
            f"{path}: the data of '{name}' lie in another file ({item.external[0][0]}). Refused: weights must"
            " be in the file itself."
        )
    if item.is_virtual:
        raise CheckpointError(f"{path}: '{name}' is put together from other files. Refused.")
    if item.shape is None:
        return
    size = math.prod(item.shape) * item.dtype.itemsize
    if size > 0 and item.id.get_storage_size() == 0 and size > 1 << 20:
        raise CheckpointError(f"{path}: '{name}' claims {size} bytes, and none of them are in the file.")
    if size > 0 and item.chunks is None and item.id.get_storage_size() not in (0, size):
        raise CheckpointError(f"{path}: '{name}' is truncated.")
