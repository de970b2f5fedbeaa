"""Looking at files where they are: on this machine, or at `gs://` and wherever else TensorFlow reaches."""

from __future__ import annotations

import os
import shutil
import tempfile
from typing import IO, Any, Protocol

from orchestrator.errors import CheckpointError, WarmStartError

_COPY_BYTES = 1 << 20


class FileSystem(Protocol):
    """What is asked of files before they are read. Errors are OSErrors, or WarmStartErrors."""

    def is_dir(self, path: str) -> bool:
        """Whether it is a directory."""

    def is_file(self, path: str) -> bool:
        """Whether it is there, and no directory."""

    def names(self, directory: str) -> list[str]:
        """What is in a directory, in no order."""

    def start(self, path: str, count: int) -> bytes:
        """At most the first `count` bytes."""


def is_remote(path: str) -> bool:
    """Whether a path names its own file system, as `gs://bucket/model` does."""
    return "://" in path


def file_system_of(path: str) -> FileSystem:
    """Where the path is; TensorFlow is imported only for a remote one."""
    return RemoteFiles(path) if is_remote(path) else LocalFiles()


class LocalFiles:
    """Files of this machine."""

    def is_dir(self, path: str) -> bool:
        return os.path.isdir(path or ".")

    def is_file(self, path: str) -> bool:
        return os.path.isfile(path)

    def names(self, directory: str) -> list[str]:
        return os.listdir(directory or ".")

    def start(self, path: str, count: int) -> bytes:
        with open(path, "rb") as stream:
            return stream.read(count)


class RemoteFiles:
    """Files of a file system that TensorFlow knows: its own, and those of plug-ins that are loaded.

    Raises WarmStartError where the file system is unknown or does not answer.
    """

    def __init__(self, path: str) -> None:
        self._asked = path
        # Questions about kinds of files answer False for every failure; this one tells.
        self._call("exists", path)

    def _call(self, name: str, *words: Any) -> Any:
        import tensorflow as tf

        try:
            return getattr(tf.io.gfile, name)(*words)
        except tf.errors.UnimplementedError as error:
            scheme = self._asked.partition("://")[0]
            raise WarmStartError(
                f"{self._asked}: TensorFlow has no file system for {scheme}:// here. Install the plug-in that"
                " brings it and import it in the experiment's module, or copy the checkpoint to a disk."
            ) from error
        except tf.errors.OpError as error:
            raise WarmStartError(f"{self._asked}: {first_line(error)}") from error

    def is_dir(self, path: str) -> bool:
        return bool(self._call("isdir", path))

    def is_file(self, path: str) -> bool:
        return bool(self._call("exists", path)) and not self.is_dir(path)

    def names(self, directory: str) -> list[str]:
        return [name.rstrip("/") for name in self._call("listdir", directory)]

    def start(self, path: str, count: int) -> bytes:
        import tensorflow as tf

        try:
            with tf.io.gfile.GFile(path, "rb") as stream:
                return bytes(stream.read(count))
        except tf.errors.OpError as error:
            raise WarmStartError(f"{path}: {first_line(error)}") from error


def local_copy(path: str) -> IO[bytes]:
    """A remote file's content in an unnamed temporary file, for libraries that read local files alone.

    Raises CheckpointError where it cannot be read, or the disk has no room.
    """
    import tensorflow as tf

    try:
        size = tf.io.gfile.stat(path).length
        require_room(size, path)
        copy = tempfile.TemporaryFile()  # noqa: SIM115  (whoever reads it closes it)
        with tf.io.gfile.GFile(path, "rb") as stream:
            while block := stream.read(_COPY_BYTES):
                copy.write(block)
    except tf.errors.OpError as error:
        raise CheckpointError(f"{path}: cannot be read: {first_line(error)}") from error
    copy.seek(0)
    return copy


def require_room(size: int, path: str) -> None:
    """Raises CheckpointError where the directory of temporary files cannot hold so many bytes."""
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if size > free:
        raise CheckpointError(
            f"{path}: its weights claim {size} bytes, and {tempfile.gettempdir()} has {free} free."
        )


def first_line(error: BaseException) -> str:
    """What an error says, without the lines about where."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
