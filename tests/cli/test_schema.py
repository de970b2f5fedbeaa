from __future__ import annotations

import json

import pytest

from orchestrator.cli.main import main
from orchestrator.cli.schema import cluster_file_schema


def test_the_schema_is_printed_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "schema"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(cluster_file_schema()))


def test_every_key_of_the_top_is_described() -> None:
    schema = cluster_file_schema()
    assert schema["required"] == ["name", "tasks"]
    assert schema["additionalProperties"] is False
    assert all(entry.get("description") or entry.get("$ref") for entry in schema["properties"].values())


def test_a_strategy_is_a_name_or_a_mapping() -> None:
    names, mapping = cluster_file_schema()["$defs"]["StrategySection"]["anyOf"]
    assert "mirrored" in names["enum"]
    assert "logical_devices" in mapping["properties"]
