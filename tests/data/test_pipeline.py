from __future__ import annotations

from itertools import chain
from typing import Any

import pytest
import tensorflow as tf

from orchestrator.data.pipeline import evaluation_batches, training_batches
from orchestrator.errors import ConfigError


def taken(batches: tf.data.Dataset, count: int) -> list[list[int]]:
    return [list(map(int, batch)) for batch in batches.take(count).as_numpy_iterator()]


def test_each_pass_sees_every_example_once_in_an_order_of_its_own() -> None:
    batches = taken(training_batches(tf.data.Dataset.range(10), 4, seed=3), 5)
    assert [len(batch) for batch in batches] == [4] * 5
    drawn = list(chain.from_iterable(batches))
    assert sorted(drawn[:10]) == sorted(drawn[10:]) == list(range(10))
    assert drawn[:10] != drawn[10:]


def test_the_seed_fixes_the_order() -> None:
    def order(seed: int) -> list[list[int]]:
        return taken(training_batches(tf.data.Dataset.range(100), 10, seed=seed), 20)

    assert order(1) == order(1)
    assert order(1) != order(2)


def test_a_number_of_passes_ends_and_loses_nothing() -> None:
    batches = taken(training_batches(tf.data.Dataset.range(5), 4, passes=2, seed=0), 99)
    assert sorted(chain.from_iterable(batches)) == sorted([*range(5)] * 2)


def test_batches_for_ever_have_a_known_size() -> None:
    assert training_batches(tf.data.Dataset.range(5), 4).element_spec.shape == (4,)


def test_evaluation_keeps_order_and_the_short_last_batch() -> None:
    batches = evaluation_batches(tf.data.Dataset.range(5), 2, transform=lambda number: number * 10)
    assert taken(batches, 99) == [[0, 10], [20, 30], [40]]


def test_nothing_tunes_itself_and_keeps_a_closing_session_waiting() -> None:
    for batches in (
        training_batches(tf.data.Dataset.range(5), 4),
        evaluation_batches(tf.data.Dataset.range(5), 4),
    ):
        assert batches.options().autotune.enabled is False


@pytest.mark.parametrize(
    "wrong", [{"batch_size": 0}, {"batch_size": 1, "shuffle_buffer": 0}, {"batch_size": 1, "passes": -1}]
)
def test_numbers_below_one_are_named(wrong: dict[str, Any]) -> None:
    name, number = list(wrong.items())[-1]
    with pytest.raises(ConfigError, match=f"{name} is {number}; it must be 1 or more"):
        training_batches(tf.data.Dataset.range(5), **wrong)
