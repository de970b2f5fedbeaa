"""MirroredStrategy on two GPUs, or on one card split into two: the weights of one device."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.gpu.programs import needs_gpu, run_program

pytestmark = [*needs_gpu, pytest.mark.timeout(600)]


@pytest.mark.parametrize("name", ["mirrored", "central_storage"])
def test_two_gpus_with_half_a_batch_equal_one_with_the_whole(tmp_path: Path, name: str) -> None:
    answer = run_program(
        tmp_path,
        f"""
        gpus(2)
        strategy = strategies.make_strategy("{name}")
        both, alone = trained("both", strategy), trained("alone")
        answer(devices=list(strategy.extended.worker_devices), both=kernel(both), alone=kernel(alone))
        """,
    )
    assert [device.rpartition("device:")[2] for device in answer["devices"]] == ["GPU:0", "GPU:1"]
    assert np.abs(answer["alone"]).max() > 0.1
    np.testing.assert_allclose(answer["both"], answer["alone"], atol=1e-5)


def test_evaluation_counts_every_row_on_two_gpus(tmp_path: Path) -> None:
    answer = run_program(
        tmp_path,
        """
        gpus(2)
        strategy = strategies.make_strategy("mirrored")
        estimator = trained("both", strategy, eval_distribute=strategy)
        metrics = estimator.evaluate(linear_model.evaluation_input)
        answer(rows=float(metrics["rows"]), step=int(metrics["global_step"]))
        """,
    )
    assert answer == {"rows": 44.0, "step": 12}


def test_nccl_adds_up_over_two_cards(tmp_path: Path) -> None:
    answer = run_program(
        tmp_path,
        """
        gpus(2, split=False)  # NCCL takes one process or thread a card, so a split card will not do
        with tf.Graph().as_default():
            strategy = v1.distribute.MirroredStrategy(
                ["/gpu:0", "/gpu:1"], cross_device_ops=tf.distribute.NcclAllReduce()
            )
        both, alone = trained("both", strategy), trained("alone")
        graph = (PLACE / "both" / "graph.pbtxt").read_text()
        answer(both=kernel(both), alone=kernel(alone), nccl="NcclAllReduce" in graph)
        """,
    )
    assert answer["nccl"]
    np.testing.assert_allclose(answer["both"], answer["alone"], atol=1e-5)


def test_the_strategy_of_a_cluster_file_reduces_over_two_cards_with_nccl(tmp_path: Path) -> None:
    answer = run_program(
        tmp_path,
        """
        gpus(2, split=False)
        both = trained("both", strategies.make_strategy("mirrored"))
        text = (PLACE / "both" / "graph.pbtxt").read_text()
        answer(kinds=[kind for kind in ("Nccl", "CollectiveReduce") if kind in text])
        """,
    )
    assert answer["kinds"]
