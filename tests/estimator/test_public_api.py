"""Every public name of TensorFlow 2.15's `tf.estimator`, with its arguments in their order and its defaults.

`api_of_2_15.json` was read off TensorFlow 2.15.1: `v1` is `tf.compat.v1`, `v2` is `tf`. Canned models,
heads and TPU classes are left out.
"""

from __future__ import annotations

import functools
import inspect
import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator import estimator
from orchestrator.estimator import compat_v1, keras

API: dict[str, Any] = json.loads(Path(__file__).with_name("api_of_2_15.json").read_text())
ONLY_AN_ATTRIBUTE = "attr"
KERAS = {"v1": keras.model_to_estimator_v1, "v2": keras.model_to_estimator}


def find(name: str) -> Any:
    version, *path = name.split(".")
    if path[0] == "keras":
        return KERAS[version]
    return functools.reduce(getattr, path, compat_v1 if version == "v1" else estimator)


def shown(parameter: inspect.Parameter) -> str:
    default = parameter.default
    if default is inspect.Parameter.empty:
        return str(parameter).partition(":")[0]
    if callable(default):
        return f"{parameter.name}=<function>"
    text = "OBJ" if repr(default).startswith("<object") else repr(default)
    return f"{parameter.name}={text}"


@pytest.mark.parametrize("name", [name for name in API if API[name] == ONLY_AN_ATTRIBUTE])
def test_every_attribute_is_there(name: str) -> None:
    assert find(name) is not None


@pytest.mark.parametrize("name", [name for name in API if API[name] != ONLY_AN_ATTRIBUTE])
def test_arguments_and_defaults_are_the_same(name: str) -> None:
    ours = [shown(parameter) for parameter in inspect.signature(find(name)).parameters.values()]
    expected = API[name]
    assert ours[: len(expected)] == expected
    assert all("=" in further for further in ours[len(expected) :])
