from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.data.sharding import (
    WHOLE,
    Shard,
    replica_batch_size,
    shard_elements,
    shard_files,
    training_shard,
)
from orchestrator.errors import ConfigError


def place(
    task_type: str | None, task_id: int, workers: int, jobs: tuple[str, ...] = (), strategy: Any = None
) -> Any:
    return SimpleNamespace(
        task_type=task_type,
        task_id=task_id,
        num_worker_replicas=workers,
        cluster_spec=SimpleNamespace(jobs=list(jobs)),
        train_distribute=strategy,
    )


@given(files=st.integers(1, 40), count=st.integers(1, 40))
def test_shards_of_files_are_everything_once(files: int, count: int) -> None:
    names = [f"part-{number:02}" for number in range(files)]
    if files < count:
        with pytest.raises(ConfigError, match=f"{files} files cannot be divided among {count} tasks"):
            shard_files(names, Shard(0, count))
        return
    parts = [shard_files(names[::-1], Shard(index, count)) for index in range(count)]
    assert all(parts)
    assert sorted(name for part in parts for name in part) == names


def test_shards_of_elements_are_everything_once() -> None:
    numbers = tf.data.Dataset.range(11)
    parts = [list(shard_elements(numbers, Shard(i, 3)).as_numpy_iterator()) for i in range(3)]
    assert parts == [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8]]
    assert shard_elements(numbers, WHOLE) is numbers


@pytest.mark.parametrize(("index", "count"), [(0, 0), (2, 2), (-1, 2)])
def test_an_impossible_shard_is_refused(index: int, count: int) -> None:
    with pytest.raises(ConfigError, match=f"no shard {index} of {count}"):
        Shard(index, count)


@pytest.mark.parametrize(
    ("task_type", "task_id", "jobs", "expected"),
    [
        ("chief", 0, ("chief", "worker", "ps"), Shard(0, 3)),
        ("master", 0, ("master", "worker", "ps"), Shard(0, 3)),
        ("worker", 0, ("chief", "worker", "ps"), Shard(1, 3)),
        ("worker", 1, ("chief", "worker", "ps"), Shard(2, 3)),
        ("worker", 0, ("worker", "ps"), Shard(0, 3)),
        ("worker", 2, ("worker", "ps"), Shard(2, 3)),
        ("evaluator", 0, ("chief", "worker", "ps"), WHOLE),
    ],
)
def test_tasks_of_parameter_servers_read_by_their_place(
    task_type: str, task_id: int, jobs: tuple[str, ...], expected: Shard
) -> None:
    assert training_shard(place(task_type, task_id, 3, jobs)) == expected


def test_a_lone_process_and_a_strategy_without_a_context_read_everything() -> None:
    assert training_shard(place(None, 0, 0)) == WHOLE
    assert training_shard(place("worker", 0, 1)) == WHOLE
    assert training_shard(place("worker", 1, 3, ("chief", "worker"), strategy=object())) == WHOLE


def test_an_input_context_decides_alone() -> None:
    context = tf.distribute.InputContext(num_input_pipelines=4, input_pipeline_id=2, num_replicas_in_sync=8)
    assert training_shard(place("chief", 0, 3, ("chief", "worker")), context) == Shard(2, 4)


def test_replicas_share_the_global_batch() -> None:
    context = tf.distribute.InputContext(num_replicas_in_sync=4)
    assert replica_batch_size(64) == 64
    assert replica_batch_size(64, context) == 16
    with pytest.raises(ConfigError, match="batch_size is 66, which 4 replicas cannot share"):
        replica_batch_size(66, context)
    with pytest.raises(ConfigError, match="batch_size is 0"):
        replica_batch_size(0)
