"""`inspect`, `warm-start-plan`, and the warm start that a file or options ask `run` for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.job_options import JobOptions, resolve
from orchestrator.cli.main import main
from orchestrator.cli.warm_start_options import WarmStartOptions
from orchestrator.errors import ConfigError, OrchestratorError, WarmStartError

EXPERIMENT = """
import tensorflow as tf
from orchestrator import Experiment
from orchestrator.estimator import Estimator, EstimatorSpec, EvalSpec, TrainSpec
v1 = tf.compat.v1

def experiment(config, size: int = 3):
    print("the experiment says something")
    def model_fn(features, labels, mode):
        with v1.variable_scope("net"):
            kernel = v1.get_variable("kernel", [4, 3])
            head = v1.get_variable("head", [3, size])
        loss = tf.reduce_mean(tf.square(features @ kernel @ head))
        step = v1.train.get_global_step()
        return EstimatorSpec(mode, loss=loss, train_op=v1.train.AdamOptimizer().minimize(loss, step))
    data = lambda: tf.data.Dataset.from_tensors(tf.ones([2, 4])).repeat()
    train, evaluate = TrainSpec(data, max_steps=2), EvalSpec(data, steps=1)
    return Experiment(Estimator(model_fn, config=config), train, evaluate)
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    name = f"mine_{abs(hash(tmp_path))}"
    (tmp_path / f"{name}.py").write_text(EXPERIMENT)
    (tmp_path / "cluster.yaml").write_text(
        f"name: a\ntasks: {{chief: {{}}}}\nexperiment: {name}:experiment\n"
    )
    return tmp_path


@pytest.fixture
def donor(place: Path) -> str:
    import numpy as np

    from tests.warm_start.test_checkpoint_reader import write_by_name

    (place / "donor").mkdir()
    values = {"net/kernel": np.ones((4, 3), np.float32), "net/head": np.ones((3, 3), np.float32)}
    write_by_name(place / "donor" / "model.ckpt-5", {**values, "global_step": np.int64(5)})
    return "donor"


def called(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(words)
    out, err = capsys.readouterr()
    return code, out, err


def test_inspect_shows_what_is_inside(donor: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = called(capsys, "inspect", donor)
    assert code == 0
    assert "donor/model.ckpt-5 (the only one in the directory)" in out
    assert "TensorFlow checkpoint (by name), step 5" in out
    code, out, _ = called(capsys, "inspect", donor, "--json")
    value = json.loads(out)
    assert value["global_step"] == 5
    assert {t["name"]: (t["shape"], t["role"]) for t in value["tensors"]} == {
        "global_step": ([], "step"),
        "net/head": ([3, 3], "weight"),
        "net/kernel": ([4, 3], "weight"),
    }


def test_inspect_of_nothing_is_one_error(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = called(capsys, "inspect", "gone.ckpt")
    assert (code, out) == (2, "")
    assert err.startswith("error: CHECKPOINT: gone.ckpt: there is no such checkpoint.")
    assert err.count("\n") == 1


def planned(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any]]:
    code, out, err = called(capsys, "warm-start-plan", "cluster.yaml", *words, "--json")
    assert "the experiment says something" in err
    return code, json.loads(out)


def test_a_plan_is_shown_and_nothing_is_written(
    place: Path, donor: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(path for path in place.rglob("*") if "__pycache__" not in path.parts)
    code, value = planned(capsys, "--from", donor)
    assert code == 0
    assert [load["variable"] for load in value["loaded"]] == ["net/head", "net/kernel"]
    assert {skip["why"] for skip in value["skipped"] if not skip["by_rule"]} == set()
    assert sorted(path for path in place.rglob("*") if "__pycache__" not in path.parts) == before
    code, out, _ = called(capsys, "warm-start-plan", "cluster.yaml", "--from", donor)
    assert code == 0
    assert "2 variables loaded (84 B), 0 not loaded" in out


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("--set", "params.size=4"), "net/head: shape 3x4, in the checkpoint 3x3"),
        (("--include", "nut"), "include 'nut' matches nothing"),
        (("--rename", "net=body"), "nothing matches"),
    ],
)
def test_a_plan_that_cannot_be_applied_exits_with_2(
    donor: str, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], problem: str
) -> None:
    code, value = planned(capsys, "--from", donor, *words)
    assert (code, value["ok"]) == (2, False)
    assert problem in " ".join(value["problems"])


