"""WarmStartSettings: which weights of another model a training starts from."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Mapping
from typing import Any

from orchestrator.errors import InvalidArgument, InvalidType

_FIELDS = (
    "ckpt_to_initialize_from",
    "vars_to_warm_start",
    "var_name_to_vocab_info",
    "var_name_to_prev_var_name",
)


class WarmStartSettings(namedtuple("WarmStartSettings", _FIELDS)):
    """Value of `Estimator(warm_start_from=...)`.

    Args:
      ckpt_to_initialize_from: a checkpoint, or a directory, whose newest one is
        taken.
      vars_to_warm_start: a regular expression over the names of trainable
        variables; a list of expressions over all variables (optimizer slots and
        moving averages too); a list of variables; or None: only those in
        `var_name_to_vocab_info`.
      var_name_to_vocab_info: `VocabInfo` by variable name, for variables whose
        rows follow a vocabulary that has changed.
      var_name_to_prev_var_name: the name in the checkpoint by variable name,
        where the two differ.

    Raises InvalidArgument (a ValueError) without a checkpoint, InvalidType (a
    TypeError) where a mapping is none.
    """

    __slots__ = ()

    def __new__(
        cls,
        ckpt_to_initialize_from: str,
        vars_to_warm_start: Any = ".*",
        var_name_to_vocab_info: Mapping[str, Any] | None = None,
        var_name_to_prev_var_name: Mapping[str, str] | None = None,
    ) -> WarmStartSettings:
        if not ckpt_to_initialize_from:
            raise InvalidArgument(
                "`ckpt_to_initialize_from` MUST be set in WarmStartSettings,"
                f" given: {ckpt_to_initialize_from!r}."
            )
        return super().__new__(
            cls,
            ckpt_to_initialize_from,
            vars_to_warm_start,
            _mapping("var_name_to_vocab_info", var_name_to_vocab_info),
            _mapping("var_name_to_prev_var_name", var_name_to_prev_var_name),
        )


def _mapping(name: str, value: Any) -> dict[str, Any]:
    if value is not None and not isinstance(value, Mapping):
        raise InvalidType(f"WarmStartSettings: {name} must be a dict by variable name, given: {value!r}.")
    return dict(value or {})
