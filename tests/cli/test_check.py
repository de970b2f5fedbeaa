from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from orchestrator.cli import machine_checks
from orchestrator.cli.main import main
from tests.cli.conftest import files_in


def checked(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, str]]:
    """Exit code and, by question, `ok ...` or `FAIL ...`."""
    code = main(["check", *words])
    lines = {}
    for line in capsys.readouterr().out.splitlines():
        lines[line[6:18].strip()] = f"{line[:4].strip()} {line[18:]}"
    return code, lines


def test_a_fit_machine_passes_with_one_line_a_question(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files_in(place)
    code, lines = checked(capsys, "five.yaml")
    assert code == 0
    assert set(lines) >= {
        "file",
        "experiment",
        "python",
        "tensorflow",
        "ports",
        "model dir",
        "run dir",
        "memory",
        "gpus",
    }
    assert all(line.startswith("ok ") for line in lines.values()), lines
    assert lines["ports"].startswith("ok 5 free")
    assert files_in(place) == before


def test_a_lone_process_needs_no_port(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert checked(capsys, "one.yaml")[1]["ports"].startswith("ok none needed")


def test_quiet_shows_failures_alone(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert checked(capsys, "five.yaml", "-q") == (0, {})
    code, lines = checked(capsys, "five.yaml", "-q", "--set", "tasks.worker.resources.gpus=64")
    assert code == 3
    assert list(lines) == ["gpus"]


def test_a_wrong_file_fails_with_its_own_code(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, lines = checked(capsys, "one.yaml", "--set", "strategy=mirored")
    assert code == 2
    assert list(lines) == ["file"]
    assert lines["file"].startswith("FAIL one.yaml: --set strategy=mirored")


def test_a_taken_port_is_named(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, lines = checked(capsys, "five.yaml", "--set", f"tasks.chief.hosts=['localhost:{port}']")
    assert code == 3
    assert lines["ports"].startswith("FAIL")
    assert str(port) in lines["ports"]


@pytest.mark.parametrize(
    ("key", "question"),
    [("memory=900TiB", "memory"), ("gpus=64", "gpus"), ("cpus=100000", "cpus")],
)
def test_what_is_declared_and_not_there(
    place: Path, capsys: pytest.CaptureFixture[str], key: str, question: str
) -> None:
    code, lines = checked(capsys, "five.yaml", "--set", f"tasks.worker.resources.{key}")
    assert code == 3
    assert [name for name, line in lines.items() if line.startswith("FAIL")] == [question]
    assert f"Lower resources.{question}" in lines[question]


def test_memory_of_all_replicas_counts(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = machine_checks.psutil.virtual_memory()._replace(available=1024**3)
    monkeypatch.setattr(machine_checks.psutil, "virtual_memory", lambda: memory)
    assert checked(capsys, "five.yaml", "--set", "tasks.worker.resources.memory=500MiB")[0] == 0
    code, lines = checked(capsys, "five.yaml", "--set", "tasks.worker.resources.memory=700MiB")
    assert code == 3
    assert lines["memory"].startswith("FAIL")


def test_directories_that_cannot_be_written(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "file").write_text("")
    code, lines = checked(capsys, "one.yaml", "--model-dir", "file/model", "--run-dir", "file")
    assert code == 3
    assert "file is a file" in lines["model dir"]
    assert "--model-dir" in lines["model dir"]
    assert "--run-dir" in lines["run dir"]


def test_a_directory_without_permission(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(machine_checks.tempfile, "NamedTemporaryFile", refuse)
    finding = machine_checks.writable("model dir", str(place / "model"), "--model-dir")
    assert not finding.ok
    assert "Permission denied" in finding.text


def test_a_full_disk(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = machine_checks.shutil.disk_usage(place)._replace(free=1024**2)
    monkeypatch.setattr(machine_checks.shutil, "disk_usage", lambda path: usage)
    finding = machine_checks.writable("model dir", str(place / "model"), "--model-dir")
    assert not finding.ok
    assert "1.0 MiB" in finding.text


def test_a_url_is_not_looked_at(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "not looked at" in checked(capsys, "one.yaml", "--model-dir", "gs://bucket/m")[1]["model dir"]


def test_a_run_directory_that_holds_a_run(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "r").mkdir()
    (place / "r" / "launcher.json").write_text("{}")
    code, lines = checked(capsys, "one.yaml", "--run-dir", "r")
    assert code == 3
    assert "holds a run already" in lines["run dir"]


def test_a_data_directory_that_is_only_read_must_be_there(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, lines = checked(capsys, "one.yaml", "--data-dir", "nowhere")
    assert code == 3
    assert "no such directory" in lines["data dir"]
    (place / "mine.py").write_text("def experiment(config): ...\ndef prepare_data(data_dir): ...\n")
    assert checked(capsys, "one.yaml", "--data-dir", "nowhere")[0] == 0


def test_the_default_without_scikit_learn(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = machine_checks.importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name, package=None: None if name == "sklearn" else found(name, package),
    )
    (place / "default.yaml").write_text("name: a\ntasks: {chief: {}}\n")
    code, lines = checked(capsys, "default.yaml")
    assert code == 3
    assert "pip install 'tf-orchestrator[examples]'" in lines["experiment"]


@pytest.mark.parametrize(
    ("version", "ok"),
    [("2.15.1", False), ("1.15.5", False), ("2.16.0", True), ("3.0.0rc1", True), (None, False)],
)
def test_versions_of_tensorflow(monkeypatch: pytest.MonkeyPatch, version: str | None, ok: bool) -> None:
    monkeypatch.setattr(machine_checks, "_tensorflow_version", lambda: version)
    finding = machine_checks.tensorflow((), is_experiment=True)
    assert finding.ok is ok
    assert ok or "pip install 'tensorflow>=2.16'" in finding.text


def test_tensorflow_of_another_program_is_its_own_affair(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, lines = checked(capsys, "one.yaml", "--", "/bin/true")
    assert code == 0
    assert "not looked for" in lines["tensorflow"]
    assert lines["command"] == "ok /bin/true"


@pytest.mark.parametrize(
    ("selection", "count"),
    [(None, 3), ("", 0), ("-1", 0), ("0,2", 2), ("0,7,1", 1), ("GPU-abc", 1), ("0,-1,1", 1)],
)
def test_gpus_are_counted_as_cuda_would_show_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, selection: str | None, count: int
) -> None:
    for number in range(3):
        (tmp_path / f"nvidia{number}").touch()
    (tmp_path / "nvidiactl").touch()
    if selection is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", selection)
    assert machine_checks.visible_gpus(driver=tmp_path / "none", devices=tmp_path) == count


def test_gpus_of_the_driver(tmp_path: Path) -> None:
    (tmp_path / "0000:01:00.0").mkdir()
    assert machine_checks.visible_gpus(driver=tmp_path, devices=tmp_path / "none") == 1


def test_the_line_of_a_real_machine_agrees_with_the_system(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = checked(capsys, "one.yaml")[1]
    assert lines["cpus"] == f"ok {len(os.sched_getaffinity(0))} usable"
