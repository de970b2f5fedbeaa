"""The evaluator against a scripted history of checkpoints; no TensorFlow session, no real time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tensorflow as tf

from orchestrator.cluster.records import EvaluationRecord, Phase, ProgressRecord, TaskEnvironment, TaskRecords
from orchestrator.cluster.task import TaskId
from orchestrator.errors import InvalidArgument, InvalidType
from orchestrator.estimator.continuous_evaluation import (
    CheckpointEvaluator,
    EvaluateWhenSaved,
    TrainingWatch,
    evaluate_continuously,
)
from orchestrator.estimator.specs import EvalSpec
from orchestrator.estimator.stop_request import StopRequest, StopRequested
from orchestrator.exporters.exporter import Exporter

TOO_LATE = 100_000.0


class History(StopRequest):
    """A clock that moves on while somebody waits, and what happens at which time."""

    def __init__(self, *events: tuple[float, Callable[[], None]]) -> None:
        super().__init__()
        self.now = 0.0
        self._events = sorted(events, key=lambda event: event[0])
        self._play()

    def at(self, time: float, event: Callable[[], None]) -> None:
        self._events.append((time, event))

    def clock(self) -> float:
        return self.now

    def wait(self, seconds: float, poll_seconds: float = 0.1) -> bool:
        self.now += seconds
        assert self.now < TOO_LATE, "nothing ends this history"
        self._play()
        return self.is_set()

    def _play(self) -> None:
        while self._events and self._events[0][0] <= self.now:
            self._events.pop(0)[1]()


class ModelDir:
    """A model directory whose checkpoints are empty files."""

    def __init__(self, path: Path) -> None:
        path.mkdir()
        self.path = path

    def save(self, step: int) -> None:
        prefix = str(self.path / f"model.ckpt-{step}")
        Path(prefix + ".index").touch()
        Path(prefix + ".data-00000-of-00001").touch()
        state = tf.train.get_checkpoint_state(str(self.path))
        kept = [*(state.all_model_checkpoint_paths if state else ()), prefix]
        tf.compat.v1.train.update_checkpoint_state(str(self.path), prefix, kept)

    def delete(self, step: int) -> None:
        for file in self.path.glob(f"model.ckpt-{step}.*"):
            file.unlink()


class Scripted:
    """An estimator whose evaluations note their arguments and do what the script says."""

    def __init__(self, model_dir: ModelDir, environment: TaskEnvironment | None = None) -> None:
        self.model_dir = str(model_dir.path)
        self.config = SimpleNamespace(task_environment=environment)
        self.steps: list[int] = []
        self.names: list[str | None] = []
        self.before_return: dict[int, Callable[[], None]] = {}

    def latest_checkpoint(self) -> str | None:
        return tf.train.latest_checkpoint(self.model_dir)

    def evaluate(self, *, checkpoint_path: str, name: str | None, **_: Any) -> Any:
        step = int(checkpoint_path.rsplit("-", 1)[1])
        self.steps.append(step)
        self.names.append(name)
        self.before_return.pop(step, lambda: None)()
        return {"loss": step / 10, "global_step": step}


class Noting(Exporter):
    """Notes which exports were called the final one."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.final: list[bool] = []
        self.paths: list[str] = []

    @property
    def name(self) -> str:
        return self._name

    def export(
        self,
        estimator: Any,
        export_path: str,
        checkpoint_path: str,
        eval_result: Any,
        is_the_final_export: bool,
    ) -> str:
        self.final.append(is_the_final_export)
        self.paths.append(export_path)
        return f"{self._name}-{eval_result['global_step']}"


@pytest.fixture
def model_dir(tmp_path: Path) -> ModelDir:
    return ModelDir(tmp_path / "model")


def environment_in(run_dir: Path, every_checkpoint: bool = False) -> TaskEnvironment:
    return TaskEnvironment(run_dir, TaskId.parse("evaluator-0"), 0, every_checkpoint=every_checkpoint)


def says(run_dir: Path, phase: Phase, task: str = "chief-0") -> Callable[[], None]:
    """The task's record from then on."""
    records = TaskRecords.of(run_dir, TaskId.parse(task))
    return lambda: records.write(ProgressRecord(phase, 1.0, 0))


def spec_of(start_delay_secs: float = 0, throttle_secs: float = 0, **arguments: Any) -> EvalSpec:
    return EvalSpec(
        arguments.pop("input_fn", lambda: None),
        start_delay_secs=start_delay_secs,
        throttle_secs=throttle_secs,
        **arguments,
    )


