"""Plans, on names and shapes alone."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.errors import WarmStartError
from orchestrator.warm_start.request import make_rules
from orchestrator.warm_start.roles import targets_with_roles, with_roles
from orchestrator.warm_start.tensors import Role, SourceTensor, TargetVariable
from orchestrator.warm_start.variable_map import Plan, plan

Shapes = dict[str, tuple[int, ...]]
NET: Shapes = {"net/a/kernel": (4, 8), "net/a/bias": (8,), "net/b/kernel": (8, 3), "net/b/bias": (3,)}


def sources(shapes: Shapes, **fields: Any) -> list[SourceTensor]:
    return with_roles(SourceTensor(name, shape, "float32", **fields) for name, shape in shapes.items())


def targets(shapes: Shapes, dtype: str = "float32") -> list[TargetVariable]:
    untrained = ("Adam", "beta1_power", "global_step", "moving_mean")
    return targets_with_roles(
        TargetVariable(name, shape, dtype, trainable=not name.endswith(untrained))
        for name, shape in shapes.items()
    )


def planned(given: Shapes, wanted: Shapes, **options: Any) -> Plan:
    return plan(sources(given), targets(wanted), make_rules(**options))


def pairs(result: Plan) -> dict[str, str]:
    return {load.target.name: load.source.name for load in result.loads}


def renamed(shapes: Shapes, old: str, new: str) -> Shapes:
    return {name.replace(old, new): shape for name, shape in shapes.items()}


def test_equal_names_are_loaded_and_slots_and_step_are_not() -> None:
    optimizer: Shapes = {"net/a/kernel/Adam": (4, 8), "beta1_power": (), "global_step": ()}
    result = planned({**NET, **optimizer}, {**NET, **optimizer})
    assert result.require() is result
    assert pairs(result) == {name: name for name in NET}
    assert {skip.target.name: skip.expected for skip in result.skips} == dict.fromkeys(optimizer, True)
    assert {item.source.name for item in result.unused} == set(optimizer)
    assert result.size == 4 * (32 + 8 + 24 + 3)


def test_slots_and_step_when_asked_for() -> None:
    optimizer: Shapes = {"net/a/kernel/Adam": (4, 8), "beta1_power": (), "global_step": ()}
    result = planned({**NET, **optimizer}, {**NET, **optimizer}, optimizer=True, global_step=True)
    assert set(pairs(result)) == {*NET, *optimizer}
    assert "holds no global step" in planned(NET, NET, global_step=True).problems[0]


def test_a_trainable_variable_with_the_name_of_a_slot_is_a_weight() -> None:
    shapes: Shapes = {"w": (2,), "w/m": (2,)}
    assert [
        t.role for t in targets_with_roles(TargetVariable(n, s, "float32") for n, s in shapes.items())
    ] == [
        Role.WEIGHT,
        Role.WEIGHT,
    ]


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ({"include": "net/a"}, {"net/a/kernel", "net/a/bias"}),
        ({"include": ["a"]}, {"net/a/kernel", "net/a/bias"}),
        ({"include": [r"ker.*$"]}, {"net/a/kernel", "net/b/kernel"}),
        ({"exclude": "net/b"}, {"net/a/kernel", "net/a/bias"}),
        ({"include": "net", "exclude": [r"bias$"]}, {"net/a/kernel", "net/b/kernel"}),
    ],
)
def test_include_and_exclude(options: dict[str, Any], left: set[str]) -> None:
    assert set(pairs(planned(NET, NET, **options).require())) == left


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"include": "nett"}, "include 'nett' matches nothing. Did you mean 'net'?"),
        ({"exclude": "c"}, "exclude 'c' matches nothing."),
        ({"rename": "nit=net"}, "rename 'nit=net' fits no name in the checkpoint. Did you mean 'net'?"),
        (
            {"map": {"net/a/kernal": "net/a/kernel"}},
            "no variable 'net/a/kernal'. Did you mean",
        ),
        ({"map": {"net/a/kernel": "net/a/kernal"}}, "'net/a/kernal', for net/a/kernel: is not in the"),
        ({"averages": True}, "holds no moving averages"),
        ({"exclude": ".*"}, "leave out every variable"),
    ],
)
def test_what_matches_nothing_is_a_problem(options: dict[str, Any], text: str) -> None:
    result = planned(NET, NET, **options)
    assert text in " ".join(result.problems)
    with pytest.raises(WarmStartError):
        result.require()


@pytest.mark.parametrize(
    ("rule", "given"),
    [
        ("old/scope=net", renamed(NET, "net/", "old/scope/")),
        ("old/scope/=net/", renamed(NET, "net/", "old/scope/")),
        ("model=", renamed(NET, "net/", "model/net/")),
        ("=net", renamed(NET, "net/", "")),
        (r"l_(\w)_=net/\1/", {f"l_{n[4]}_{n[6:]}": shape for n, shape in NET.items()}),
        ({"old": "net"}, renamed(NET, "net/", "old/")),
        ([{"old": "v", "new": "net"}], renamed(NET, "net/", "v/")),
    ],
)
def test_renames(rule: Any, given: Shapes) -> None:
    rule = {"old": "net"} if rule == {"old": "net"} else rule
    result = planned(given, NET, rename=rule).require()
    assert set(pairs(result)) == set(NET)
    assert all(load.how[0].startswith("rename") for load in result.loads)


def test_a_scope_is_whole_components() -> None:
    given: Shapes = {"netto/w": (1,), "net/w": (1,)}
    assert pairs(planned(given, {"x/w": (1,)}, rename="net=x")) == {"x/w": "net/w"}


@pytest.mark.parametrize("rule", ["x", "=", r"(a=\1", r"a(b)=\2"])
def test_renames_that_are_none(rule: str) -> None:
    with pytest.raises(WarmStartError, match="rename"):
        make_rules(rename=rule)


def test_two_sources_for_one_variable_are_asked_about() -> None:
    given = {**renamed(NET, "net/", "net_1/"), **renamed(NET, "net/", "net_2/")}
    result = planned(given, NET, rename=r"net_\d=net")
    assert not result.loads
    assert "'net_1/a/kernel' and 'net_2/a/kernel' would both go there" in result.problems[0]
    assert not planned(given, NET, rename=r"net_\d=net", exclude="net_1").problems


SUFFIXES = [
    renamed(NET, "net/", "net_1/"),
    renamed(NET, "net/", "net_target/"),
    {f"{n}_1": s for n, s in NET.items()},
    {f"net/{n[4]}_1/{n[6:]}": s for n, s in NET.items()},
]


@pytest.mark.parametrize("copy", SUFFIXES)
def test_two_copies_of_a_net_are_asked_about(copy: Shapes) -> None:
    result = planned({**NET, **copy}, NET)
    assert "two copies" in " ".join(result.problems)
    assert planned({**NET, **copy}, {**NET, **copy}).ok


def test_the_question_about_two_copies_holds_the_answers() -> None:
    given = {**NET, **renamed(NET, "net/", "net_1/")}
    (question,) = planned(given, NET).problems
    assert "rename 'net=net' for the first, 'net_1=net' for the second" in question
    assert pairs(planned(given, NET, rename="net=net").require())["net/a/bias"] == "net/a/bias"
    assert pairs(planned(given, NET, rename="net_1=net").require())["net/a/bias"] == "net_1/a/bias"
    assert pairs(planned(given, NET, exclude="net_1").require())["net/a/bias"] == "net/a/bias"


def test_layers_in_a_row_are_no_copies() -> None:
    deep: Shapes = {
        f"dense_{n}/{leaf}": shape for n in range(6) for leaf, shape in (("k", (8, 8)), ("b", (8,)))
    }
    given: Shapes = {"first/k": (4, 8), "dense/k": (8, 8), "dense/b": (8,), **deep}
    wanted: Shapes = {
        name: given[name] for name in ("first/k", "dense/k", "dense/b", "dense_0/k", "dense_0/b")
    }
    assert planned(given, wanted).ok


def test_mismatches() -> None:
    wanted: Shapes = {**NET, "net/b/kernel": (8, 5), "net/b/bias": (5,)}
    result = planned(NET, wanted)
    assert "net/b/kernel: shape 8x5, in the checkpoint 8x3" in result.problems[0]
    skipping = planned(NET, wanted, on_mismatch="skip").require()
    assert set(pairs(skipping)) == {"net/a/kernel", "net/a/bias"}
    assert {skip.target.name: skip.expected for skip in skipping.skips} == {
        "net/b/kernel": False,
        "net/b/bias": False,
    }


def test_types_are_cast_only_when_allowed() -> None:
    wanted = targets(NET, "float16")
    assert "type float16, in the checkpoint float32" in plan(sources(NET), wanted).problems[0]
    allowed = plan(sources(NET), wanted, make_rules(allow_cast=True)).require()
    assert all(load.cast for load in allowed.loads)


def test_layouts_are_asked_for_by_name_and_hinted_at() -> None:
    given: Shapes = {"a": (8, 4)}
    assert "layout transpose in a map would fit" in planned(given, {"a": (4, 8)}).problems[0]
    mapped = planned(given, {"a": (4, 8)}, map={"variables": {"a": {"source": "a", "layout": "transpose"}}})
    assert mapped.require().loads[0].layout == "transpose"
    ruled = planned(given, {"b": (1, 1, 8, 4)}, rename=[{"old": "a", "new": "b", "layout": "dense_to_conv"}])
    assert ruled.require().loads[0].how == ("rename a=b", "layout dense_to_conv")
    with pytest.raises(WarmStartError, match="Did you mean 'transpose'"):
        make_rules(map={"a": {"source": "a", "layout": "transposed"}})


def test_averages_go_before_raw_values_when_asked_for() -> None:
    given = {**NET, "net/a/kernel/ExponentialMovingAverage": (4, 8)}
    assert pairs(planned(given, NET))["net/a/kernel"] == "net/a/kernel"
    taken = planned(given, NET, averages=True).require()
    assert pairs(taken)["net/a/kernel"].endswith("ExponentialMovingAverage")
    assert pairs(taken)["net/a/bias"] == "net/a/bias"
    moved = planned(renamed(given, "net/", "old/"), NET, averages=True, rename="old=net").require()
    assert pairs(moved)["net/a/kernel"] == "old/a/kernel/ExponentialMovingAverage"


def test_aliases_lead_to_a_tensor_too() -> None:
    found = plan(
        [SourceTensor("layer-0/kernel", (2,), "float32", aliases=("dense/kernel",))],
        targets({"dense/kernel": (2,)}),
    ).require()
    assert found.loads[0].how == ("saved from dense/kernel",)


def test_an_alias_that_two_tensors_have_is_asked_about() -> None:
    twins = [SourceTensor(f"layer-{n}/kernel", (2,), "float32", aliases=("dense/kernel",)) for n in (0, 1)]
    assert "would both go there" in plan(twins, targets({"dense/kernel": (2,)})).problems[0]


def test_when_nothing_matches_the_renames_that_would_are_named() -> None:
    result = planned(renamed(NET, "net/", "model/"), NET)
    assert "nothing matches" in result.problems[0]
    assert "'model=net' (4 of 4)" in result.problems[0]
    assert "near" not in result.problems[0]


def test_a_new_head_is_skipped_with_the_nearest_name() -> None:
    wanted = {**NET, "net/c/kernel": (8, 5)}
    result = planned(NET, wanted).require()
    assert result.skips[0].why == "not in the checkpoint. Did you mean 'net/b/kernel'?"
    assert "not in the checkpoint" in planned(NET, wanted, on_missing="error").problems[0]


def test_unused_tensors_are_listed_with_the_reason() -> None:
    result = planned({**NET, "extra/w": (1,), "net/a/bias/Adam": (8,)}, NET, exclude="b")
    assert {item.source.name: item.why for item in result.unused} == {
        "extra/w": "no variable takes it",
        "net/a/bias/Adam": "optimizer slot, not asked for",
        "net/b/kernel": "excluded by 'b'",
        "net/b/bias": "excluded by 'b'",
    }


def test_unknown_options_and_values_are_refused() -> None:
    with pytest.raises(WarmStartError, match=r"warm_start.exclud: .* Did you mean 'exclude'"):
        make_rules(exclud="a")
    with pytest.raises(WarmStartError, match="neither 'error' nor 'skip'"):
        make_rules(on_mismatch="ignore")
    with pytest.raises(WarmStartError, match="no regular expression"):
        make_rules(include="(")
    with pytest.raises(WarmStartError, match="neither true nor false"):
        make_rules(averages=1)
