"""The function that says what a served model receives."""

from __future__ import annotations

import inspect
from typing import Any

from orchestrator.errors import InvalidArgument, InvalidType


def check_receiver_fn(function: Any, caller: str) -> None:
    """Raises InvalidType or InvalidArgument unless it is a function that can be called without arguments."""
    if not callable(function):
        raise InvalidType(
            f"{caller}: serving_input_receiver_fn must be a function that returns a"
            f" ServingInputReceiver, given: {function!r}."
        )
    try:
        inspect.signature(function).bind()
    except TypeError as error:
        name = getattr(function, "__qualname__", repr(function))
        raise InvalidArgument(
            f"{caller}: serving_input_receiver_fn {name} is called without arguments: {error}."
            " Bind them with functools.partial, or give what the function returns if it makes another."
        ) from None
    except ValueError:
        return  # a built-in function that does not tell what it takes