def run(estimator: Scripted, history: History, spec: EvalSpec, max_steps: int | None = None) -> None:
    watch = TrainingWatch(estimator.config.task_environment)
    evaluator = CheckpointEvaluator(estimator, spec, max_steps)
    evaluate_continuously(evaluator, spec, max_steps, watch, history, history.clock)


def test_the_first_evaluation_waits_for_the_start_delay_and_the_next_for_the_throttle(
    model_dir: ModelDir,
) -> None:
    estimator = Scripted(model_dir)
    times: list[float] = []
    saves = [(time, lambda step=step: model_dir.save(step)) for time, step in ((0, 1), (130, 2), (400, 3))]
    history = History(*saves, (1000, lambda: model_dir.save(9)))
    for step in (1, 3, 9):
        estimator.before_return[step] = lambda: times.append(history.now)
    run(estimator, history, spec_of(start_delay_secs=120, throttle_secs=600), max_steps=9)
    assert estimator.steps == [1, 3, 9]  # 2 was followed by 3 within the throttle time
    assert times == [120, 720, 1320]


def test_an_evaluation_longer_than_the_throttle_time_is_followed_at_once(model_dir: ModelDir) -> None:
    estimator, history = Scripted(model_dir), History()
    model_dir.save(1)
    times: list[float] = []

    def takes_long() -> None:
        history.now += 1000
        model_dir.save(2)

    estimator.before_return[1] = takes_long
    estimator.before_return[2] = lambda: times.append(history.now)
    run(estimator, history, spec_of(throttle_secs=600), max_steps=2)
    assert times == [1000]


def test_each_checkpoint_is_evaluated_once_and_the_evaluator_waits_for_the_next(model_dir: ModelDir) -> None:
    estimator = Scripted(model_dir)
    history = History((5, lambda: model_dir.save(1)), (50, lambda: model_dir.save(2)))
    run(estimator, history, spec_of(), max_steps=2)
    assert estimator.steps == [1, 2]


@pytest.mark.parametrize("when", ["start delay", "throttle"])
def test_the_end_of_training_cuts_waiting_short(when: str, model_dir: ModelDir, tmp_path: Path) -> None:
    environment = environment_in(tmp_path)
    estimator = Scripted(model_dir, environment)
    model_dir.save(1)
    history = History((10, lambda: model_dir.save(2)), (10, says(tmp_path, Phase.DONE)))
    delay = 5000 if when == "start delay" else 0
    run(estimator, history, spec_of(start_delay_secs=delay, throttle_secs=5000))
    assert estimator.steps == ([2] if when == "start delay" else [1, 2])
    assert history.now < 20
    record = environment.records.read(EvaluationRecord)
    assert record is not None
    assert (record.global_step, record.final) == (2, True)


def test_a_training_that_ends_during_an_evaluation_has_its_last_checkpoint_evaluated(
    model_dir: ModelDir, tmp_path: Path
) -> None:
    estimator = Scripted(model_dir, environment_in(tmp_path))
    model_dir.save(1)

    def ends() -> None:
        model_dir.save(2)
        says(tmp_path, Phase.DONE)()

    estimator.before_return[1] = ends
    run(estimator, History(), spec_of(throttle_secs=5000))
    assert estimator.steps == [1, 2]


def test_without_any_checkpoint_it_ends_with_the_training(model_dir: ModelDir, tmp_path: Path) -> None:
    estimator = Scripted(model_dir, environment_in(tmp_path))
    run(estimator, History((30, says(tmp_path, Phase.DONE))), spec_of())
    assert estimator.steps == []


def test_an_evaluator_without_work_says_every_ten_minutes_what_it_waits_for(
    model_dir: ModelDir, caplog: pytest.LogCaptureFixture
) -> None:
    estimator = Scripted(model_dir)
    history = History((1500, lambda: model_dir.save(1)), (2200, lambda: model_dir.save(2)))
    run(estimator, history, spec_of(), max_steps=2)
    said = [record.getMessage() for record in caplog.records]
    assert said == [f"There is no checkpoint in {model_dir.path} yet; the evaluator waits for one."] * 2 + [
        f"No checkpoint has followed {model_dir.path}/model.ckpt-1 yet; the evaluator waits for one."
    ]


def test_a_checkpoint_that_is_deleted_meanwhile_is_passed_over(
    model_dir: ModelDir, caplog: pytest.LogCaptureFixture
) -> None:
    estimator = Scripted(model_dir)
    model_dir.save(1)

    def vanishes() -> None:
        model_dir.save(2)
        model_dir.delete(1)
        raise tf.errors.NotFoundError(None, None, "model.ckpt-1 is not there")

    estimator.before_return[1] = vanishes
    run(estimator, History(), spec_of(), max_steps=2)
    assert estimator.steps == [1, 2]
    assert "model.ckpt-1 was deleted before it could be evaluated" in caplog.text


