from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tensorflow as tf

from orchestrator.errors import InvalidArgument
from orchestrator.estimator.experimental.checkpoint_step import (
    StopAtCheckpointStepHook,
    make_stop_at_checkpoint_step_hook,
)

pytestmark = pytest.mark.xdist_group("estimator_api")
v1 = tf.compat.v1


def estimator(is_chief: bool, model_dir: Path) -> Any:
    return SimpleNamespace(config=SimpleNamespace(is_chief=is_chief), model_dir=str(model_dir))


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    seconds: list[float] = []
    monkeypatch.setattr(time, "sleep", seconds.append)
    return seconds


def stops_at_10(model_dir: Path, saved_step: int | None) -> bool:
    hook = make_stop_at_checkpoint_step_hook(estimator(False, model_dir), 10, wait_after_file_check_secs=3)
    with tf.Graph().as_default():
        step = v1.train.create_global_step()
        set_step = {value: step.assign(value) for value in (9, 10)}
        if saved_step is not None:
            with v1.Session() as session:
                session.run(set_step[saved_step])
                v1.train.Saver().save(session, str(model_dir / "model.ckpt"))
        with v1.train.SingularMonitoredSession(hooks=[hook]) as session:
            session.raw_session().run(set_step[10])
            session.run(tf.compat.v1.get_default_graph().get_operations()[0])
            return bool(session.should_stop())


def test_a_worker_waits_for_the_checkpoint_of_the_last_step(tmp_path: Path, slept: list[float]) -> None:
    assert not stops_at_10(tmp_path, saved_step=None)
    assert sum(slept) == 3
    assert not stops_at_10(tmp_path, saved_step=9)
    slept.clear()
    assert stops_at_10(tmp_path, saved_step=10)
    assert slept == []


def test_the_chief_stops_at_the_step(tmp_path: Path) -> None:
    hook = make_stop_at_checkpoint_step_hook(estimator(True, tmp_path), 10)
    assert isinstance(hook, v1.train.StopAtStepHook)


@pytest.mark.parametrize("arguments", [(None, 10), ("/model", None)])
def test_both_arguments_are_required(arguments: Any) -> None:
    with pytest.raises(InvalidArgument, match="must be specified"):
        StopAtCheckpointStepHook(*arguments)
