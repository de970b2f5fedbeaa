"""Modules whose names are imported on first use, so that importing them is cheap."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

from orchestrator.errors import near_miss
from orchestrator.estimator import refused


def lazy(module: str, places: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` for `module`, where `places` maps each name to 'module:attribute'.

    'module' alone names a module itself. What is found once stays in the module.
    Any other name raises AttributeError, with the near miss or the reason why it
    is left out.
    """

    def find(name: str) -> Any:
        if name not in places:
            hint = "" if name.startswith("_") else near_miss(name, places)
            refusal = refused.refusal(module, name)
            raise refusal or AttributeError(f"module '{module}' has no attribute '{name}'.{hint}")
        place, _, path = places[name].partition(":")
        value: Any = importlib.import_module(place)
        for part in path.split(".") if path else ():
            value = getattr(value, part)
        setattr(sys.modules[module], name, value)
        return value

    def names() -> list[str]:
        return sorted({*vars(sys.modules[module]), *places})

    return find, names
