"""What of a code directory goes to the hosts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.errors import ConfigError, EnvironmentProblem
from orchestrator.launch.node.code_store import CodeStore
from orchestrator.launch.node.code_tree import digest_of
from orchestrator.launch.ssh import code_directory
from orchestrator.launch.ssh.code_directory import CodeTree, read_code_directory

Place = Callable[..., Path]


def write(place: Path, *paths: str) -> None:
    """Files that hold their own paths."""
    for path in paths:
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).write_text(path)


def files(tree: CodeTree) -> list[str]:
    return [entry.path for entry in tree.entries if not entry.is_directory]


def git(place: Path, *words: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "protocol.file.allow=always"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    subprocess.run(
        ["git", *identity, "-C", str(place), *words], check=True, capture_output=True, env=environment
    )


@pytest.fixture(params=["git", "plain"])
def project(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """An empty directory, with and without git."""
    place = tmp_path / "project"
    place.mkdir()
    if request.param == "git":
        if shutil.which("git") is None:
            pytest.skip("git is not installed")
        git(place, "init", "-q")
    return place


@pytest.fixture
def work_tree(tmp_path: Path) -> Path:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    place = tmp_path / "work tree"
    place.mkdir()
    git(place, "init", "-q")
    return place


def test_a_tree_arrives_as_it_was(project: Path, tmp_path: Path) -> None:
    write(
        project,
        "train.py",
        "pkg/__init__.py",
        "pkg/a name with $ and ' and\nmore.py",
        "pkg/empty.txt",
        "run.sh",
    )
    (project / "pkg" / "empty.txt").write_bytes(b"")
    (project / "run.sh").chmod(0o755)
    (project / "main.py").symlink_to("train.py")
    (project / "absolute.py").symlink_to(project / "train.py")
    (project / "pkg" / "up").symlink_to("../pkg")
    tree = read_code_directory(project)
    assert tree.notes == ()
    store = CodeStore(tmp_path)
    for digest in store.missing(tree.digests):
        store.put(digest, tree.content(digest))
    place = store.tree(tree.digest, tree.as_json())
    for path in files(tree):
        assert (place / path).is_symlink() or (place / path).read_bytes() == (project / path).read_bytes()
    assert len(files(tree)) == 8
    assert os.readlink(place / "main.py") == os.readlink(place / "absolute.py") == "train.py"
    assert os.readlink(place / "pkg" / "up") == "../pkg"
    assert os.access(place / "run.sh", os.X_OK)
    assert not (place / "train.py").stat().st_mode & 0o100


def test_only_what_changed_is_new(project: Path) -> None:
    write(project, "a.py", "b.py")
    before = read_code_directory(project)
    assert read_code_directory(project).digest == before.digest
    (project / "a.py").write_text("changed")
    after = read_code_directory(project)
    assert after.digest != before.digest
    assert set(after.digests) - set(before.digests) == {digest_of(b"changed")}
    assert after.total_bytes == len("changed") + len("b.py")


def test_secrets_stay_unless_they_are_listed(project: Path) -> None:
    secret = [
        "deploy/.env",
        ".env.local",
        "cert.pem",
        "deploy/tls.key",
        "id_rsa",
        "id_ed25519.pub",
        ".ssh/config",
    ]
    write(project, "train.py", "id_encoder.py", "keys.py", "environment.py", *secret)
    tree = read_code_directory(project)
    assert files(tree) == ["environment.py", "id_encoder.py", "keys.py", "train.py"]
    (note,) = tree.notes
    assert "may be secret" in note
    assert ".env.local" in note
    listed = read_code_directory(project, include=["deploy", "cert.pem"])
    assert {"deploy/.env", "deploy/tls.key", "cert.pem"} < set(files(listed))
    assert "id_rsa" not in files(listed)


def test_excluded_is_excluded_even_when_included(project: Path) -> None:
    write(project, "train.py", "data/big.csv", "data/small.py", "deep/data/x")
    assert files(read_code_directory(project, exclude=["data"])) == ["train.py"]
    assert files(read_code_directory(project, exclude=["/data/*.csv"])) == [
        "data/small.py",
        "deep/data/x",
        "train.py",
    ]
    assert files(read_code_directory(project, include=["data"], exclude=["data"])) == ["train.py"]


def test_models_and_runs_stay(project: Path) -> None:
    write(project, "train.py", "models/net.py", "runs/analysis.py")
    write(
        project,
        "models/digits/checkpoint",
        "models/digits/graph.pbtxt",
        "models/digits/export/saved_model.pb",
    )
    write(project, "out/.orchestrator-lease.json", "out/model.ckpt-1.index")
    write(project, "runs/one/launcher.json", "runs/one/events.jsonl", "runs/one/logs/chief-0.log")
    write(project, "mine/weights", "this/run/plan.json")
    outcomes = [project / "mine", project / "this" / "run"]
    tree = read_code_directory(project, outcomes=outcomes)
    assert files(tree) == ["models/net.py", "runs/analysis.py", "train.py"]
    wanted = read_code_directory(project, include=["models/digits"], outcomes=outcomes)
    assert "models/digits/checkpoint" in files(wanted)


def test_what_a_link_leads_to_decides(project: Path, tmp_path: Path) -> None:
    write(tmp_path, "elsewhere/data.csv")
    write(project, "train.py", ".env")
    (project / "data").symlink_to(tmp_path / "elsewhere")
    (project / "hidden").symlink_to(".env")
    (project / "nowhere").symlink_to("not-there")
    tree = read_code_directory(project)
    assert files(tree) == ["train.py"]
    text = "\n".join(tree.notes)
    assert f"data is left out: it is a link to {tmp_path}/elsewhere, outside of the code directory" in text
    assert "hidden is left out: it is a link to .env, which is not sent" in text
    assert "nowhere is left out" in text


def test_pipes_and_names_that_are_not_text_are_left_out_and_said(tmp_path: Path) -> None:
    write(tmp_path, "train.py")
    os.mkfifo(tmp_path / "pipe")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.py")).write_text("")
    tree = read_code_directory(tmp_path)
    assert files(tree) == ["train.py"]
    assert "pipe is left out: it is neither a file nor a link" in tree.notes
    assert any("not UTF-8" in note for note in tree.notes)


def test_what_git_ignores_stays_and_what_it_does_not_know_yet_goes(work_tree: Path) -> None:
    write(work_tree, "tracked.py", "gone.py", "new.py", "cache/x.bin", "nested/.hidden.cfg", "log.txt")
    (work_tree / ".gitignore").write_text("/cache\n*.txt\n")
    git(work_tree, "add", "tracked.py", "gone.py", ".gitignore")
    git(work_tree, "commit", "-q", "-m", "a")
    (work_tree / "gone.py").unlink()
    wanted = [".gitignore", "nested/.hidden.cfg", "new.py", "tracked.py"]
    assert files(read_code_directory(work_tree)) == wanted
    assert files(read_code_directory(work_tree, include=["cache/*.bin"])) == sorted([*wanted, "cache/x.bin"])


def test_a_directory_within_a_work_tree_is_read_alone(work_tree: Path) -> None:
    write(work_tree, "other.py", "deep/project/a.py", "deep/project/skip.txt")
    (work_tree / ".gitignore").write_text("*.txt\n")
    assert files(read_code_directory(work_tree / "deep" / "project")) == ["a.py"]


def test_a_directory_that_git_ignores_as_a_whole_is_walked(work_tree: Path) -> None:
    write(work_tree, "scratch/a.py", "scratch/__pycache__/a.pyc")
    (work_tree / ".gitignore").write_text("scratch\n")
    assert files(read_code_directory(work_tree / "scratch")) == ["a.py"]


def test_submodules_and_repositories_within_go_along(work_tree: Path, tmp_path: Path) -> None:
    library = tmp_path / "library"
    library.mkdir()
    git(library, "init", "-q")
    write(library, "lib.py")
    git(library, "add", ".")
    git(library, "commit", "-q", "-m", "a")
    write(work_tree, "train.py")
    git(work_tree, "submodule", "add", "-q", str(library), "sub")
    git(work_tree, "clone", "-q", str(library), "loose")
    found = files(read_code_directory(work_tree))
    assert {"train.py", "sub/lib.py", "loose/lib.py"} < set(found)
    assert not any(path.startswith(("sub/.git/", "loose/.git/")) for path in found)


def test_without_git_what_tools_made_stays(tmp_path: Path) -> None:
    write(tmp_path, "train.py", "__pycache__/train.cpython-311.pyc", "node_modules/x/y.js", ".mypy_cache/a")
    write(tmp_path, "venv/bin/python", "my-env/pyvenv.cfg", "my-env/bin/python", ".config/settings.toml")
    assert files(read_code_directory(tmp_path)) == [".config/settings.toml", "train.py"]


def test_the_file_that_this_command_writes_to_stays(tmp_path: Path) -> None:
    write(tmp_path, "train.py")
    program = (
        "import sys; from pathlib import Path\n"
        "from orchestrator.launch.ssh.code_directory import read_code_directory\n"
        "tree = read_code_directory(Path.cwd())\n"
        "sys.stdout.write(repr([entry.path for entry in tree.entries]))\n"
    )
    with (tmp_path / "log.txt").open("w") as log:
        subprocess.run([sys.executable, "-c", program], cwd=tmp_path, stdout=log, check=True, timeout=120)
    assert (tmp_path / "log.txt").read_text() == "['train.py']"


def test_a_file_that_changes_while_it_is_sent_is_named(tmp_path: Path) -> None:
    write(tmp_path, "train.py")
    tree = read_code_directory(tmp_path)
    (tmp_path / "train.py").write_text("changed")
    with pytest.raises(EnvironmentProblem, match=r"train\.py was changed while it was sent"):
        tree.content(tree.digests[0])


def test_too_much_is_refused_with_its_largest_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "train.py", "data/a", "data/b")
    monkeypatch.setattr(code_directory, "MAX_BYTES", 12)
    with pytest.raises(
        ConfigError, match=r"holds 20 B, more than 12 B: data alone has 12 B.*ssh\.exclude: \[data\]"
    ):
        read_code_directory(tmp_path)
    monkeypatch.setattr(code_directory, "MAX_FILE_BYTES", 7)
    with pytest.raises(ConfigError, match=r"train\.py has 8 B; files of code have at most 7 B"):
        read_code_directory(tmp_path)
    monkeypatch.setattr(code_directory, "MAX_ENTRIES", 4)
    with pytest.raises(ConfigError, match="holds 3 files, more than 2: data alone has 2 of them"):
        read_code_directory(tmp_path)
    assert files(read_code_directory(tmp_path, exclude=["data", "train.py"])) == []


def test_no_directory_and_no_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="no such directory"):
        read_code_directory(tmp_path / "none")
    monkeypatch.setenv("HOME", str(tmp_path))
    for place in (tmp_path, Path("/")):
        with pytest.raises(ConfigError, match=r"is no project.*ssh\.code_dir"):
            read_code_directory(place)


def test_an_unreadable_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "train.py")
    opened = Path.open

    def refuse(self: Path, *arguments: str) -> object:
        if self.name == "train.py":
            raise PermissionError(13, "Permission denied")
        return opened(self, *arguments)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ConfigError, match=r"train\.py cannot be read: Permission denied"):
        read_code_directory(tmp_path)