def test_options_of_a_plan(place: Path, donor: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, value = planned(capsys, "--from", donor, "--set", "params.size=4", "--on-mismatch", "skip")
    assert (code, [load["variable"] for load in value["loaded"]]) == (0, ["net/kernel"])
    code, value = planned(capsys, "--from", donor, "--exclude", "head")
    assert (code, [load["variable"] for load in value["loaded"]]) == (0, ["net/kernel"])
    (place / "map.yaml").write_text("net/kernel: net/kernel\n")
    code, value = planned(capsys, "--from", donor, "--include", "kernel", "--map", "map.yaml")
    assert (code, value["loaded"][0]["how"]) == (0, ["map"])


def test_a_plan_needs_a_checkpoint(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = called(capsys, "warm-start-plan", "cluster.yaml")
    assert code == 2
    assert "--from is missing, and cluster.yaml has no warm_start" in err
    code, _, err = called(capsys, "warm-start-plan", "cluster.yaml", "--from", "gone")
    assert code == 2
    assert "--from: " in err
    assert "there is no such checkpoint" in err


def request_of(place: Path, text: str = "", **options: Any) -> Any:
    path = place / "cluster.yaml"
    path.write_text(path.read_text() + text)
    given = WarmStartOptions(**options)
    resolved = resolve(JobOptions(Path("cluster.yaml"), warm_start=given), working_dir=place)
    assert resolved.experiment is not None
    return resolved.experiment.get("warm_start")


def test_the_files_section_reaches_the_tasks_with_absolute_paths(place: Path, donor: str) -> None:
    text = "warm_start:\n  checkpoint: donor\n  exclude: head\n  rename: {old: new, more: }\n"
    assert request_of(place, text) == {
        "checkpoint": str(place / "donor"),
        "exclude": ["head"],
        "rename": ["old=new", "more="],
    }
    assert request_of(place, "", include=["kernel"], exclude=["bias"]) == {
        "checkpoint": str(place / "donor"),
        "include": ["kernel"],
        "exclude": ["bias"],
        "rename": ["old=new", "more="],
    }


def test_options_alone_are_enough(place: Path, donor: str) -> None:
    assert request_of(place) is None
    assert request_of(place, "", checkpoint="donor", on_mismatch="skip") == {
        "checkpoint": str(place / "donor"),
        "on_mismatch": "skip",
    }


def test_set_may_add_to_the_warm_start_of_an_option(place: Path, donor: str) -> None:
    given = WarmStartOptions(checkpoint="donor")
    options = JobOptions(Path("cluster.yaml"), overrides=("warm_start.trainable=head",), warm_start=given)
    resolved = resolve(options, working_dir=place)
    assert resolved.experiment is not None
    assert resolved.experiment["warm_start"]["trainable"] == ["head"]


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ("warm_start: {checkpoint: donr}\n", {}, "cluster.yaml, line 4: warm_start.checkpoint: "),
        ("warm_start: {checkpoint: donr}\n", {}, "Did you mean 'donor'"),
        ("warm_start: {include: a}\n", {}, "warm_start.checkpoint: missing. Write for example"),
        ("warm_start: {checkpoint: donor, includ: a}\n", {}, "Did you mean 'include'"),
        ("warm_start: {checkpoint: donor, include: '('}\n", {}, "no regular expression"),
        ("warm_start: {checkpoint: donor, map: gone.yaml}\n", {}, "gone.yaml: cannot be read"),
        ("", {"checkpoint": "gone"}, "--warm-start: "),
        ("", {"include": ["a"]}, "--include without --warm-start"),
        ("", {"checkpoint": "donor", "on_mismatch": "skipp"}, "Did you mean 'skip'"),
        ("", {"checkpoint": "donor", "rename": ["a"]}, "not OLD=NEW"),
    ],
)
def test_mistakes_are_told_before_anything_starts(
    place: Path, donor: str, text: str, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(OrchestratorError) as caught:
        request_of(place, text, **options)
    assert words in str(caught.value)
    assert isinstance(caught.value, ConfigError | WarmStartError)


def test_a_model_that_goes_on_does_not_need_the_other_one_any_more(place: Path, donor: str) -> None:
    (place / "models" / "a").mkdir(parents=True)
    (place / "models" / "a" / "checkpoint").write_text("")
    assert request_of(place, "", checkpoint="gone")["checkpoint"] == str(place / "gone")


def test_a_command_has_no_warm_start(place: Path) -> None:
    given = WarmStartOptions(checkpoint="donor")
    with pytest.raises(ConfigError, match="--warm-start is for experiments"):
        resolve(JobOptions(Path("cluster.yaml"), command=("true",), warm_start=given), working_dir=place)


def test_check_says_whether_the_checkpoint_is_there(
    place: Path, donor: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = place / "cluster.yaml"
    path.write_text(path.read_text() + "warm_start: {checkpoint: donor}\n")
    assert "ok    warm start  donor" in called(capsys, "check", "cluster.yaml")[1]
    code, out, _ = called(capsys, "check", "cluster.yaml", "--set", "warm_start.checkpoint=gone")
    assert code != 0
    assert "FAIL  warm start  warm_start.checkpoint: " in out
