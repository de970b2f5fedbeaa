from __future__ import annotations

import random
from dataclasses import replace

import pytest

from orchestrator.cluster.task import TaskType
from orchestrator.launch.job import RunPolicy, StrategyKind
from orchestrator.launch.restart import MAX_DELAY_SECONDS, Action, Decision, Failure, decide
from tests.launch.jobs import task

ASYNC, SYNC, COORDINATOR = StrategyKind.ASYNCHRONOUS, StrategyKind.SYNCHRONOUS, StrategyKind.COORDINATOR
POLICY = RunPolicy(max_restarts=3, restart_delay_seconds=1.0)


def killed(name: str = "worker-0", **fields: object) -> Failure:
    return replace(Failure(task(name), 137, 9, stepped=True, keeps_records=True), **fields)  # type: ignore[arg-type]


def raised(name: str, error: str, **fields: object) -> Failure:
    made = Failure(task(name), 1, error_type=error, error_message="no", keeps_records=True)
    return replace(made, **fields)  # type: ignore[arg-type]


def judge(
    failure: Failure,
    kind: StrategyKind = ASYNC,
    history: list[Failure] | None = None,
    policy: RunPolicy = POLICY,
) -> Decision:
    return decide(failure, history or [], kind, policy, random.Random(1))


@pytest.mark.parametrize(
    ("kind", "name", "action"),
    [
        (ASYNC, "chief-0", Action.RESTART_TASK),
        (ASYNC, "worker-1", Action.RESTART_TASK),
        (ASYNC, "ps-0", Action.RESTART_TASK),
        (ASYNC, "evaluator-0", Action.RESTART_TASK),
        (SYNC, "chief-0", Action.RESTART_ATTEMPT),
        (SYNC, "worker-0", Action.RESTART_ATTEMPT),
        (SYNC, "evaluator-0", Action.RESTART_TASK),
        (StrategyKind.SINGLE, "chief-0", Action.RESTART_ATTEMPT),
        (StrategyKind.UNKNOWN, "worker-0", Action.RESTART_ATTEMPT),
        (COORDINATOR, "worker-0", Action.RESTART_TASK),
        (COORDINATOR, "ps-0", Action.RESTART_ATTEMPT),
        (COORDINATOR, "chief-0", Action.RESTART_ATTEMPT),
        (COORDINATOR, "evaluator-0", Action.RESTART_TASK),
    ],
)
def test_what_is_restarted_depends_on_strategy_and_role(
    kind: StrategyKind, name: str, action: Action
) -> None:
    decision = judge(killed(name), kind)
    assert decision.action is action
    assert "SIGKILL" in decision.reason
    assert ("the whole attempt" in decision.reason) is (action is Action.RESTART_ATTEMPT)


def test_the_file_may_choose_otherwise() -> None:
    policy = replace(
        POLICY, restart={TaskType.WORKER: "attempt", TaskType.PS: "never", TaskType.EVALUATOR: "never"}
    )
    assert judge(killed("worker-0"), policy=policy).action is Action.RESTART_ATTEMPT
    assert judge(killed("ps-0"), policy=policy).action is Action.GIVE_UP
    assert judge(killed("evaluator-0"), policy=policy).action is Action.LEAVE
    assert judge(killed("chief-0"), policy=policy).action is Action.RESTART_TASK


def test_the_budget_ends() -> None:
    history: list[Failure] = []
    for number in (1, 2, 3):
        decision = judge(killed(), SYNC, history)
        assert decision.action is Action.RESTART_ATTEMPT
        assert f"restart {number} of 3" in decision.reason
        history.append(killed())
    decision = judge(killed(), SYNC, history)
    assert decision.action is Action.GIVE_UP
    assert "all 3 restarts" in decision.reason


def test_no_restarts_at_all_when_the_file_says_so() -> None:
    decision = judge(killed(), policy=replace(POLICY, max_restarts=0))
    assert decision.action is Action.GIVE_UP
    assert "max_restarts is 0" in decision.reason


@pytest.mark.parametrize("code", [1, 42, 137, 143])
def test_a_new_checkpoint_makes_a_restart_free(code: int) -> None:
    advanced = killed(code=code, signal=None, checkpoint_at_start=100, checkpoint_now=200)
    assert judge(advanced, SYNC, [killed()] * 3).action is Action.RESTART_ATTEMPT
    same = replace(advanced, checkpoint_now=100)
    assert judge(same, SYNC, [killed()] * 3).action is Action.GIVE_UP
    never_saved = replace(advanced, checkpoint_at_start=None, checkpoint_now=None)
    assert judge(never_saved, SYNC, [killed()] * 3).action is Action.GIVE_UP


