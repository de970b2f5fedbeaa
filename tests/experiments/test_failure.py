from __future__ import annotations

import io
import textwrap
from pathlib import Path

import pytest

from orchestrator.cluster.records import FailureRecord, Phase, ProgressRecord, TaskEnvironment
from orchestrator.cluster.task import TaskId, TaskType
from orchestrator.errors import ConfigError, EnvironmentProblem, InvalidArgument, JobFailed
from orchestrator.experiments.failure import preparation_code, report
from orchestrator.experiments.function import ExperimentFunction


@pytest.fixture
def environment(tmp_path: Path) -> TaskEnvironment:
    return TaskEnvironment(run_dir=tmp_path, task=TaskId(TaskType.CHIEF, 0), attempt=0)


def reported(error: Exception, environment: TaskEnvironment) -> tuple[int, str, FailureRecord]:
    try:
        raise error
    except Exception as raised:
        stream = io.StringIO()
        code = report(raised, environment, stream)
    record = environment.records.read(FailureRecord)
    assert record is not None
    return code, stream.getvalue(), record


@pytest.mark.parametrize("kind", [ConfigError, InvalidArgument, EnvironmentProblem])
def test_a_mistake_in_the_input_is_one_line(kind: type[Exception], environment: TaskEnvironment) -> None:
    code, shown, record = reported(kind("batch_size is 0"), environment)
    assert (code, shown) == (2, "error: batch_size is 0\n")
    assert record.user_error
    assert (record.type, record.message) == (kind.__name__, "batch_size is 0")


def test_anything_else_is_shown_whole(environment: TaskEnvironment) -> None:
    environment.records.write(ProgressRecord(Phase.STEPPING, time=1.0, step=40))
    code, shown, record = reported(RuntimeError("out of luck"), environment)
    assert code == 1
    assert shown.startswith("Traceback")
    assert shown == record.traceback
    assert (record.type, record.message, record.step, record.user_error) == (
        "RuntimeError",
        "out of luck",
        40,
        False,
    )


def test_the_users_own_exception_has_the_users_part_of_the_traceback(
    tmp_path: Path, environment: TaskEnvironment
) -> None:
    (tmp_path / "mine_broken.py").write_text(
        textwrap.dedent(
            """
            def experiment(config):
                return deeper()

            def deeper():
                raise KeyError("units")
            """
        )
    )
    try:
        ExperimentFunction.find("mine_broken:experiment", tmp_path).build(None, {})  # type: ignore[arg-type]
    except Exception as error:
        stream = io.StringIO()
        code = report(error, environment, stream)
    shown = stream.getvalue()
    assert code == 2
    assert [line.split(",")[0].strip() for line in shown.splitlines() if line.startswith("  File")] == [
        f'File "{tmp_path}/mine_broken.py"'
    ] * 2
    assert shown.endswith("KeyError: 'units'\nerror: mine_broken:experiment raised KeyError: 'units'\n")
    record = environment.records.read(FailureRecord)
    assert record is not None
    assert (record.type, record.message) == ("KeyError", "mine_broken:experiment raised KeyError: 'units'")
    assert record.user_error


def test_an_exception_in_an_import_starts_at_the_users_module(tmp_path: Path) -> None:
    (tmp_path / "mine_broken.py").write_text("import nowhere_to_be_found\n")
    stream = io.StringIO()
    try:
        ExperimentFunction.find("mine_broken:experiment", tmp_path)
    except Exception as error:
        report(error, None, stream)
    first_frame = stream.getvalue().splitlines()[1]
    assert first_frame == f'  File "{tmp_path}/mine_broken.py", line 1, in <module>'


@pytest.mark.parametrize(
    ("error", "code"), [(ConfigError(""), 2), (EnvironmentProblem(""), 3), (JobFailed(""), 1), (OSError(), 1)]
)
def test_the_preparation_ends_as_the_launcher_will(error: Exception, code: int) -> None:
    assert preparation_code(error) == code


def test_a_checkpoint_of_another_model_is_a_mistake_in_the_input(environment: TaskEnvironment) -> None:
    from orchestrator.estimator.session_opening import CheckpointMisfit

    code, shown, record = reported(CheckpointMisfit("w has shape [3] in the model"), environment)
    assert (code, shown) == (2, "error: w has shape [3] in the model\n")
    assert record.user_error
