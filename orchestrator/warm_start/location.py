"""Where the files of a checkpoint are: from what a user names to a prefix or a file. No TensorFlow."""

from __future__ import annotations

import os
import re
import zipfile
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from orchestrator.errors import CheckpointError, WarmStartError, near_miss

STATE_FILE = "checkpoint"
_NEWEST = re.compile(r'^model_checkpoint_path:\s*"((?:[^"\\]|\\.)*)"', re.MULTILINE)
_STEP = re.compile(r"(?P<stem>.*?)-(?P<step>\d+)")
_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
_MAX_STATE_BYTES = 1 << 24


class Storage(str, Enum):
    """The three ways in which weights lie on disk."""

    TENSORFLOW = "tensorflow"
    """A checkpoint: `PREFIX.index` with its data files, or one file of the oldest format."""
    HDF5 = "hdf5"
    KERAS_ARCHIVE = "keras"
    """A `.keras` archive."""


@dataclass(frozen=True)
class Location:
    """Files that hold weights."""

    storage: Storage
    path: str
    """The prefix, for TENSORFLOW; else the file."""
    note: str = ""
    """How it was chosen, where the user named a directory."""


def locate(path: str | os.PathLike[str], what: str = "checkpoint") -> Location:
    """Finds the files of what a user names: a prefix, a file, or a directory.

    A directory is a SavedModel, a model directory, or one that holds a single
    checkpoint; its state file is believed only as to the name, since the paths
    in it may be another machine's. `what` names the option or key in errors.

    Raises WarmStartError where nothing is there or the choice is not clear, and
    CheckpointError where files are incomplete.
    """
    text = os.fspath(path)
    if not text.strip():
        raise WarmStartError(f"{what}: empty. Name a checkpoint.")
    if "://" in text:
        return Location(Storage.TENSORFLOW, text)
    place = Path(text).expanduser()
    try:
        if place.is_dir():
            return _in_directory(place, what)
        if place.is_file():
            return _of_file(place, what)
        return _of_prefix(place, what)
    except OSError as error:
        raise WarmStartError(f"{what}: {text}: {error.strerror or error}.") from error


def _of_file(place: Path, what: str) -> Location:
    with place.open("rb") as stream:
        start = stream.read(8)
    if start == _HDF5_MAGIC or place.suffix in (".h5", ".hdf5"):
        return Location(Storage.HDF5, str(place))
    if place.suffix == ".keras" or (start[:4] == b"PK\x03\x04" and zipfile.is_zipfile(place)):
        return Location(Storage.KERAS_ARCHIVE, str(place))
    for ending in (".index", ".meta"):
        if place.name.endswith(ending):
            return _of_prefix(place.with_name(place.name.removesuffix(ending)), what)
    shard = re.fullmatch(r"(.+)\.data-\d{5}-of-\d{5}", place.name)
    if shard:
        return _of_prefix(place.with_name(shard[1]), what)
    if place.name == STATE_FILE:
        return _in_directory(place.parent, what)
    if place.suffix in (".pkl", ".pickle", ".pt", ".pth", ".npy", ".npz", ".joblib"):
        raise WarmStartError(
            f"{what}: {place} is no TensorFlow or Keras checkpoint, and files of this kind ({place.suffix})"
            " are not read."
        )
    return Location(Storage.TENSORFLOW, str(place))


def _of_prefix(place: Path, what: str) -> Location:
    index = place.with_name(f"{place.name}.index")
    if not index.is_file():
        raise WarmStartError(f"{what}: {place}: there is no such checkpoint.{_near(place)}")
    _require_data_files(place, what)
    return Location(Storage.TENSORFLOW, str(place))


