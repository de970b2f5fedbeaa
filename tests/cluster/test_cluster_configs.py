"""The shipped cluster files and the page that lists their keys."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import jsonschema
import pytest
import yaml
from pydantic import BaseModel

from orchestrator.cli.schema import cluster_file_schema
from orchestrator.cluster.config import ClusterConfig, TaskSection
from orchestrator.cluster.config_file import load
from orchestrator.errors import ClusterConfigError

FOLDER = Path(__file__).parents[2] / "cluster_configs"
FILES = sorted(FOLDER.glob("*.yaml"))
ROW = re.compile(r"^\| `([a-z0-9_.]+)` \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from models_in(part)


def leaf_keys(model: type[BaseModel], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, field in model.model_fields.items():
        key = f"{path}{name}"
        inner = next(models_in(field.annotation), None)
        if inner is None or inner is TaskSection:
            yield key, field.get_default(call_default_factory=True)
        else:
            if get_origin(field.annotation) is tuple:  # a list of sections is a value too
                yield key, None
            yield from leaf_keys(inner, f"{key}.")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_shipped_file_is_valid_by_itself_and_by_the_schema(path: Path) -> None:
    assert load(path).name
    jsonschema.validate(yaml.safe_load(path.read_text()), cluster_file_schema())


def test_names_differ_so_that_models_do() -> None:
    names = [load(path).name for path in FILES]
    assert len(names) == len(set(names)) >= 4


def test_the_page_lists_every_file() -> None:
    page = (FOLDER / "README.md").read_text()
    assert all(f"`{path.name}`" in page for path in FILES)


def test_the_page_lists_every_key_and_no_other() -> None:
    documented = {key for key, *_ in ROW.findall((FOLDER / "README.md").read_text())}
    top = set(ClusterConfig.model_fields)
    declared = top | {key for key, _ in leaf_keys(ClusterConfig)} | {key for key, _ in leaf_keys(TaskSection)}
    names_of_strategies = {"multi_worker_mirrored"}
    assert documented - names_of_strategies == declared


def test_the_page_tells_the_defaults_that_hold() -> None:
    rows = {key: default.strip() for key, _, default, _ in ROW.findall((FOLDER / "README.md").read_text())}
    declared = {**dict(leaf_keys(ClusterConfig)), **dict(leaf_keys(TaskSection))}
    told = {key: value for key, value in declared.items() if isinstance(value, int | float | str)}
    assert len(told) >= 8
    for key, value in told.items():
        if key in ("name",):
            continue
        shown = (
            str(value).lower()
            if isinstance(value, bool)
            else f"{value:g}"
            if isinstance(value, float)
            else value
        )
        assert rows[key] == f"`{shown}`", key


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(cluster_file_schema())


@pytest.mark.parametrize(
    "text",
    [
        "{name: a, tasks: {chief: {}}, stratgy: none}",
        "{name: a, tasks: {chief: {resources: {memory: 2}}}}",
        "{name: a, tasks: {chief: {resources: {memory: 2gib}}}}",
        "{name: a, tasks: {chief: {replicas: two}}}",
        "{name: a, tasks: {chief: {}}, strategy: mirored}",
        "{name: a, tasks: {chief: {}}, strategy: {logical_devices: 2}}",
        "{name: a, tasks: {chief: {}}, run_config: {steps_per_loop: 0}}",
        "{name: a, tasks: {chief: {}}, local: {start_method: frok}}",
        "{tasks: {chief: {}}}",
    ],
)
def test_the_schema_refuses_what_the_file_reader_refuses(tmp_path: Path, text: str) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load(text), cluster_file_schema())
    path = tmp_path / "cluster.yaml"
    path.write_text(text)
    with pytest.raises(ClusterConfigError):
        load(path)


def test_what_the_reader_accepts_the_schema_accepts(tmp_path: Path) -> None:
    text = """
        name: a
        tasks:
          chief:
            {resources: {memory: 1.5GiB, cpus: 0.5, gpus: 0}, env: {PORT: 8080}, hosts: [localhost]}
        strategy: {name: mirrored, logical_devices: 2}
        params: {rate: 1e-3}
        run_config: {steps_per_loop: auto, mixed_precision: bfloat16, save_checkpoints_secs: null}
        run_policy: {restart: {chief: never}, total_timeout_seconds: 5}
        """
    path = tmp_path / "cluster.yaml"
    path.write_text(text)
    load(path)
    jsonschema.validate(yaml.safe_load(text), cluster_file_schema())
