"""Whole runs, played by the fake launcher: every policy by strategy and role."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest

from orchestrator.cluster.records import Phase, ProgressRecord
from orchestrator.errors import PortError
from orchestrator.launch.events import EventKind
from orchestrator.launch.job import HangLimits, Job, RunPolicy, StrategyKind
from orchestrator.launch.launcher import StopKind
from orchestrator.launch.root_cause import FailureKind
from orchestrator.launch.run_dir import RunDir
from orchestrator.launch.run_result import RunResult, StopRequest
from orchestrator.launch.run_state import RunState
from orchestrator.launch.snapshot import RunPhase
from orchestrator.launch.supervisor import Supervisor
from orchestrator.testing import FakeClock, FakeLauncher, RecordingObserver, TaskScript
from orchestrator.testing.script import Action, Exit, Scripts, ends, evaluation, failure, output, progress
from tests.cluster.test_stacks import IN_OWN_CODE, IN_TENSORFLOW
from tests.launch.jobs import make_job, task

ASYNC, SYNC, COORDINATOR = StrategyKind.ASYNCHRONOUS, StrategyKind.SYNCHRONOUS, StrategyKind.COORDINATOR
SIGINT_STOP = StopRequest(130, "Ctrl-C")

TRAINS = TaskScript.of(
    progress(1, 0, max_steps=100),
    progress(5, 50, checkpoint=50, max_steps=100, loss=0.5),
    progress(9, 100, checkpoint=100, max_steps=100, loss=0.2, phase=Phase.DONE),
    ends(10),
)
SERVES = TaskScript.of(progress(1, phase=Phase.SERVING))
EVALUATES = TaskScript.of(
    evaluation(6, 50, accuracy=0.5), evaluation(11, 100, final=True, accuracy=0.9), ends(12)
)
RESUMES = TaskScript.of(
    progress(1, 50, checkpoint=50, max_steps=100), progress(5, 100, checkpoint=100, phase=Phase.DONE), ends(6)
)
KILLED_AT_4 = TaskScript.of(progress(1, 0, max_steps=100), progress(3, 30, max_steps=100), ends(4, signal=9))
KILLED_AFTER_CHECKPOINT = TaskScript.of(
    progress(1, 0, max_steps=100), progress(5, 60, checkpoint=50, max_steps=100), ends(7, signal=9)
)
PS_JOB = {"chief-0": TRAINS, "worker-0": TRAINS, "ps-0": SERVES, "evaluator-0": EVALUATES}


class Run:
    """One run on the fake launcher."""

    def __init__(self, job: Job, scripts: dict[str, Scripts | TaskScript]) -> None:
        self.job = job
        self.clock = FakeClock()
        self.launcher = FakeLauncher(self.clock, scripts)
        self.observer = RecordingObserver()
        self.supervisor = Supervisor(
            self.launcher, job, clock=self.clock, observer=self.observer, rng=random.Random(7)
        )

    def result(self) -> RunResult:
        result = self.supervisor.run()
        assert self.launcher.closed
        assert RunState.read(RunDir(self.job.run_dir)).phase is result.phase
        return result

    @property
    def submitted(self) -> list[tuple[int, str]]:
        return [(attempt, " ".join(map(str, tasks))) for attempt, tasks in self.launcher.submitted]

    @property
    def killed(self) -> list[str]:
        return [str(t) for _, tasks, kind in self.launcher.stops if kind is StopKind.KILL for t in tasks]

    @property
    def asked(self) -> list[str]:
        return [str(t) for _, tasks, kind in self.launcher.stops if kind is StopKind.REQUEST for t in tasks]


def ps_run(path: Path, policy: RunPolicy | None = None, **changes: Scripts | TaskScript) -> Run:
    job = make_job(path / "run", ASYNC, policy, chief=1, worker=1, ps=1, evaluator=1)
    return Run(job, {**PS_JOB, **{name.replace("_", "-"): script for name, script in changes.items()}})


def sync_run(path: Path, policy: RunPolicy | None = None, **changes: Scripts | TaskScript) -> Run:
    job = make_job(path / "run", SYNC, policy, chief=1, worker=1, evaluator=1)
    scripts = {"chief-0": TRAINS, "worker-0": TRAINS, "evaluator-0": EVALUATES}
    return Run(job, {**scripts, **{name.replace("_", "-"): script for name, script in changes.items()}})


# Completion


def test_training_ends_then_the_last_evaluation_then_the_ps(tmp_path: Path) -> None:
    run = ps_run(tmp_path)
    result = run.result()
    assert (result.phase, result.exit_code, result.restarts) == (RunPhase.SUCCEEDED, 0, 0)
    assert result.evaluation is not None
    assert (result.evaluation.global_step, result.evaluation.metrics) == (100, {"accuracy": 0.9})
    assert result.global_step == result.checkpoint_step == 100
    assert [(tasks, kind) for _, tasks, kind in run.launcher.stops] == [((task("ps-0"),), StopKind.REQUEST)]
    assert run.launcher.stops[0][0] >= 12, "the ps was stopped before the evaluator was done"
    assert result.seconds == pytest.approx(12.1, abs=0.6)
    assert result.root_cause is None


def test_a_ps_that_ignores_the_request_is_killed_and_is_no_failure(tmp_path: Path) -> None:
    run = ps_run(tmp_path, ps_0=TaskScript.of(on_request=None))
    assert run.result().exit_code == 0
    assert run.killed == ["ps-0"]


def test_an_evaluator_that_never_ends_is_left_behind_and_that_is_said(tmp_path: Path) -> None:
    run = ps_run(tmp_path, RunPolicy(drain_timeout_seconds=30), evaluator_0=TaskScript.of(evaluation(6, 50)))
    result = run.result()
    assert result.exit_code == 0
    assert result.seconds == pytest.approx(40.2, abs=1)
    assert any("did not evaluate the last checkpoint within 30 s" in note for note in result.notes)
    assert run.observer.texts(EventKind.TRAINING_OVER) == [
        "training is over; waiting up to 30 s for the evaluation of the last checkpoint"
    ]
    assert run.asked == ["evaluator-0", "ps-0"]


def test_an_evaluator_that_ended_too_early_is_sent_back_for_the_last_checkpoint(tmp_path: Path) -> None:
    early = TaskScript.of(evaluation(4, 50, accuracy=0.5), ends(9.5))
    late = TaskScript.of(evaluation(2, 100, final=True, accuracy=0.9), ends(3))
    run = ps_run(tmp_path, evaluator_0=[early, late])
    result = run.result()
    assert result.exit_code == 0
    assert result.evaluation is not None
    assert result.evaluation.global_step == 100
    assert run.submitted[1:] == [(0, "evaluator-0")]
    assert run.observer.texts(EventKind.TASK_RESTARTING) == [
        "evaluator-0 ended when it had evaluated step 50; started again for step 100"
    ]


def test_an_evaluator_is_sent_back_once_for_a_checkpoint(tmp_path: Path) -> None:
    run = ps_run(tmp_path, evaluator_0=TaskScript.of(evaluation(4, 50, accuracy=0.5), ends(9.5)))
    result = run.result()
    assert result.exit_code == 0
    assert run.submitted[1:] == [(0, "evaluator-0")]
    (note,) = result.notes
    assert note.startswith("evaluator-0 ended twice without an evaluation of step 100, the last one")


def test_an_evaluator_that_took_a_preempted_chief_for_the_end_is_called_back(tmp_path: Path) -> None:
    preempted = TaskScript.of(
        progress(1, 0, max_steps=100),
        progress(5, 50, checkpoint=50, max_steps=100, phase=Phase.DONE),
        ends(6, signal=15),
    )
    believed = TaskScript.of(evaluation(6.5, 50, final=True, accuracy=0.5), ends(7))
    again = TaskScript.of(evaluation(15, 100, final=True, accuracy=0.9), ends(16))
    run = ps_run(tmp_path, chief_0=[preempted, RESUMES], evaluator_0=[believed, again])
    assert run.result().exit_code == 0
    assert run.submitted[1:] == [(0, "chief-0"), (0, "evaluator-0")]
    assert run.observer.texts(EventKind.TASK_RESTARTING)[1:] == [
        "evaluator-0 ended while chief-0 trains on; started again"
    ]


def test_an_evaluator_that_keeps_leaving_is_called_back_once_a_start_of_the_chief(tmp_path: Path) -> None:
    run = ps_run(tmp_path, evaluator_0=TaskScript.of(evaluation(1, 50), ends(1.5)))
    run.result()
    assert run.observer.texts(EventKind.TASK_RESTARTING) == [
        "evaluator-0 ended while chief-0 trains on; started again",
        "evaluator-0 ended when it had evaluated step 50; started again for step 100",
    ]


def test_an_evaluator_of_the_last_step_may_leave_before_the_chief_is_done(tmp_path: Path) -> None:
    slow = TaskScript.of(
        progress(1, 0, max_steps=100),
        progress(4, 100, checkpoint=100, max_steps=100),
        progress(9, 100, checkpoint=100, max_steps=100, phase=Phase.DONE),
        ends(10),
    )
    quick = TaskScript.of(evaluation(5, 100, final=True), ends(6))
    run = ps_run(tmp_path, chief_0=slow, evaluator_0=quick)
    assert run.result().exit_code == 0
    assert len(run.submitted) == 1


def test_a_coordinators_workers_and_ps_go_as_soon_as_the_chief_is_done(tmp_path: Path) -> None:
    job = make_job(tmp_path / "run", COORDINATOR, chief=1, worker=2, ps=1, evaluator=1)
    late = TaskScript.of(ends(40))
    run = Run(job, {"chief-0": TRAINS, "evaluator-0": late, "worker-1": TaskScript.of(on_request=None)})
    result = run.result()
    assert result.exit_code == 0
    assert sorted(run.asked) == ["ps-0", "worker-0", "worker-1"]
    assert run.killed == ["worker-1"]
    assert all(at < 20 for at, _, _ in run.launcher.stops)
    assert result.seconds >= 40, "the evaluator was not waited for"


def test_workers_alone(tmp_path: Path) -> None:
    job = make_job(tmp_path / "run", SYNC, is_experiment=False, worker=2)
    run = Run(job, {"worker-0": TaskScript.of(ends(3)), "worker-1": TaskScript.of(ends(5))})
    assert run.result().exit_code == 0
    assert run.launcher.stops == []


def test_where_everything_is_trained_already_it_is_said_once(tmp_path: Path) -> None:
    job = make_job(tmp_path / "run", StrategyKind.SINGLE, chief=1)
    trained = TaskScript.of(
        progress(1, 100, max_steps=100, checkpoint=100, phase=Phase.EVALUATING),
        evaluation(4, 100, accuracy=1),
        ends(5),
    )
    result = Run(job, {"chief-0": trained}).result()
    assert result.exit_code == 0
    assert [note for note in result.notes if "already at step 100" in note and "evaluated once" in note] == [
        *result.notes
    ]


def test_a_task_that_was_trained_already_may_end_before_anybody_looks(tmp_path: Path) -> None:
    job = make_job(tmp_path / "run", StrategyKind.SINGLE, chief=1)
    at_once = TaskScript.of(progress(0.1, 100, max_steps=100, phase=Phase.DONE), ends(0.2))
    assert "already at step 100" in Run(job, {"chief-0": at_once}).result().notes[0]


def test_a_training_that_was_over_in_no_time_was_not_over_before(tmp_path: Path) -> None:
    job = make_job(tmp_path / "run", StrategyKind.SINGLE, chief=1)
    fast = TaskScript.of(progress(0.1, 100, max_steps=100, loss=0.5, phase=Phase.DONE), ends(0.2))
    assert Run(job, {"chief-0": fast}).result().notes == ()


# Restarts: asynchronous


@pytest.mark.parametrize("name", ["chief-0", "worker-0", "ps-0"])
def test_an_asynchronous_task_is_restarted_alone(tmp_path: Path, name: str) -> None:
    last = SERVES if name == "ps-0" else RESUMES
    run = ps_run(tmp_path, **{name.replace("-", "_"): [KILLED_AT_4, last]})
    result = run.result()
    assert result.exit_code == 0
    assert run.submitted == [(0, "chief-0 worker-0 ps-0 evaluator-0"), (0, name)]
    assert result.restarts == 1
    (text,) = run.observer.texts(EventKind.TASK_RESTARTING)
    assert text.startswith(f"{name} ended with SIGKILL (exit code 137)")
    assert f"restarting {name}" in text
    assert run.killed == []


def test_a_dead_chief_is_never_success(tmp_path: Path) -> None:
    policy = RunPolicy(max_restarts=1)
    run = ps_run(tmp_path, policy, chief_0=KILLED_AT_4)
    result = run.result()
    assert result.exit_code == 1
    assert result.phase is RunPhase.FAILED
    assert result.root_cause is not None
    assert result.root_cause.task == task("chief-0")
    assert set(run.submitted[1:]) == {(0, "chief-0")}


def test_a_worker_that_loses_the_ps_is_a_victim(tmp_path: Path) -> None:
    lost = TaskScript.of(
        progress(1, 0), failure(5, "tensorflow.UnavailableError", "Connection refused"), ends(5.2, 1)
    )
    dead = TaskScript.of(progress(1, phase=Phase.SERVING), ends(4, signal=9))
    policy = RunPolicy(max_restarts=1)
    run = ps_run(tmp_path, policy, ps_0=[dead, SERVES], worker_0=[lost, RESUMES])
    result = run.result()
    assert result.exit_code == 0
    assert result.restarts == 2
    texts = run.observer.texts(EventKind.TASK_RESTARTING)
    assert "restart 1 of 1" in texts[0]
    assert "free of charge: it lost a task" in texts[1]


def test_a_killed_evaluator_is_restarted_and_the_last_checkpoint_evaluated(tmp_path: Path) -> None:
    dies = TaskScript.of(ends(7, signal=9))
    run = ps_run(tmp_path, evaluator_0=[dies, EVALUATES])
    result = run.result()
    assert result.exit_code == 0
    assert result.evaluation is not None
    assert result.evaluation.final
    assert run.submitted[1:] == [(0, "evaluator-0")]


def test_an_evaluator_that_always_dies_never_fails_the_job(tmp_path: Path) -> None:
    run = ps_run(tmp_path, RunPolicy(max_restarts=2), evaluator_0=TaskScript.of(ends(1, signal=11)))
    result = run.result()
    assert result.exit_code == 0
    assert run.submitted[1:] == [(0, "evaluator-0")] * 2
    (note,) = result.notes
    assert "evaluator-0" in note
    assert "goes on without it" in note


def test_a_job_may_ask_not_to_succeed_without_its_evaluation(tmp_path: Path) -> None:
    policy = RunPolicy(max_restarts=1, drain_timeout_seconds=30, evaluator_may_fail=False)
    dies = TaskScript.of(ends(1, signal=11))
    result = ps_run(tmp_path / "a", policy, evaluator_0=dies).result()
    assert (result.exit_code, result.phase) == (1, RunPhase.FAILED)
    assert result.root_cause is not None
    assert result.root_cause.task == task("evaluator-0")

    result = ps_run(tmp_path / "b", policy, evaluator_0=TaskScript.of(evaluation(6, 50))).result()
    assert result.exit_code == 1
    assert "did not evaluate the last checkpoint within 30 s" in result.why

    early = TaskScript.of(evaluation(4, 50), ends(5))
    result = ps_run(tmp_path / "c", policy, evaluator_0=early).result()
    assert (result.exit_code, "ended twice" in result.why) == (1, True)


def test_a_run_that_has_nothing_to_train_fails_with_its_evaluator(tmp_path: Path) -> None:
    trained = TaskScript.of(progress(1, 100, checkpoint=100, max_steps=100, phase=Phase.DONE), ends(2))
    dies = TaskScript.of(failure(3, "ValueError", "Key dense/kernel not found"), ends(3.1, 1))
    policy = RunPolicy(max_restarts=1)
    result = ps_run(tmp_path, policy, chief_0=trained, worker_0=trained, evaluator_0=dies).result()
    assert (result.exit_code, result.phase) == (1, RunPhase.FAILED)
    assert "evaluator-0" in result.why


@pytest.mark.parametrize(("saved", "free"), [(50, False), (70, True)])
def test_a_checkpoint_that_was_there_before_the_run_is_no_progress(
    tmp_path: Path, saved: int, free: bool
) -> None:
    killed = TaskScript.of(progress(1, 50, checkpoint=saved), progress(2, 60), ends(3, signal=9))
    run = ps_run(tmp_path, chief_0=[killed, RESUMES])
    run.job.working_dir.mkdir(parents=True, exist_ok=True)
    model_dir = run.job.working_dir / run.job.model_dir
    model_dir.mkdir(parents=True)
    (model_dir / "checkpoint").write_text(
        'model_checkpoint_path: "model.ckpt-50"\nall_model_checkpoint_paths: "model.ckpt-50"\n'
    )
    assert run.result().exit_code == 0
    (text,) = run.observer.texts(EventKind.TASK_RESTARTING)
    assert ("free of charge" in text) is free
    assert ("restart 1 of 3" in text) is not free


# Restarts: synchronous


def test_a_synchronous_attempt_is_restarted_as_a_whole(tmp_path: Path) -> None:
    stuck = TaskScript.of(progress(1, 0), progress(4, 30), on_request=None)
    run = sync_run(tmp_path, chief_0=[stuck, RESUMES], worker_0=[KILLED_AT_4, RESUMES])
    result = run.result()
    assert result.exit_code == 0
    assert run.submitted == [(0, "chief-0 worker-0 evaluator-0"), (1, "chief-0 worker-0")]
    plans = [json.loads(RunDir(run.job.run_dir).plan_of(n).read_text()) for n in (0, 1)]
    assert [plan["attempt"] for plan in plans] == [0, 1]
    assert run.killed == ["chief-0"]
    assert (result.attempts, result.restarts) == (2, 1)


def test_the_budget_of_attempts_ends_with_a_verdict(tmp_path: Path) -> None:
    stuck = TaskScript.of(on_request=None)
    policy = RunPolicy(max_restarts=2)
    run = sync_run(tmp_path, policy, chief_0=stuck, worker_0=KILLED_AT_4, evaluator_0=stuck)
    result = run.result()
    assert result.exit_code == 1
    assert [attempt for attempt, _ in run.submitted] == [0, 1, 2]
    assert "all 2 restarts" in result.why
    assert result.root_cause is not None
    assert "worker-0 failed: ended by SIGKILL (exit code 137) (at step 30)" in result.root_cause.render()
    assert run.killed.count("evaluator-0") == 1


def test_attempts_that_bring_checkpoints_are_free(tmp_path: Path) -> None:
    advancing = [
        TaskScript.of(
            progress(1, n * 10),
            progress(3, n * 10 + 10, checkpoint=n * 10 + 10, max_steps=100),
            ends(4, signal=9),
        )
        for n in range(9)
    ]
    job = make_job(tmp_path / "run", StrategyKind.SINGLE, RunPolicy(max_restarts=1), chief=1)
    result = Run(job, {"chief-0": [*advancing, RESUMES]}).result()
    assert result.exit_code == 0
    assert result.restarts == 9


@pytest.mark.parametrize("code", [42, 143])
def test_preempted_without_a_checkpoint_counts(tmp_path: Path, code: int) -> None:
    job = make_job(tmp_path / "run", StrategyKind.SINGLE, RunPolicy(max_restarts=1), chief=1)
    result = Run(job, {"chief-0": TaskScript.of(progress(1, 0), progress(2, 5), ends(3, code))}).result()
    assert result.exit_code == 1
    assert result.attempts == 2


def test_the_victim_that_ends_first_is_not_blamed(tmp_path: Path) -> None:
    victim = TaskScript.of(
        progress(1, 0, max_steps=9),
        progress(2, 5, max_steps=9),
        failure(3, "tensorflow.UnavailableError", "Collective ops is aborted by: peer"),
        ends(3.1, 1),
    )
    slow = TaskScript.of(
        progress(1, 0, max_steps=9),
        progress(2, 5, max_steps=9),
        failure(2.9, "ValueError", "bad record", step=5),
        ends(6, 1),
    )
    run = sync_run(tmp_path, RunPolicy(max_restarts=0), chief_0=victim, worker_0=slow)
    result = run.result()
    assert result.root_cause is not None
    text = result.root_cause.render()
    assert text.startswith("worker-0 failed: ValueError: bad record (at step 5)")
    assert "Lost with it (connection or collective broken): chief-0." in text


def test_a_culprit_that_hangs_on_its_way_out_is_still_named(tmp_path: Path) -> None:
    victim = TaskScript.of(failure(3, "UnavailableError", "Connection reset by peer"), ends(3.1, 1))
    hangs = TaskScript.of(failure(2.9, "ValueError", "bad flag"), on_request=None)
    run = sync_run(tmp_path, chief_0=victim, worker_0=hangs)
    result = run.result()
    assert result.exit_code == 1
    assert result.root_cause is not None
    assert result.root_cause.task == task("worker-0")
    assert run.submitted == [(0, "chief-0 worker-0 evaluator-0")], "a mistake was restarted"
    assert "worker-0" in run.killed


# Restarts: coordinator


def test_a_coordinators_worker_alone_but_its_ps_with_everything(tmp_path: Path) -> None:
    job = make_job(tmp_path / "run", COORDINATOR, chief=1, worker=1, ps=1)
    dead = TaskScript.of(ends(3, signal=9))
    run = Run(job, {"chief-0": TRAINS, "worker-0": [dead, TaskScript()], "ps-0": TaskScript()})
    assert run.result().exit_code == 0
    assert run.submitted[1:] == [(0, "worker-0")]

    job = make_job(tmp_path / "second", COORDINATOR, chief=1, worker=1, ps=1)
    run = Run(job, {"chief-0": TRAINS, "ps-0": [dead, TaskScript()]})
    assert run.result().exit_code == 0
    assert run.submitted[1:] == [(1, "chief-0 worker-0 ps-0")]


# Mistakes


def test_an_experiment_that_raises_while_building_is_not_restarted(tmp_path: Path) -> None:
    raises = TaskScript.of(failure(1, "ValueError", "no such column"), ends(1.2, 1))
    waits = TaskScript.of(progress(1, phase=Phase.WAITING), on_request=None)
    run = ps_run(tmp_path, chief_0=raises, worker_0=waits, evaluator_0=raises)
    result = run.result()
    assert (result.exit_code, result.restarts) == (1, 0)
    assert run.submitted == [(0, "chief-0 worker-0 ps-0 evaluator-0")]
    assert result.seconds < 5, "nothing was worth waiting for"
    assert result.root_cause is not None
    assert result.root_cause.render().startswith("chief-0 failed: ValueError: no such column\n  Traceback")


def test_a_users_mistake_gives_exit_code_2_and_no_traceback(tmp_path: Path) -> None:
    wrong = TaskScript.of(
        failure(1, "orchestrator.errors.ExperimentError", "unknown parameter", user_error=True), ends(1, 2)
    )
    result = ps_run(tmp_path, chief_0=wrong, worker_0=wrong, evaluator_0=wrong).result()
    assert result.exit_code == 2
    assert result.root_cause is not None
    text = result.root_cause.render()
    assert "unknown parameter" in text
    assert "Traceback" not in text


def test_programs_without_records_are_understood_by_their_log(tmp_path: Path) -> None:
    job = make_job(tmp_path / "run", SYNC, is_experiment=False, worker=2)
    text = 'Traceback (most recent call last):\n  File "a.py", line 1\nImportError: no module named x'
    run = Run(job, {"worker-0": TaskScript.of(output(1, text), ends(1.1, 1)), "worker-1": TaskScript()})
    result = run.result()
    assert result.exit_code == 1
    assert len(run.submitted) == 1, "an import error was restarted"
    assert "ImportError: no module named x" in result.why or "ImportError" in result.why
    assert result.root_cause is not None
    assert "worker-0 failed: ImportError: no module named x" in result.root_cause.render()


def test_the_log_of_an_earlier_start_is_not_blamed(tmp_path: Path) -> None:
    text = 'Traceback (most recent call last):\n  File "a.py", line 1, in <module>\nOSError: gone'
    job = make_job(
        tmp_path / "run", StrategyKind.SINGLE, RunPolicy(max_restarts=1), is_experiment=False, worker=1
    )
    first, second = (
        TaskScript.of(output(1, text), ends(2, 1)),
        TaskScript.of(output(1, "all well"), ends(2, 3)),
    )
    result = Run(job, {"worker-0": [first, second]}).result()
    assert result.root_cause is not None
    assert result.root_cause.headline() == "worker-0 failed: exit code 3"
    assert "all well" in result.root_cause.render()


# Stopping


def test_a_stop_request_asks_trainers_first_and_ps_when_they_are_gone(tmp_path: Path) -> None:
    slow = TaskScript.of(progress(1, 0), progress(3, 30, checkpoint=30), request_seconds=4)
    run = ps_run(tmp_path, chief_0=slow, worker_0=slow)
    run.launcher.at(3.5, lambda: run.supervisor.request_stop(SIGINT_STOP))
    result = run.result()
    assert (result.phase, result.exit_code, result.why) == (RunPhase.STOPPED, 130, "Ctrl-C")
    (first_at, first, _), (ps_at, ps, _) = run.launcher.stops
    assert [str(t) for t in first] == ["chief-0", "worker-0", "evaluator-0"]
    assert [str(t) for t in ps] == ["ps-0"]
    assert ps_at >= first_at + 4
    assert run.killed == []
    assert not any("killed" in note for note in result.notes)


def test_after_the_grace_period_everything_is_killed_and_said(tmp_path: Path) -> None:
    deaf = TaskScript.of(progress(1, 0), progress(3, 30, checkpoint=20), on_request=None)
    run = ps_run(tmp_path, RunPolicy(grace_seconds=8), chief_0=deaf, worker_0=deaf, ps_0=deaf)
    run.launcher.at(4, lambda: run.supervisor.request_stop(StopRequest(143, "SIGTERM")))
    result = run.result()
    assert result.exit_code == 143
    assert sorted(run.killed) == ["chief-0", "ps-0", "worker-0"]
    assert result.seconds == pytest.approx(4 + 8 + 5, abs=1)
    assert any("chief-0, worker-0; the last checkpoint is that of step 20" in note for note in result.notes)
    lefts = [s.stop_seconds_left for s in run.observer.snapshots if s.stop_seconds_left is not None]
    assert max(lefts) <= 8
    assert min(lefts) < 1


def test_a_second_request_kills_at_once(tmp_path: Path) -> None:
    deaf = TaskScript.of(progress(1, 0), on_request=None)
    run = ps_run(tmp_path, chief_0=deaf, worker_0=deaf, ps_0=deaf)
    run.launcher.at(4, lambda: run.supervisor.request_stop(SIGINT_STOP))
    run.launcher.at(6, run.supervisor.hurry)
    result = run.result()
    assert result.exit_code == 130
    assert result.seconds < 7.5


def test_a_stop_request_between_two_attempts(tmp_path: Path) -> None:
    run = sync_run(tmp_path, RunPolicy(restart_delay_seconds=50), worker_0=KILLED_AT_4)
    run.launcher.at(6, lambda: run.supervisor.request_stop(SIGINT_STOP))
    result = run.result()
    assert result.exit_code == 130
    assert len(run.submitted) == 1
    assert result.seconds < 10


def test_a_stop_request_cancels_the_restart_of_a_task(tmp_path: Path) -> None:
    run = ps_run(tmp_path, RunPolicy(restart_delay_seconds=50), worker_0=KILLED_AT_4)
    run.launcher.at(6, lambda: run.supervisor.request_stop(SIGINT_STOP))
    assert run.result().exit_code == 130
    assert len(run.submitted) == 1


def test_the_total_time_limit(tmp_path: Path) -> None:
    endless = TaskScript.of(progress(1, 0), progress(2, 10), request_seconds=2)
    run = ps_run(tmp_path, RunPolicy(total_timeout_seconds=100), chief_0=endless, worker_0=endless)
    result = run.result()
    assert (result.phase, result.exit_code) == (RunPhase.FAILED, 1)
    assert "total time limit of 100 s" in result.why
    assert "chief-0" in run.asked
    assert run.killed == []


def test_a_task_that_never_starts_is_named_not_the_one_that_waits_for_it(tmp_path: Path) -> None:
    waits = TaskScript.of(progress(1, phase=Phase.WAITING), on_request=None)
    silent = TaskScript.of(on_request=None)
    policy = RunPolicy(start_timeout_seconds=60, max_restarts=1)
    result = sync_run(tmp_path, policy, chief_0=waits, worker_0=silent).result()
    assert result.exit_code == 1
    assert result.attempts == 2
    assert result.root_cause is not None
    assert result.root_cause.headline() == (
        "worker-0 failed: took no step within 60 s of its start (it was silent)"
    )


def test_a_jump_of_the_clock_changes_nothing(tmp_path: Path) -> None:
    run = ps_run(tmp_path, RunPolicy(total_timeout_seconds=100, start_timeout_seconds=60))
    run.launcher.at(3, lambda: run.clock.jump(86_400))
    run.launcher.at(6, lambda: run.clock.jump(-200_000))
    result = run.result()
    assert result.exit_code == 0
    assert result.seconds == pytest.approx(12.1, abs=0.6)


# Hangs


def hung(step: int, *, on_request: int | None = None) -> TaskScript:
    """Trains to `step`, and no further."""
    return TaskScript.of(
        progress(1, 0, max_steps=100), progress(3, step, max_steps=100), on_request=on_request
    )


@pytest.mark.parametrize(("delay", "told"), [(1, False), (40, True)])
def test_a_long_pause_before_a_restart_is_announced(tmp_path: Path, delay: int, told: bool) -> None:
    run = sync_run(tmp_path, RunPolicy(restart_delay_seconds=delay), worker_0=[KILLED_AT_4, RESUMES])
    run.result()
    (text,) = run.observer.texts(EventKind.ATTEMPT_RESTARTING)
    found = re.search(r", in (\d+) s$", text)
    assert (found is not None) is told
    assert found is None or 20 <= int(found[1]) <= 40


def test_a_hung_synchronous_task_is_named_with_its_stack_and_the_attempt_restarted(tmp_path: Path) -> None:
    policy = RunPolicy(hang_seconds=HangLimits(stepping=60))
    run = sync_run(tmp_path, policy, chief_0=[hung(30), RESUMES], worker_0=[hung(30), RESUMES])
    run.launcher.stacks = {"chief-0": IN_TENSORFLOW, "worker-0": IN_OWN_CODE}
    result = run.result()
    assert result.exit_code == 0
    assert [attempt for attempt, _ in run.submitted] == [0, 1]
    (text,) = run.observer.texts(EventKind.ATTEMPT_RESTARTING)
    assert text.startswith("worker-0 made no progress for 60 s (stepping at step 30); it is in read")
    (asked,) = run.observer.texts(EventKind.TASK_HUNG)
    assert "asked chief-0, worker-0 for stacks" in asked
    (note,) = [note for note in result.notes if "stacks at the hang" in note]
    for name in ("chief-0", "worker-0"):
        (path,) = RunDir(run.job.run_dir).records(task(name)).directory.glob("stacks-*.txt")
        assert str(path) in note
        assert path.read_text()


def test_a_stopped_ps_is_restarted_alone_and_the_others_get_their_time_anew(tmp_path: Path) -> None:
    policy = RunPolicy(hang_seconds=HangLimits(stepping=60))
    held_up = TaskScript.of(
        progress(1, 0, max_steps=100),
        progress(3, 30, max_steps=100),
        progress(100, 40, max_steps=100),
        progress(110, 100, checkpoint=100, phase=Phase.DONE),
        ends(111),
    )
    late = TaskScript.of(evaluation(115, 100, final=True, accuracy=0.9), ends(116))
    run = ps_run(tmp_path, policy, chief_0=held_up, worker_0=held_up, evaluator_0=late)
    run.launcher.stacks = {"chief-0": IN_TENSORFLOW, "worker-0": IN_TENSORFLOW, "ps-0": ""}
    result = run.result()
    assert result.exit_code == 0
    assert run.submitted[1:] == [(0, "ps-0")]
    assert run.killed == ["ps-0"]


def test_a_task_that_hangs_every_time_ends_the_job_by_name(tmp_path: Path) -> None:
    policy = RunPolicy(max_restarts=1, hang_seconds=HangLimits(stepping=60))
    result = sync_run(tmp_path, policy, chief_0=hung(30), worker_0=hung(20)).result()
    assert (result.exit_code, result.attempts) == (1, 2)
    assert result.root_cause is not None
    assert result.root_cause.headline() == (
        "worker-0 failed: made no progress for 60 s (stepping at step 20) (at step 20)"
    )
    assert result.root_cause.kind is FailureKind.HANG
    (restart,) = result.history
    assert (restart.task, restart.whole_attempt, restart.checkpoint_step) == (task("worker-0"), True, None)


def test_batches_of_an_evaluation_are_progress(tmp_path: Path) -> None:
    policy = RunPolicy(hang_seconds=HangLimits(evaluating=60))
    job = make_job(tmp_path / "run", StrategyKind.SINGLE, policy, chief=1)
    batches = [Action(at, ProgressRecord(Phase.EVALUATING, 0.0, 50, batches=at)) for at in range(5, 305, 50)]
    goes_on = TaskScript.of(progress(1, 50), *batches, ends(300))
    assert Run(job, {"chief-0": goes_on}).result().restarts == 0


def test_a_hung_evaluator_is_restarted_alone(tmp_path: Path) -> None:
    policy = RunPolicy(hang_seconds=HangLimits(evaluating=3))
    stuck = TaskScript.of(progress(1, phase=Phase.EVALUATING), on_request=None)
    run = ps_run(tmp_path, policy, evaluator_0=[stuck, EVALUATES])
    assert run.result().exit_code == 0
    assert run.submitted[1:] == [(0, "evaluator-0")]


def test_a_program_that_writes_no_record_is_not_watched(tmp_path: Path) -> None:
    policy = RunPolicy(start_timeout_seconds=10, hang_seconds=HangLimits(stepping=10))
    job = make_job(tmp_path / "run", SYNC, policy, is_experiment=False, worker=2)
    quiet = TaskScript.of(ends(500))
    assert Run(job, {"worker-0": quiet, "worker-1": quiet}).result().restarts == 0


def test_a_program_of_any_kind_that_writes_records_is_watched(tmp_path: Path) -> None:
    policy = RunPolicy(max_restarts=0, hang_seconds=HangLimits(stepping=10))
    job = make_job(tmp_path / "run", SYNC, policy, is_experiment=False, worker=2)
    quiet = TaskScript.of(ends(500))
    result = Run(job, {"worker-0": quiet, "worker-1": hung(7)}).result()
    assert result.root_cause is not None
    assert result.root_cause.headline().startswith("worker-1 failed: made no progress for 10 s")


# Uneven data

LOSES_A_PEER = TaskScript.of(
    progress(1, 0),
    progress(4, 80),
    failure(9, "tensorflow.UnavailableError", "Collective ops is aborted by: peer"),
    ends(9.1, 1),
)
RUNS_OUT = TaskScript.of(progress(1, 0), progress(4, 80, phase=Phase.DONE), ends(5))


def test_a_synchronous_worker_whose_data_runs_out_is_told_from_the_network_errors(tmp_path: Path) -> None:
    run = sync_run(tmp_path, chief_0=LOSES_A_PEER, worker_0=RUNS_OUT)
    result = run.result()
    assert (result.exit_code, result.restarts) == (1, 0), "a restart would only do the same again"
    cause = result.root_cause
    assert cause is not None
    assert cause.kind is FailureKind.UNEVEN_DATA
    assert (cause.task, cause.victims) == (task("worker-0"), (task("chief-0"),))
    assert "its data ran out first (steps: chief-0 at 80, worker-0 at 80)" in cause.headline()
    assert "same number of batches" in result.why


def test_uneven_data_is_found_where_the_others_hang(tmp_path: Path) -> None:
    policy = RunPolicy(hang_seconds=HangLimits(stepping=60))
    result = sync_run(tmp_path, policy, chief_0=hung(80), worker_0=RUNS_OUT).result()
    assert (result.exit_code, result.restarts) == (1, 0)
    assert result.root_cause is not None
    assert result.root_cause.kind is FailureKind.UNEVEN_DATA


def test_a_worker_that_has_reached_the_last_step_is_not_blamed(tmp_path: Path) -> None:
    late = TaskScript.of(
        progress(1, 0, max_steps=100),
        progress(9.5, 100, max_steps=100, checkpoint=100),
        failure(11, "tensorflow.UnavailableError", "socket closed"),
        ends(11.1, 1),
    )
    run = sync_run(tmp_path, chief_0=[late, RESUMES], worker_0=[TRAINS, RESUMES])
    assert run.result().exit_code == 0
    assert run.submitted[1][0] == 1


def test_asynchronous_workers_may_have_different_amounts_of_data(tmp_path: Path) -> None:
    lost = TaskScript.of(
        progress(1, 0), failure(6, "tensorflow.UnavailableError", "socket closed"), ends(6, 1)
    )
    run = ps_run(tmp_path, worker_0=RUNS_OUT, chief_0=[lost, TRAINS])
    assert run.result().exit_code == 0


# Starting


def test_data_is_prepared_before_any_task_starts(tmp_path: Path) -> None:
    job = make_job(tmp_path / "run", StrategyKind.SINGLE, chief=1, prepare_command=("prepare",))
    run = Run(job, {"chief-0": TRAINS})
    assert run.result().exit_code == 0
    assert run.launcher.prepared == 1
    assert len(run.submitted) == 1


@pytest.mark.parametrize(("code", "expected"), [(1, 1), (2, 2), (3, 3), (4, 1)])
def test_a_preparation_that_fails_starts_nothing(tmp_path: Path, code: int, expected: int) -> None:
    job = make_job(tmp_path / "run", StrategyKind.SINGLE, chief=1, prepare_command=("prepare",))
    RunDir(job.run_dir).preparation_log.write_text("downloading\nno space left\n")
    run = Run(job, {"chief-0": TRAINS})
    run.launcher.preparation = Exit(code)
    result = run.result()
    assert result.exit_code == expected
    assert run.submitted == []
    assert result.root_cause is not None
    assert result.root_cause.render().startswith(f"the preparation of the data failed: exit code {code}")
    assert "no space left" in result.root_cause.render()


def test_a_preparation_that_never_ends(tmp_path: Path) -> None:
    policy = RunPolicy(start_timeout_seconds=90)
    job = make_job(tmp_path / "run", StrategyKind.SINGLE, policy, chief=1, prepare_command=("prepare",))
    run = Run(job, {})
    run.launcher.preparation = None
    result = run.result()
    assert result.exit_code == 1
    assert result.root_cause is not None
    assert "did not end within 90 s" in result.root_cause.headline()

    job = make_job(tmp_path / "second", StrategyKind.SINGLE, policy, chief=1, prepare_command=("prepare",))
    run = Run(job, {})
    run.launcher.preparation = None
    run.launcher.at(5, lambda: run.supervisor.request_stop(SIGINT_STOP))
    assert run.result().exit_code == 130


def test_a_port_taken_between_planning_and_start_is_planned_again(tmp_path: Path) -> None:
    run = ps_run(tmp_path)
    run.launcher.taken_ports = 2
    result = run.result()
    assert result.exit_code == 0
    assert len([note for note in result.notes if "Planning again" in note]) == 2

    run = Run(make_job(tmp_path / "second", chief=1), {"chief-0": TRAINS})
    run.launcher.taken_ports = 3
    with pytest.raises(PortError):
        run.supervisor.run()
    assert run.launcher.closed
    state = RunState.read(RunDir(run.job.run_dir))
    assert (state.phase, state.exit_code) == (RunPhase.FAILED, 3)


def test_a_port_taken_before_a_restart_in_place_restarts_the_attempt(tmp_path: Path) -> None:
    run = ps_run(tmp_path, worker_0=[KILLED_AT_4, RESUMES])

    def take() -> None:
        run.launcher.taken_ports = 1

    run.launcher.at(4.1, take)
    assert run.result().exit_code == 0
    assert run.submitted[-1] == (1, "chief-0 worker-0 ps-0")


# Records


def test_a_task_that_stops_along_with_a_preempted_peer_is_not_blamed(tmp_path: Path) -> None:
    steps = [progress(1, 0, max_steps=100), progress(5, 60, checkpoint=60, max_steps=100)]
    agrees = TaskScript.of(
        *steps, progress(6, 60, checkpoint=60, phase=Phase.DONE, stopped_with_peer=True), ends(6.2, 143)
    )
    preempted = TaskScript.of(*steps, ends(8, 143))
    run = sync_run(tmp_path, chief_0=[agrees, RESUMES], worker_0=[preempted, RESUMES])
    assert run.result().exit_code == 0
    (text,) = run.observer.texts(EventKind.ATTEMPT_RESTARTING)
    assert text.startswith("worker-0 ended with SIGTERM (exit code 143)")


def test_events_tell_the_story_and_files_agree(tmp_path: Path) -> None:
    run = ps_run(tmp_path, worker_0=[KILLED_AFTER_CHECKPOINT, RESUMES])
    run.result()
    run_dir = RunDir(run.job.run_dir)
    events = [json.loads(line) for line in run_dir.events.read_text().splitlines()]
    kinds = [event["event"] for event in events]
    assert kinds[0] == "run_started"
    assert kinds[-1] == "finished"
    exits = {event["task"]: event for event in events if event["event"] == "task_exited"}
    assert set(exits) == {"chief-0", "worker-0", "ps-0", "evaluator-0"}
    assert exits["ps-0"]["requested"]
    state = RunState.read(run_dir)
    assert (state.attempt, state.restarts, state.exit_code) == (0, 1, 0)
    assert {name: (value["state"], value["starts"]) for name, value in state.tasks.items()} == {
        "chief-0": ("done", 1),
        "worker-0": ("done", 2),
        "ps-0": ("stopped", 1),
        "evaluator-0": ("done", 1),
    }
    plan = json.loads(run_dir.plan.read_text())
    assert plan["tasks"]["ps-0"]["address"] == "127.0.0.1:20200"


def test_files_that_cannot_be_written_never_end_a_run(tmp_path: Path) -> None:
    run = ps_run(tmp_path)
    run_dir = RunDir(run.job.run_dir)
    run_dir.events.mkdir()
    run_dir.plan.mkdir()
    result = run.supervisor.run()
    assert result.exit_code == 0
    assert len([note for note in result.notes if "cannot write" in note]) == 2


@pytest.mark.parametrize("seed", range(30))
def test_random_kills_end_with_the_last_step_and_its_evaluation(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    names = ["chief-0", "worker-0", "ps-0", "evaluator-0"]
    scripts: dict[str, Scripts | TaskScript] = {}
    for name in names:
        deaths = [
            TaskScript.of(progress(0.5, 0, max_steps=100), ends(round(rng.uniform(0.1, 9), 2), signal=9))
            for _ in range(rng.randrange(4))
        ]
        scripts[name] = [*deaths, PS_JOB[name]]
    strategy = rng.choice([ASYNC, COORDINATOR])
    job = make_job(
        tmp_path / "run", strategy, RunPolicy(max_restarts=99), chief=1, worker=1, ps=1, evaluator=1
    )
    run = Run(job, scripts)
    result = run.result()
    assert result.exit_code == 0
    assert result.global_step == 100
    assert result.evaluation is not None
    assert result.evaluation.final