def _require_data_files(prefix: Path, what: str) -> None:
    shards = sorted(p.name for p in prefix.parent.glob(_quoted(prefix.name) + ".data-*-of-*"))
    if not shards:
        raise CheckpointError(
            f"{what}: {prefix}.index is there without its data files {prefix.name}.data-*: the checkpoint is"
            " incomplete. Copy all of its files."
        )
    total = int(shards[0].rpartition("-of-")[2])
    missing = [
        n
        for n in (f"{prefix.name}.data-{number:05d}-of-{total:05d}" for number in range(total))
        if n not in shards
    ]
    if missing:
        raise CheckpointError(
            f"{what}: {prefix} lacks {missing[0]} ({len(missing)} of {total} data files are missing)."
            " Copy all of its files."
        )


def _quoted(name: str) -> str:
    return re.sub(r"([*?\[])", r"[\1]", name)


def _near(place: Path) -> str:
    parent = place.parent
    if not parent.is_dir():
        return f" There is no directory {parent} either."
    names = sorted({_known_name(p) for p in parent.iterdir()} - {""})
    hint = near_miss(place.name, names)
    if hint or not names:
        return hint or f" {parent} holds no checkpoint."
    more = "" if len(names) <= 5 else f" and {len(names) - 5} more"
    return f" {parent} holds: {', '.join(names[:5])}{more}."


def _known_name(path: Path) -> str:
    if path.is_dir() or path.suffix in (".h5", ".hdf5", ".keras"):
        return path.name
    return path.name.removesuffix(".index") if path.name.endswith(".index") else ""


def _in_directory(directory: Path, what: str) -> Location:
    variables = directory / "variables" / "variables"
    if (directory / "saved_model.pb").exists() or variables.with_name("variables.index").exists():
        found = _of_prefix(variables, what)
        return Location(found.storage, found.path, "the variables of a SavedModel")
    named = _named_by_state_file(directory)
    if named is not None:
        found = _of_prefix(named, what)
        return Location(found.storage, found.path, "the newest by the directory's state file")
    return _only_choice(directory, what)


def _named_by_state_file(directory: Path) -> Path | None:
    """The checkpoint that the state file names, when its files are in this directory."""
    state = directory / STATE_FILE
    if not state.is_file():
        return None
    text = state.read_bytes()[:_MAX_STATE_BYTES].decode("utf-8", "replace")
    match = _NEWEST.search(text)
    if match is None:
        return None
    written = re.sub(r"\\(.)", r"\1", match[1])
    candidates = [directory / os.path.basename(written)]
    if not os.path.isabs(written):
        candidates.append(directory / written)
    return next((c for c in candidates if c.with_name(f"{c.name}.index").is_file()), None)


def _only_choice(directory: Path, what: str) -> Location:
    """The one checkpoint of a directory without a usable state file: the last of one series, or a file."""
    prefixes = sorted(p.name.removesuffix(".index") for p in directory.glob("*.index"))
    weights = sorted(p.name for p in directory.iterdir() if p.suffix in (".h5", ".hdf5", ".keras"))
    if prefixes and not weights:
        chosen = _last_of_series(prefixes)
        if chosen is not None:
            found = _of_prefix(directory / chosen, what)
            note = "the only one in the directory" if len(prefixes) == 1 else "the last by its step number"
            return Location(found.storage, found.path, note)
    if len(weights) == 1 and not prefixes:
        return _of_file(directory / weights[0], what)
    choices = prefixes + weights
    if not choices:
        exports = sorted(p.parent.name for p in directory.glob("*/saved_model.pb"))
        hint = f" It holds SavedModels: {', '.join(exports[:5])}; name one of them." if exports else ""
        raise WarmStartError(f"{what}: the directory {directory} holds no checkpoint.{hint}")
    raise WarmStartError(
        f"{what}: the directory {directory} holds several checkpoints ({', '.join(choices[:8])}) and no state"
        " file says which is the newest. Name one of them."
    )


def _last_of_series(prefixes: list[str]) -> str | None:
    if len(prefixes) == 1:
        return prefixes[0]
    matches = [_STEP.fullmatch(prefix) for prefix in prefixes]
    numbered = [match for match in matches if match is not None]
    if len(numbered) != len(prefixes) or len({match["stem"] for match in numbered}) > 1:
        return None
    return max(numbered, key=lambda match: int(match["step"])).group()
