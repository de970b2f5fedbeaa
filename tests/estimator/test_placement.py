from __future__ import annotations

import pytest
import tensorflow as tf

from orchestrator.estimator.placement import is_on_own_cpus


@pytest.mark.parametrize(
    ("master", "gpus", "own"), [("", [], True), ("grpc://a:1", [], False), ("", ["GPU:0"], False)]
)
def test_a_session_of_this_process_without_gpus_is_on_its_cpus(
    monkeypatch: pytest.MonkeyPatch, master: str, gpus: list[str], own: bool
) -> None:
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: gpus)
    assert is_on_own_cpus(master) is own
