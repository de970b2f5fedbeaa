from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.errors import ConfigError
from orchestrator.launch.job import StartMethod
from orchestrator.launch.start_method import (
    ParentFacts,
    choose,
    differing_variables,
    gpu_visible,
    same_interpreter,
    wanted_method,
)
from tests.launch.local_runs import local_job

FORK, EXEC = StartMethod.FORK, StartMethod.EXEC
PLAIN = (sys.executable, "train.py")


@pytest.fixture
def parent(tmp_path: Path) -> ParentFacts:
    return ParentFacts(
        sys.executable, {"HOME": "/h", "OMP_NUM_THREADS": "2"}, gpu=False, working_dir=tmp_path
    )


def decide(parent: ParentFacts, command: tuple[str, ...] = PLAIN, **env: str) -> tuple[StartMethod, str]:
    return choose(None, command, {**parent.environ, **env}, parent)


def test_a_plain_program_is_forked_where_no_gpu_is_visible(parent: ParentFacts) -> None:
    assert decide(parent) == (FORK, "no GPU is visible; TensorFlow is imported once for all tasks")
    assert decide(parent, (sys.executable, "-u", "-m", "pkg"))[0] is FORK


def test_a_visible_gpu_means_exec_unless_fork_is_asked_for(parent: ParentFacts, tmp_path: Path) -> None:
    with_gpu = ParentFacts(parent.interpreter, parent.environ, gpu=True, working_dir=tmp_path)
    assert decide(with_gpu) == (EXEC, "a GPU is visible, and forking has not been proven with one")
    assert choose(FORK, PLAIN, with_gpu.environ, with_gpu)[0] is FORK


def test_the_users_wish_for_exec_is_followed(parent: ParentFacts) -> None:
    assert choose(EXEC, PLAIN, parent.environ, parent) == (EXEC, "asked for by start_method")


@pytest.mark.parametrize("wanted", [None, FORK])
@pytest.mark.parametrize(
    ("command", "why"),
    [
        (("bash", "run.sh"), "not a plain Python program"),
        ((sys.executable, "-c", "pass"), "not a plain Python program"),
        ((sys.executable, "-O", "train.py"), "not a plain Python program"),
        (("/usr/bin/python-of-others", "train.py"), "not the launcher's own interpreter"),
    ],
)
def test_other_programs_are_executed(
    parent: ParentFacts, wanted: StartMethod | None, command: tuple[str, ...], why: str
) -> None:
    method, said = choose(wanted, command, parent.environ, parent)
    assert method is EXEC
    assert why in said


@pytest.mark.parametrize(
    "name",
    [
        "PYTHONPATH", "PYTHONHASHSEED", "LD_PRELOAD", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "TF_CPP_MIN_LOG_LEVEL", "TF_ENABLE_ONEDNN_OPTS", "TF_XLA_FLAGS", "XLA_FLAGS", "CUDA_VISIBLE_DEVICES",
        "TF_USE_LEGACY_KERAS", "KERAS_BACKEND", "LC_ALL",
    ],
)  # fmt: skip
def test_a_variable_that_is_read_at_import_means_exec(parent: ParentFacts, name: str) -> None:
    method, why = decide(parent, **{name: "7"})
    assert method is EXEC
    assert name in why


def test_a_variable_of_the_parent_that_the_task_lacks_means_exec_too(parent: ParentFacts) -> None:
    assert differing_variables({"HOME": "/h"}, parent.environ) == ["OMP_NUM_THREADS"]


@pytest.mark.parametrize(
    "name", ["PYTHONUNBUFFERED", "TF_CONFIG", "TF_GRPC_REUSE_PORT", "MY_FLAG", "HOME", "TZ"]
)
def test_other_variables_can_be_set_after_a_fork(parent: ParentFacts, name: str) -> None:
    assert decide(parent, **{name: "7"})[0] is FORK


@pytest.mark.parametrize(
    "line",
    [
        "os.environ['TF_USE_LEGACY_KERAS'] = '1'",
        "os.environ['XLA_FLAGS'] = '--x'",
        "environ['OMP_NUM_THREADS']='1'",
    ],
)
def test_a_program_that_sets_such_a_variable_itself_is_executed(parent: ParentFacts, line: str) -> None:
    (parent.working_dir / "train.py").write_text(f"import os\n{line}\nimport tensorflow\n")
    (parent.working_dir / "pkg").mkdir()
    (parent.working_dir / "pkg/__main__.py").write_text(line)
    (parent.working_dir / "pkg/mod.py").write_text(line)
    for command in (PLAIN, (sys.executable, "-m", "pkg"), (sys.executable, "-m", "pkg.mod")):
        method, why = decide(parent, command)
        assert method is EXEC
        assert "which is read while TensorFlow is imported" in why


def test_a_program_that_only_quiets_the_log_is_forked(parent: ParentFacts) -> None:
    (parent.working_dir / "train.py").write_text("os.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'")
    assert decide(parent)[0] is FORK


@pytest.mark.parametrize(("option", "method"), [("fork", FORK), ("spawn", EXEC), (None, None)])
def test_the_launcher_option(tmp_path: Path, option: str | None, method: StartMethod | None) -> None:
    options = {} if option is None else {"start_method": option}
    assert wanted_method(local_job(tmp_path, PLAIN, options=options)) is method


def test_an_unknown_start_method_is_refused_with_the_near_miss(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"start_method is 'frok'\. Did you mean 'fork'"):
        wanted_method(local_job(tmp_path, PLAIN, options={"start_method": "frok"}))


def test_the_interpreter_is_found_on_the_path(tmp_path: Path) -> None:
    (tmp_path / "python3").symlink_to(sys.executable)
    assert same_interpreter(sys.executable)
    assert not same_interpreter("python3", path=str(tmp_path / "empty"))
    in_venv = sys.prefix != sys.base_prefix
    assert same_interpreter("python3", path=str(tmp_path)) is not in_venv, (
        "a link elsewhere loses the environment"
    )
    assert same_interpreter("python3", path=str(Path(sys.executable).parent))


def test_two_virtual_environments_of_one_interpreter_are_not_the_same(tmp_path: Path) -> None:
    for name in ("a", "b"):
        subprocess.check_call([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / name)])
    first, second = (str(tmp_path / name / "bin/python") for name in "ab")
    assert Path(first).resolve() == Path(second).resolve()
    assert not same_interpreter(first, second)
    assert same_interpreter(str(tmp_path / "a/bin/python3"), first)


@pytest.mark.parametrize(
    ("devices", "chosen", "visible"),
    [
        ([], None, False), ([], "0", False), (["nvidia0"], None, True), (["nvidia0"], "0", True),
        (["nvidia0"], "", False), (["nvidia0"], "-1", False), (["nvidiactl"], None, False),
        (["kfd"], None, True), (["kfd"], "-1", False), (["nvidia0"], "MIG-1", True),
        (["nvidia0"], "7", False),
    ],
)  # fmt: skip
def test_gpus_are_seen_by_their_device_files(
    tmp_path: Path, devices: list[str], chosen: str | None, visible: bool
) -> None:
    for name in devices:
        (tmp_path / name).touch()
    environ = {} if chosen is None else {"CUDA_VISIBLE_DEVICES": chosen}
    assert gpu_visible(environ, tmp_path) is visible