def test_other_errors_of_an_evaluation_are_raised(model_dir: ModelDir) -> None:
    estimator = Scripted(model_dir)
    model_dir.save(1)

    def fails() -> None:
        raise ValueError("wrong shape")

    estimator.before_return[1] = fails
    with pytest.raises(ValueError, match="wrong shape"):
        run(estimator, History(), spec_of(), max_steps=2)


@pytest.mark.parametrize("when", ["start delay", "throttle"])
def test_a_request_to_stop_ends_waiting(when: str, model_dir: ModelDir) -> None:
    estimator = Scripted(model_dir)
    model_dir.save(1)
    history = History()
    history.at(7, history.set)
    times = {"start delay": (5000, 0), "throttle": (0, 5000)}
    run(estimator, history, spec_of(*times[when]))
    assert estimator.steps == ([] if when == "start delay" else [1])
    assert history.now < 10


def test_an_evaluation_that_is_broken_off_counts_for_nothing(model_dir: ModelDir, tmp_path: Path) -> None:
    environment = environment_in(tmp_path)
    estimator, history = Scripted(model_dir, environment), History()
    model_dir.save(1)

    def asked() -> None:
        history.set()
        raise StopRequested

    estimator.before_return[1] = asked
    run(estimator, history, spec_of(), max_steps=1)
    assert environment.records.read(EvaluationRecord) is None


def test_every_checkpoint_in_order_without_throttle_between_those_that_lie_there(
    model_dir: ModelDir, tmp_path: Path
) -> None:
    estimator = Scripted(model_dir, environment_in(tmp_path, every_checkpoint=True))
    for step in (1, 2, 3):
        model_dir.save(step)
    history = History((50, lambda: model_dir.save(4)), (60, says(tmp_path, Phase.DONE)))
    times: list[float] = []
    for step in (1, 2, 3):
        estimator.before_return[step] = lambda: times.append(history.now)
    run(estimator, history, spec_of(throttle_secs=5000))
    assert estimator.steps == [1, 2, 3, 4]
    assert times == [0, 0, 0]


def test_exports_are_final_at_max_steps_alone_and_lie_below_export(model_dir: ModelDir) -> None:
    exporters = [Noting("a"), Noting("b")]
    estimator = Scripted(model_dir)
    spec = spec_of(exporters=exporters)
    evaluator = CheckpointEvaluator(estimator, spec, max_steps=2)
    for step in (1, 2):
        model_dir.save(step)
        checkpoint = evaluator.new_checkpoint()
        assert checkpoint is not None
        result = evaluator.evaluate(checkpoint, nothing_follows=True)
    assert result.exports == ["a-2", "b-2"]
    assert exporters[0].final == exporters[1].final == [False, True]
    assert exporters[1].paths[0] == str(model_dir.path / "export" / "b")
    assert evaluator.new_checkpoint() is None


def test_every_input_is_evaluated_on_the_same_checkpoint(model_dir: ModelDir) -> None:
    estimator = Scripted(model_dir)
    spec = spec_of(input_fn={"test": lambda: None, "hard": lambda: None})
    model_dir.save(7)
    result = CheckpointEvaluator(estimator, spec, None).evaluate(str(model_dir.path / "model.ckpt-7"))
    assert estimator.names == ["test", "hard"]
    assert estimator.steps == [7, 7]
    assert result.global_step == 7
    assert {"loss", "test/loss", "hard/loss"} <= set(result.metrics)


def test_catching_up_takes_all_where_each_counts_and_calls_the_newest_final(
    model_dir: ModelDir, tmp_path: Path
) -> None:
    for step in (1, 2, 3):
        model_dir.save(step)
    for every, expected in ((True, [1, 2, 3]), (False, [3])):
        environment = environment_in(tmp_path / str(every), every_checkpoint=every)
        estimator, final = Scripted(model_dir, environment), []
        for step in expected:  # the record so far, when the next evaluation begins
            estimator.before_return[step] = lambda seen=final, at=environment: seen.append(
                at.records.read(EvaluationRecord)
            )
        CheckpointEvaluator(estimator, spec_of(), None).catch_up(StopRequest(), nothing_follows=True)
        assert estimator.steps == expected
        assert not any(record.final for record in final if record is not None)
        last = environment.records.read(EvaluationRecord)
        assert last is not None
        assert (last.global_step, last.final) == (3, True)


