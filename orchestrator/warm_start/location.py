"""Where the files of a checkpoint are: from what a user names to a prefix or a file.

Needs TensorFlow for places like `gs://bucket/model` alone.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from enum import Enum

from orchestrator.errors import CheckpointError, WarmStartError, near_miss
from orchestrator.warm_start.file_systems import FileSystem, file_system_of, is_remote

STATE_FILE = "checkpoint"
_NEWEST = re.compile(r'^model_checkpoint_path:\s*"((?:[^"\\]|\\.)*)"', re.MULTILINE)
_STEP = re.compile(r"(?P<stem>.*?)-(?P<step>\d+)")
_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
_MAX_STATE_BYTES = 1 << 24
_WEIGHT_FILES = (".h5", ".hdf5", ".keras")
_NOT_READ = (".pkl", ".pickle", ".pt", ".pth", ".npy", ".npz", ".joblib")


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
    if not is_remote(text):
        text = os.path.expanduser(text)
    if not text.endswith("://"):
        text = text.rstrip("/") or "/"
    try:
        return _Search(file_system_of(text), what).anything(text)
    except OSError as error:
        raise WarmStartError(f"{what}: {text}: {error.strerror or error}.") from error


@dataclass(frozen=True)
class _Search:
    files: FileSystem
    what: str

    def anything(self, path: str) -> Location:
        # First, since stores of objects take any beginning of names for a directory.
        if self.files.is_file(f"{path}.index"):
            return self._of_prefix(path)
        if self.files.is_dir(path):
            return self._in_directory(path)
        if self.files.is_file(path):
            return self._of_file(path)
        return self._of_prefix(path)

    def _of_file(self, path: str) -> Location:
        start = self.files.start(path, 8)
        directory, name = os.path.split(path)
        if start == _HDF5_MAGIC or name.endswith((".h5", ".hdf5")):
            return Location(Storage.HDF5, path)
        if start[:4] == b"PK\x03\x04" or name.endswith(".keras"):
            return Location(Storage.KERAS_ARCHIVE, path)
        for ending in (".index", ".meta"):
            if name.endswith(ending):
                return self._of_prefix(path.removesuffix(ending))
        shard = re.fullmatch(r"(.+)\.data-\d{5}-of-\d{5}", path)
        if shard:
            return self._of_prefix(shard[1])
        if name == STATE_FILE:
            return self._in_directory(directory)
        if name.endswith(_NOT_READ):
            raise WarmStartError(
                f"{self.what}: {path} is no TensorFlow or Keras checkpoint, and files of this kind"
                f" ({os.path.splitext(name)[1]}) are not read."
            )
        return Location(Storage.TENSORFLOW, path)

    def _of_prefix(self, prefix: str) -> Location:
        if not self.files.is_file(f"{prefix}.index"):
            raise WarmStartError(f"{self.what}: {prefix}: there is no such checkpoint.{self._near(prefix)}")
        self._require_data_files(prefix)
        return Location(Storage.TENSORFLOW, prefix)

    def _require_data_files(self, prefix: str) -> None:
        directory, name = os.path.split(prefix)
        pattern = re.compile(re.escape(name) + r"\.data-\d+-of-(\d+)")
        shards = [found for found in map(pattern.fullmatch, self.files.names(directory)) if found]
        if not shards:
            raise CheckpointError(
                f"{self.what}: {prefix}.index is there without its data files {name}.data-*: the checkpoint"
                " is incomplete. Copy all of its files."
            )
        total, there = int(shards[0][1]), {shard[0] for shard in shards}
        wanted = (f"{name}.data-{number:05d}-of-{total:05d}" for number in range(total))
        missing = [shard for shard in wanted if shard not in there]
        if missing:
            raise CheckpointError(
                f"{self.what}: {prefix} lacks {missing[0]} ({len(missing)} of {total} data files are"
                " missing). Copy all of its files."
            )

    def _near(self, prefix: str) -> str:
        directory, name = os.path.split(prefix)
        if not self.files.is_dir(directory):
            return f" There is no directory {directory} either."
        known = (self._known_name(directory, other) for other in self.files.names(directory))
        names = sorted({*known} - {""})
        hint = near_miss(name, names)
        if hint or not names:
            return hint or f" {directory or 'This directory'} holds no checkpoint."
        more = "" if len(names) <= 5 else f" and {len(names) - 5} more"
        return f" {directory or 'This directory'} holds: {', '.join(names[:5])}{more}."

    def _known_name(self, directory: str, name: str) -> str:
        if name.endswith(_WEIGHT_FILES) or self.files.is_dir(os.path.join(directory, name)):
            return name
        return name.removesuffix(".index") if name.endswith(".index") else ""

    def _in_directory(self, directory: str) -> Location:
        variables = os.path.join(directory, "variables", "variables")
        exported = self.files.is_file(os.path.join(directory, "saved_model.pb"))
        if exported or self.files.is_file(f"{variables}.index"):
            found = self._of_prefix(variables)
            return Location(found.storage, found.path, "the variables of a SavedModel")
        named = self._named_by_state_file(directory)
        if named is not None:
            found = self._of_prefix(named)
            return Location(found.storage, found.path, "the newest by the directory's state file")
        return self._only_choice(directory)

    def _named_by_state_file(self, directory: str) -> str | None:
        """The checkpoint that the state file names, when its files are in this directory."""
        state = os.path.join(directory, STATE_FILE)
        if not self.files.is_file(state):
            return None
        text = self.files.start(state, _MAX_STATE_BYTES).decode("utf-8", "replace")
        match = _NEWEST.search(text)
        if match is None:
            return None
        written = re.sub(r"\\(.)", r"\1", match[1])
        candidates = [os.path.join(directory, os.path.basename(written))]
        if not os.path.isabs(written) and not is_remote(written):
            candidates.append(os.path.join(directory, written))
        return next((c for c in candidates if self.files.is_file(f"{c}.index")), None)

    def _only_choice(self, directory: str) -> Location:
        """The one checkpoint of a directory without a usable state file: the last of a series, or a file."""
        names = sorted(self.files.names(directory))
        prefixes = [name.removesuffix(".index") for name in names if name.endswith(".index")]
        weights = [name for name in names if name.endswith(_WEIGHT_FILES)]
        if prefixes and not weights:
            chosen = _last_of_series(prefixes)
            if chosen is not None:
                found = self._of_prefix(os.path.join(directory, chosen))
                only = len(prefixes) == 1
                note = "the only one in the directory" if only else "the last by its step number"
                return Location(found.storage, found.path, note)
        if len(weights) == 1 and not prefixes:
            return self._of_file(os.path.join(directory, weights[0]))
        choices = prefixes + weights
        if choices:
            raise WarmStartError(
                f"{self.what}: the directory {directory} holds several checkpoints ({', '.join(choices[:8])})"
                " and no state file says which is the newest. Name one of them."
            )
        hint = self._saved_models(directory, names)
        raise WarmStartError(f"{self.what}: the directory {directory} holds no checkpoint.{hint}")

    def _saved_models(self, directory: str, names: list[str]) -> str:
        exports = [n for n in names if self.files.is_file(os.path.join(directory, n, "saved_model.pb"))]
        return f" It holds SavedModels: {', '.join(exports[:5])}; name one of them." if exports else ""


def _last_of_series(prefixes: list[str]) -> str | None:
    if len(prefixes) == 1:
        return prefixes[0]
    matches = [_STEP.fullmatch(prefix) for prefix in prefixes]
    numbered = [match for match in matches if match is not None]
    if len(numbered) != len(prefixes) or len({match["stem"] for match in numbered}) > 1:
        return None
    return max(numbered, key=lambda match: int(match["step"])).group()
