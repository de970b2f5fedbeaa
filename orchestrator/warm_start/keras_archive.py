"""`.keras` archives: the weights in them, and from their description the layers' names alone."""

from __future__ import annotations

import json
import posixpath
import re
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Iterator
from typing import IO, Any

from orchestrator.errors import CheckpointError
from orchestrator.warm_start.file_systems import is_remote, local_copy, require_room
from orchestrator.warm_start.hdf5_guard import open_guarded
from orchestrator.warm_start.hdf5_weights import Hdf5WeightsReader

WEIGHTS = "model.weights.h5"
_DESCRIPTION = "config.json"
_MAX_DESCRIPTION = 64 << 20
_COPY_BYTES = 1 << 20


def open_archive(path: str) -> Hdf5WeightsReader:
    """The weights of a `.keras` archive; no code, class or configuration of it is used.

    They are copied to an unnamed temporary file, since HDF5 needs one. Raises
    CheckpointError for a damaged archive, and for members that lie outside.
    """
    try:
        with zipfile.ZipFile(local_copy(path) if is_remote(path) else path) as archive:
            for member in archive.infolist():
                _check_member(member, path)
            if WEIGHTS not in archive.namelist():
                raise CheckpointError(f"{path}: holds no {WEIGHTS}; it is no Keras archive of one file.")
            layers = _layer_names(archive)
            copy = _copied(archive, path)
    except (zipfile.BadZipFile, OSError, EOFError, RuntimeError, NotImplementedError) as error:
        raise CheckpointError(f"{path}: cannot be read as a Keras archive: {error}.") from error
    reader = Hdf5WeightsReader(open_guarded(copy, path), path, layers)
    reader.kind = "Keras archive"
    return reader


def _check_member(member: zipfile.ZipInfo, path: str) -> None:
    name = member.filename.replace("\\", "/")
    outside = name.startswith("/") or ".." in name.split("/") or re.match(r"[A-Za-z]:", name)
    if outside or posixpath.isabs(name):
        raise CheckpointError(f"{path}: its member '{member.filename}' lies outside of the archive. Refused.")
    if stat.S_ISLNK(member.external_attr >> 16):
        raise CheckpointError(f"{path}: its member '{member.filename}' is a symbolic link. Refused.")


def _copied(archive: zipfile.ZipFile, path: str) -> IO[bytes]:
    member = archive.getinfo(WEIGHTS)
    require_room(member.file_size, path)
    copy = tempfile.TemporaryFile()  # noqa: SIM115  (the reader closes it with the file it is given)
    with archive.open(member) as stream:
        shutil.copyfileobj(stream, copy, _COPY_BYTES)
    copy.seek(0)
    return copy


def _layer_names(archive: zipfile.ZipFile) -> dict[str, str]:
    """Names of layers by their path in the weight file; empty where the description is unusual."""
    try:
        member = archive.getinfo(_DESCRIPTION)
        if member.file_size > _MAX_DESCRIPTION:
            return {}
        description = json.loads(archive.read(member))
        return dict(_named(description["config"], "layers"))
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return {}


def _named(config: dict[str, Any], path: str) -> Iterator[tuple[str, str]]:
    """Keras 3 stores layers by class, counted: dense, dense_1."""
    counts: dict[str, int] = {}
    for layer in config["layers"]:
        kind = _snake_case(layer["class_name"])
        number = counts.get(kind, 0)
        counts[kind] = number + 1
        place = f"{path}/{kind}_{number}" if number else f"{path}/{kind}"
        yield place, str(layer["config"]["name"])
        if "layers" in layer["config"]:
            yield from _named(layer["config"], f"{place}/layers")


def _snake_case(name: str) -> str:
    name = re.sub(r"\W+", "", name)
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()