@pytest.mark.parametrize(
    ("returned", "error", "text"),
    [
        (None, InvalidType, "should return dict"),
        ({}, InvalidArgument, "never return empty metrics"),
        ({"loss": 1.0}, InvalidArgument, "should have `global_step`. Given: loss"),
    ],
)
def test_a_subclass_must_return_metrics(returned: Any, error: type, text: str, model_dir: ModelDir) -> None:
    estimator = Scripted(model_dir)
    estimator.evaluate = lambda **_: returned  # type: ignore[method-assign]
    with pytest.raises(error, match=text):
        CheckpointEvaluator(estimator, spec_of(), None).evaluate("model.ckpt-1")


class TestTrainingWatch:
    def test_without_a_launcher_nobody_knows(self) -> None:
        assert TrainingWatch(None).record() is None
        assert not TrainingWatch(None).has_ended()

    @pytest.mark.parametrize("leader", ["chief-0", "master-0", "worker-0"])
    def test_the_leader_speaks_for_the_training(self, leader: str, tmp_path: Path) -> None:
        watch = TrainingWatch(environment_in(tmp_path))
        assert not watch.has_ended()
        says(tmp_path, Phase.STEPPING, leader)()
        assert not watch.has_ended()
        says(tmp_path, Phase.DONE, leader)()
        assert watch.has_ended()

    def test_workers_do_not_speak_for_a_chief_that_is_being_started_again(self, tmp_path: Path) -> None:
        TaskRecords.of(tmp_path, TaskId.parse("chief-0")).directory.mkdir(parents=True)
        says(tmp_path, Phase.DONE, "worker-0")()
        assert not TrainingWatch(environment_in(tmp_path)).has_ended()


class TestBesideTraining:
    """EvaluateWhenSaved: one process trains and evaluates."""

    def listener(self, estimator: Scripted, history: History, throttle_secs: float = 0) -> EvaluateWhenSaved:
        evaluator = CheckpointEvaluator(estimator, spec_of(), None)
        listener = EvaluateWhenSaved(evaluator, throttle_secs, history, history.clock)
        listener.begin()
        return listener

    def test_it_looks_for_a_checkpoint_once_an_evaluation(self, model_dir: ModelDir) -> None:
        estimator, looked = Scripted(model_dir), []
        find = estimator.latest_checkpoint
        estimator.latest_checkpoint = lambda: looked.append(1) or find()  # type: ignore[method-assign]
        listener = self.listener(estimator, History())
        for step in (0, 10, 20):
            self.saved(listener, model_dir, step)
        assert len(looked) == 2

    def saved(self, listener: EvaluateWhenSaved, model_dir: ModelDir, step: int) -> bool:
        model_dir.save(step)
        return listener.after_save(None, step)

    def test_the_checkpoint_of_the_start_is_left_out_and_the_last_is_not(self, model_dir: ModelDir) -> None:
        estimator = Scripted(model_dir)
        listener = self.listener(estimator, History())
        assert not any(self.saved(listener, model_dir, step) for step in (0, 10))
        listener.end(None, 10)  # evaluated a moment ago
        assert estimator.steps == [10]
        model_dir.save(15)
        listener.end(None, 15)
        assert estimator.steps == [10, 15]

    def test_within_the_throttle_time_only_the_last_is_evaluated(self, model_dir: ModelDir) -> None:
        estimator, history = Scripted(model_dir), History()
        listener = self.listener(estimator, history, throttle_secs=600)
        for step in (0, 10, 20):
            self.saved(listener, model_dir, step)
        history.now = 600
        for step in (30, 40):
            self.saved(listener, model_dir, step)
        listener.end(None, 40)
        assert estimator.steps == [10, 30, 40]

    def test_where_each_counts_none_is_left_out(self, model_dir: ModelDir, tmp_path: Path) -> None:
        estimator = Scripted(model_dir, environment_in(tmp_path, every_checkpoint=True))
        listener = self.listener(estimator, History(), throttle_secs=600)
        for step in (0, 10, 20):
            self.saved(listener, model_dir, step)
        listener.end(None, 20)
        assert estimator.steps == [0, 10, 20]

    def test_a_request_to_stop_ends_training(self, model_dir: ModelDir) -> None:
        estimator, history = Scripted(model_dir), History()
        listener = self.listener(estimator, history)
        self.saved(listener, model_dir, 0)

        def asked() -> None:
            history.set()
            raise StopRequested

        estimator.before_return[10] = asked
        assert self.saved(listener, model_dir, 10)
        assert self.saved(listener, model_dir, 20)
        assert estimator.steps == [10]
