"""Which part of the training data a task reads, so that no example is read twice in one pass.

Three arrangements exist. One process that feeds all its replicas reads
everything. A strategy over several processes hands its input function a
`tf.distribute.InputContext`, which says the part. Between-graph parameter
servers hand out nothing: there the task's place in the cluster is the part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from orchestrator.errors import ConfigError

if TYPE_CHECKING:
    import tensorflow as tf


@dataclass(frozen=True)
class Shard:
    """Part `index` of `count` disjoint parts that together are everything."""

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if self.count < 1 or not 0 <= self.index < self.count:
            raise ConfigError(f"there is no shard {self.index} of {self.count}; the index counts from 0.")


WHOLE = Shard()
"""All of the data."""


class TrainingPlace(Protocol):
    """What is asked of a RunConfig."""

    @property
    def task_type(self) -> str | None: ...
    @property
    def task_id(self) -> int: ...
    @property
    def num_worker_replicas(self) -> int: ...
    @property
    def cluster_spec(self) -> Any: ...
    @property
    def train_distribute(self) -> Any: ...


def training_shard(config: TrainingPlace, input_context: tf.distribute.InputContext | None = None) -> Shard:
    """The part of the training data that the calling task reads.

    Args:
      config: the RunConfig of this task.
      input_context: what the strategy gave to the input function, if it did.
    """
    if input_context is not None:
        return Shard(input_context.input_pipeline_id, input_context.num_input_pipelines)
    if config.train_distribute is not None or config.num_worker_replicas <= 1:
        return WHOLE
    if config.task_type in ("chief", "master"):
        return Shard(0, config.num_worker_replicas)
    if config.task_type == "worker":
        has_chief = any(name in config.cluster_spec.jobs for name in ("chief", "master"))
        return Shard(config.task_id + int(has_chief), config.num_worker_replicas)
    return WHOLE


def shard_files(files: Sequence[str], shard: Shard) -> list[str]:
    """The files of one shard, every `count`-th, the same on every machine.

    Raises ConfigError when there are fewer files than shards: a task without
    input would end at once, or hang its peers.
    """
    if len(files) < shard.count:
        raise ConfigError(
            f"{len(files)} files cannot be divided among {shard.count} tasks; divide by element "
            "(shard_elements), or write more files."
        )
    return sorted(files)[shard.index :: shard.count]


def shard_elements(dataset: tf.data.Dataset, shard: Shard) -> tf.data.Dataset:
    """Every `count`-th element of a data set. Put it first: what stands before it is read by all."""
    return dataset if shard.count == 1 else dataset.shard(shard.count, shard.index)


def replica_batch_size(
    global_batch_size: int, input_context: tf.distribute.InputContext | None = None
) -> int:
    """The batch that one replica takes so that all replicas in a step take `global_batch_size` examples.

    Without an InputContext the task is its own only replica. Raises ConfigError when
    the batch cannot be divided evenly.
    """
    if global_batch_size < 1:
        raise ConfigError(f"batch_size is {global_batch_size}; it must be 1 or more.")
    replicas = 1 if input_context is None else input_context.num_replicas_in_sync
    if global_batch_size % replicas:
        raise ConfigError(
            f"batch_size is {global_batch_size}, which {replicas} replicas cannot share evenly; "
            f"take a multiple of {replicas}."
        )
    return global_batch_size // replicas
