from __future__ import annotations

import pytest

from orchestrator.errors import InvalidArgument, InvalidType
from orchestrator.estimator.warm_start_settings import WarmStartSettings


def test_defaults_and_order_of_fields() -> None:
    settings = WarmStartSettings("/ckpt")
    assert tuple(settings) == ("/ckpt", ".*", {}, {})


@pytest.mark.parametrize("missing", [None, ""])
def test_a_checkpoint_is_required(missing: str | None) -> None:
    with pytest.raises(InvalidArgument, match="MUST be set in WarmStartSettings"):
        WarmStartSettings(missing)


@pytest.mark.parametrize("field", ["var_name_to_vocab_info", "var_name_to_prev_var_name"])
def test_mappings_are_dicts(field: str) -> None:
    with pytest.raises(InvalidType, match=f"{field} must be a dict by variable name"):
        WarmStartSettings("/ckpt", **{field: ["v"]})
