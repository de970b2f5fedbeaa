"""TensorFlow Datasets as input: prepared once, under a lock, and then only read.

Preparing may download, generate and write; reading does none of these and
needs no network, so any number of tasks can read at the same time.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf
import tensorflow_datasets as tfds

from orchestrator.data.file_lock import hold_file_lock
from orchestrator.data.sharding import WHOLE, Shard
from orchestrator.errors import EnvironmentProblem

LOG = logging.getLogger("orchestrator")
PREPARE_WAIT_SECONDS = 3600.0
"""How long to wait for another process that prepares the same data."""


@dataclass(frozen=True)
class TfdsInput:
    """A TFDS data set in a directory.

    Args:
      builder: a registered name (`mnist`, `mnist:3.0.1`, `c4/en`) or a builder class.
      data_dir: where prepared data sets lie; None for TFDS's own default, which is the
        variable TFDS_DATA_DIR or ~/tensorflow_datasets.
    """

    builder: str | type[tfds.core.DatasetBuilder]
    data_dir: str | None = None

    @property
    def name(self) -> str:
        """The name as users write it."""
        return self.builder if isinstance(self.builder, str) else self.builder.name

    def prepare(
        self, wait_seconds: float = PREPARE_WAIT_SECONDS, say: Callable[[str], None] = LOG.info
    ) -> None:
        """Makes sure that the data set is complete on disk; does nothing where it is.

        One process prepares, others wait for it at most `wait_seconds`; `say` is told what happens.
        Call it before tasks start: it may take long and uses eager TensorFlow.

        Raises WaitTimeout, and EnvironmentProblem when the data cannot be made.
        """
        builder = self._open()
        if _is_prepared(builder):
            return
        # Per data set, not per version: versions of one builder may share its downloads.
        lock = Path(builder.data_dir_root) / f".{builder.name}.lock"
        with hold_file_lock(lock, f"prepare {self.name}", wait_seconds, say=say):
            builder = self._open()
            if _is_prepared(builder):
                say(f"{self.name} was prepared meanwhile in {builder.data_dir}")
                return
            _generate(builder)
            sizes = ", ".join(f"{split} {info.num_examples}" for split, info in builder.info.splits.items())
            say(f"prepared {builder.info.full_name} in {builder.data_dir} (examples: {sizes})")

    def read(
        self, split: str, shard: Shard = WHOLE, *, decoders: Any = None, as_supervised: bool = True
    ) -> tf.data.Dataset:
        """The examples of a split, or of one shard of it, in the order of the files.

        Shards divide the split by position and read only the files that hold
        their part, so they work with any number of files and differ by one example at most.

        Args:
          split: as TFDS has it, `train` or `train[:80%]`.
          shard: the part to read.
          decoders: as `tfds.core.DatasetBuilder.as_dataset` takes them.
          as_supervised: pairs of features and label instead of a dict.

        Raises EnvironmentProblem when the data set has not been prepared.
        """
        builder = self._open()
        if not _is_prepared(builder):
            raise EnvironmentProblem(
                f"data set {self.name} is not prepared in {builder.data_dir}. Tasks only read: give the "
                "experiment's module a function prepare_data(data_dir, **params) that calls "
                "TfdsInput(...).prepare(), which the launcher runs once before the tasks, "
                "or give the --data-dir that holds it."
            )
        part = tfds.even_splits(split, n=shard.count)[shard.index] if shard.count > 1 else split
        # With files in order and nothing drawn at random, a restored position means the same example.
        config = tfds.ReadConfig(skip_prefetch=True)
        return builder.as_dataset(
            split=part,
            read_config=config,
            decoders=decoders,
            as_supervised=as_supervised,
            shuffle_files=False,
        )

    def _open(self) -> tfds.core.DatasetBuilder:
        _stay_off_the_network()
        if isinstance(self.builder, str):
            return tfds.builder(self.builder, data_dir=self.data_dir, try_gcs=False)
        return self.builder(data_dir=self.data_dir)


def _is_prepared(builder: tfds.core.DatasetBuilder) -> bool:
    # TFDS warns about a directory without this file; here it only means "not yet".
    return (builder.data_path / "dataset_info.json").exists() and builder.is_prepared()


def _generate(builder: tfds.core.DatasetBuilder) -> None:
    tfds.disable_progress_bar()
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
    except OSError as error:
        raise EnvironmentProblem(f"cannot prepare {builder.name} in {builder.data_dir}: {error}") from error
    if not _is_prepared(builder):
        raise EnvironmentProblem(
            f"{builder.data_dir} is there but holds no complete data set; remove it and start again."
        )


def _stay_off_the_network() -> None:
    """Keeps TFDS from looking for metadata in its own bucket, which blocks for minutes without a network.

    Newer releases never look; for the older ones there is no public switch.
    """
    from tensorflow_datasets.core.utils import gcs_utils

    if hasattr(gcs_utils, "_is_gcs_disabled"):
        gcs_utils._is_gcs_disabled = True
