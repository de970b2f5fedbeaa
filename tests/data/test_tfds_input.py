from __future__ import annotations

import threading
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_datasets.core.utils import gcs_utils

from orchestrator.data.file_lock import hold_file_lock
from orchestrator.data.handwritten_digits import HandwrittenDigits
from orchestrator.data.sharding import WHOLE, Shard
from orchestrator.data.tfds_input import TfdsInput
from orchestrator.errors import EnvironmentProblem, WaitTimeout


def rows(source: TfdsInput, split: str, shard: Shard = WHOLE) -> list[bytes]:
    return [
        image.tobytes() + bytes([label]) for image, label in source.read(split, shard).as_numpy_iterator()
    ]


def test_prepared_data_is_prepared_once(unprepared: TfdsInput) -> None:
    said: list[str] = []
    unprepared.prepare(say=said.append)
    (text,) = said
    assert text.startswith("prepared handwritten_digits/1.0.0 in ")
    assert text.endswith("(examples: train 1438, test 359)")
    unprepared.prepare(say=said.append)
    assert said == [text]


def test_reading_prepares_nothing_and_says_who_should(unprepared: TfdsInput, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match=r"handwritten_digits is not prepared in .*prepare_data"):
        unprepared.read("train")
    assert list(tmp_path.iterdir()) == []


def test_a_second_process_waits_and_uses_what_the_first_one_made(
    unprepared: TfdsInput, tmp_path: Path
) -> None:
    said: list[str] = []
    waiting = threading.Event()

    def say(text: str) -> None:
        said.append(text)
        waiting.set()

    second = threading.Thread(target=unprepared.prepare, kwargs={"say": say})
    with hold_file_lock(tmp_path / ".handwritten_digits.lock", "prepare", 0, say=print):
        second.start()
        assert waiting.wait(240), "the second one did not wait"
        HandwrittenDigits(data_dir=str(tmp_path)).download_and_prepare()
    second.join(240)
    assert "to prepare handwritten_digits: process" in said[0]
    assert "was prepared meanwhile" in said[1]


def test_the_wait_has_a_limit(unprepared: TfdsInput, tmp_path: Path) -> None:
    with (
        hold_file_lock(tmp_path / ".handwritten_digits.lock", "prepare", 0, say=print),
        pytest.raises(WaitTimeout, match="to prepare handwritten_digits"),
    ):
        unprepared.prepare(wait_seconds=0)


def test_half_a_data_set_is_not_taken_for_a_whole(unprepared: TfdsInput, tmp_path: Path) -> None:
    (tmp_path / "handwritten_digits" / "1.0.0").mkdir(parents=True)
    with pytest.raises(
        EnvironmentProblem, match=r"1\.0\.0 is there but holds no complete data set; remove it"
    ):
        unprepared.prepare()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentProblem, match="file"):
        TfdsInput(HandwrittenDigits, str(tmp_path / "file" / "data")).prepare()


def test_shards_of_a_split_are_everything_once(digits: TfdsInput) -> None:
    parts = [rows(digits, "test", Shard(index, 4)) for index in range(4)]
    assert [len(part) for part in parts] == [90, 90, 90, 89]
    assert list(chain.from_iterable(parts)) == rows(digits, "test")


def test_the_order_is_always_the_same(digits: TfdsInput) -> None:
    assert rows(digits, "train") == rows(digits, "train")


def test_a_graph_reads_as_eager_code_does(digits: TfdsInput) -> None:
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        batch = tf.compat.v1.data.make_one_shot_iterator(digits.read("test").batch(359)).get_next()
        images, labels = session.run(batch)
    eager = next(digits.read("test").batch(359).as_numpy_iterator())
    assert np.array_equal(images, eager[0])
    assert np.array_equal(labels, eager[1])


def test_a_registered_name_is_found_in_the_same_directory(digits: TfdsInput) -> None:
    named = TfdsInput("handwritten_digits", digits.data_dir)
    assert named.name == digits.name
    assert rows(named, "test") == rows(digits, "test")


def test_the_bucket_of_tfds_is_never_asked(unprepared: TfdsInput, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gcs_utils, "_is_gcs_disabled", False)
    monkeypatch.setattr(gcs_utils, "exists", lambda path: pytest.fail(f"asked the network for {path}"))
    unprepared.prepare()
    assert len(rows(unprepared, "test")) == 359