def test_a_worker_that_takes_no_step_does_not_live_on_the_chiefs_checkpoints() -> None:
    idle = killed("worker-0", stepped=False, checkpoint_at_start=100, checkpoint_now=200)
    assert idle.counts
    assert not replace(idle, stepped=True).counts
    assert not replace(idle, task=task("ps-0")).counts


def test_free_restarts_use_up_nothing() -> None:
    free = killed(checkpoint_at_start=0, checkpoint_now=100)
    assert judge(killed(), SYNC, [free] * 20).reason.endswith("(restart 1 of 3)")


def test_a_victim_costs_nothing_and_is_never_judged_by_its_own_error() -> None:
    victim = raised("worker-0", "ValueError", victim=True)
    assert not victim.counts
    assert judge(victim, history=[killed()] * 3).action is Action.RESTART_TASK


@pytest.mark.parametrize(("name", "end"), [("ps-0", Action.GIVE_UP), ("evaluator-0", Action.LEAVE)])
def test_a_server_takes_no_step_and_is_started_again_after_an_exception(name: str, end: Action) -> None:
    serving = raised(name, "ValueError", begun=True)
    assert judge(serving).action is Action.RESTART_TASK
    assert judge(serving, history=[serving] * 2).action is end
    assert judge(raised(name, "ValueError")).action is end, "it had not even begun"


def test_the_evaluator_has_a_budget_of_its_own_and_never_fails_the_job() -> None:
    spent = [killed("worker-0")] * 3
    assert judge(killed("evaluator-0"), history=spent).action is Action.RESTART_TASK
    spent_by_evaluator = [killed("evaluator-0")] * 3
    assert judge(killed("evaluator-0"), history=spent_by_evaluator).action is Action.LEAVE
    assert judge(killed("worker-0"), history=spent_by_evaluator).action is Action.RESTART_TASK


@pytest.mark.parametrize(
    "failure",
    [
        Failure(task("chief-0"), 2),
        raised("chief-0", "orchestrator.errors.ConfigError", user_error=True),
        raised("chief-0", "ModuleNotFoundError", keeps_records=False),
        raised("chief-0", "SyntaxError", keeps_records=False),
        raised("chief-0", "ValueError"),
        raised("chief-0", "TypeError"),
        raised("chief-0", "RuntimeError"),
        raised("chief-0", "my.package.OwnError"),
        Failure(task("chief-0"), 127),
        Failure(task("chief-0"), 126),
    ],
)
@pytest.mark.parametrize("kind", [ASYNC, SYNC])
def test_what_would_only_fail_again_is_not_restarted(failure: Failure, kind: StrategyKind) -> None:
    decision = judge(failure, kind)
    assert decision.action is Action.GIVE_UP
    assert "not restarted" in decision.reason


@pytest.mark.parametrize(
    "failure",
    [
        raised("chief-0", "ValueError", step=10, stepped=True),
        raised("chief-0", "ValueError", keeps_records=False),
        raised("chief-0", "tensorflow.python.framework.errors_impl.UnavailableError"),
        raised("chief-0", "OSError"),
        raised("chief-0", "MemoryError"),
        Failure(task("chief-0"), 1, keeps_records=True),
        killed("chief-0", stepped=False),
    ],
)
def test_what_may_pass_is_restarted(failure: Failure) -> None:
    assert judge(failure).action is Action.RESTART_TASK


def test_the_same_exception_at_the_same_step_is_not_seen_a_third_time() -> None:
    failure = raised(
        "worker-0", "ValueError", step=70, stepped=True, checkpoint_at_start=0, checkpoint_now=50
    )
    elsewhere = replace(failure, step=71)
    assert judge(failure, history=[failure, elsewhere]).action is Action.RESTART_TASK
    decision = judge(failure, history=[failure, failure])
    assert decision.action is Action.GIVE_UP
    assert "the same ValueError at step 70 for the 3rd time" in decision.reason


def test_the_delay_doubles_with_jitter_up_to_a_limit() -> None:
    policy = replace(POLICY, max_restarts=30)
    for used in (0, 1, 4, 20):
        delays = {
            decide(killed(), [killed()] * used, SYNC, policy, random.Random(seed)).delay_seconds
            for seed in range(20)
        }
        longest = min(2.0**used, MAX_DELAY_SECONDS)
        assert len(delays) > 10
        assert longest / 2 <= min(delays) <= max(delays) <= longest


def test_a_time_limit_is_named_as_the_reason() -> None:
    decision = judge(killed("worker-0", reason="took no step within 5 s of its start"))
    assert decision.action is Action.RESTART_TASK
    assert decision.reason.startswith("worker-0 took no step within 5 s")
