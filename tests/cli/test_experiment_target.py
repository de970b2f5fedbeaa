from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from orchestrator.cli import experiment_target
from orchestrator.cli.experiment_target import ExperimentTarget, look_at, require_packages
from orchestrator.cluster.config import DEFAULT_EXPERIMENT
from orchestrator.errors import EnvironmentProblem, ExperimentError

EXPLODES = "raise RuntimeError('imported')\n"


def module(directory: Path, name: str, text: str) -> None:
    path = directory.joinpath(*name.split(".")).with_suffix(".py")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(EXPLODES + textwrap.dedent(text))


def refusal(text: str, directory: Path) -> str:
    with pytest.raises(ExperimentError) as error:
        look_at(text, directory)
    return str(error.value)


def mistakes(target: ExperimentTarget, **params: object) -> list[str]:
    return [f"{'.'.join(map(str, m.path))}: {m.text}" for m in target.param_mistakes(params)]


def test_a_function_is_found_without_importing_its_module(tmp_path: Path) -> None:
    module(tmp_path, "mine", "def experiment(config, steps, *, rate: float = 0.1, **more): ...\n")
    target = look_at("mine:experiment", tmp_path)
    assert str(target) == "mine:experiment"
    assert target.path == tmp_path / "mine.py"
    assert target.signature is not None
    assert target.signature.required == ("steps",)
    assert target.signature.optional == ("rate",)
    assert target.signature.takes_any
    assert not target.prepares_data


def test_the_parents_of_a_module_are_not_imported(tmp_path: Path) -> None:
    module(tmp_path, "outer.__init__", "")
    module(tmp_path, "outer.inner.__init__", "")
    module(tmp_path, "outer.inner.mine", "def experiment(config): ...\ndef prepare_data(data_dir): ...\n")
    target = look_at("outer.inner.mine:experiment", tmp_path)
    assert target.prepares_data
    assert not {"outer", "outer.inner"} & sys.modules.keys()


def test_folders_without_init_are_packages(tmp_path: Path) -> None:
    module(tmp_path, "plain.deeper.mine", "def experiment(config): ...\n")
    assert look_at("plain.deeper.mine:experiment", tmp_path).path == tmp_path / "plain" / "deeper" / "mine.py"


def test_a_package_may_hold_the_function_itself(tmp_path: Path) -> None:
    module(tmp_path, "package.__init__", "def experiment(config): ...\n")
    assert look_at("package:experiment", tmp_path).path == tmp_path / "package" / "__init__.py"


def test_the_working_directory_comes_before_installed_packages(tmp_path: Path) -> None:
    module(tmp_path, "yaml", "def experiment(config): ...\n")
    assert look_at("yaml:experiment", tmp_path).path == tmp_path / "yaml.py"


def test_an_installed_package_is_found_also_when_it_is_editable(tmp_path: Path) -> None:
    target = look_at(DEFAULT_EXPERIMENT, tmp_path)
    assert target.prepares_data
    assert target.signature is not None
    assert set(target.signature.names) >= {"max_steps", "batch_size", "learning_rate", "seed"}
    assert target.signature.types["max_steps"] == "int"


@pytest.mark.parametrize(
    "text",
    [
        "from elsewhere import experiment",
        "from elsewhere import *",
        "if True:\n    from elsewhere import experiment",
        "try:\n    import experiment\nexcept E:\n    experiment = 1",
        "experiment = make()",
        "a, experiment = 1, 2",
        "class experiment: ...",
        "@decorated\ndef experiment(config): ...",
        "def __getattr__(name): ...",
    ],
)
def test_what_cannot_be_known_is_left_to_the_task(tmp_path: Path, text: str) -> None:
    (tmp_path / "mine.py").write_text(text)
    target = look_at("mine:experiment", tmp_path)
    assert target.signature is None
    assert mistakes(target, anything=1) == []


@pytest.mark.parametrize(
    "text",
    ["if FAST:\n    def experiment(config): ...", "try:\n    1\nfinally:\n    def experiment(config): ..."],
)
def test_a_function_within_a_block_is_found(tmp_path: Path, text: str) -> None:
    (tmp_path / "mine.py").write_text(text)
    assert look_at("mine:experiment", tmp_path).signature is not None


@pytest.mark.parametrize(
    ("name", "fragments"),
    [
        ("mine", ["MODULE:FUNCTION"]),
        ("mine.py", ["MODULE:FUNCTION"]),
        ("mine:a.b", ["MODULE:FUNCTION"]),
        ("mine:", ["MODULE:FUNCTION"]),
        (":experiment", ["MODULE:FUNCTION"]),
        ("folder/mine:experiment", ["MODULE:FUNCTION"]),
        ("..mine:experiment", ["MODULE:FUNCTION"]),
        ("minn:experiment", ["no 'minn'", "Did you mean 'mine'?"]),
        ("mine.py:experiment", ["no 'py'", "without '.py'"]),
        ("package.mone:experiment", ["no 'mone' in package package", "Did you mean 'more'?"]),
        ("package.zzz:experiment", ["no 'zzz' in package package", "There are more."]),
        ("mine:experimant", ["mine.py", "no 'experimant'", "Did you mean 'experiment'?"]),
        ("mine:zzz", ["no 'zzz'", "It has experiment."]),
        ("broken:experiment", ["broken.py, line 2", "not Python"]),
        ("nothing:experiment", ["takes no positional argument", "experiment(config, **params)"]),
        ("inner:experiment", ["no 'experiment'", "It has outer."]),
    ],
)
def test_what_is_not_there_is_refused_with_the_near_miss(
    tmp_path: Path, name: str, fragments: list[str]
) -> None:
    module(tmp_path, "mine", "def experiment(config): ...\n")
    module(tmp_path, "package.__init__", "")
    module(tmp_path, "package.more", "def experiment(config): ...\n")
    module(tmp_path, "nothing", "def experiment(*, rate): ...\n")
    module(tmp_path, "inner", "def outer():\n    def experiment(config): ...\n")
    (tmp_path / "broken.py").write_text("x = 1\ndef experiment(config:\n")
    message = refusal(name, tmp_path)
    for fragment in fragments:
        assert fragment in message


def test_a_module_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_bytes(b"x = '\xff'\n")
    assert "not Python" in refusal("mine:experiment", tmp_path)
    (tmp_path / "nul.py").write_bytes(b"x = 1\0\n")
    assert "not Python" in refusal("nul:experiment", tmp_path)


def test_params_are_held_against_the_signature(tmp_path: Path) -> None:
    text = """
        def experiment(
            config, data, max_steps: int = 5, rate: float = 0.1, *, name: str = "a", on: bool = False, more=()
        ): ...
        """
    module(tmp_path, "mine", text)
    target = look_at("mine:experiment", tmp_path)
    assert mistakes(target, data="d", max_steps=3, rate=1, name="b", on=True, more=3) == []
    assert mistakes(target, data="d", max_steps=None) == []
    [unknown] = mistakes(target, data="d", max_step=3)
    assert unknown == "params.max_step: unknown to mine:experiment. Did you mean 'max_steps'?"
    [far] = mistakes(target, data="d", zzz=3)
    assert "It takes data, max_steps, rate, name, on, more." in far
    [missing] = mistakes(target)
    assert missing.startswith("params.data: missing")
    [config] = mistakes(target, data="d", config=3)
    assert config.startswith("params.config: unknown")
    for wrong in ({"max_steps": 1.5}, {"max_steps": True}, {"rate": "fast"}, {"name": 3}, {"on": "yes"}):
        assert "as mine:experiment declares it" in mistakes(target, data="d", **wrong)[0]


def test_a_function_with_kwargs_takes_all_but_config(tmp_path: Path) -> None:
    module(tmp_path, "mine", "def experiment(config, **params): ...\n")
    target = look_at("mine:experiment", tmp_path)
    assert mistakes(target, anything=1) == []
    assert mistakes(target, config=1) == ["params.config: given by the launcher. Remove it."]


def test_the_default_without_scikit_learn_says_so_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = look_at(DEFAULT_EXPERIMENT, tmp_path)
    monkeypatch.setattr(experiment_target.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EnvironmentProblem) as error:
        require_packages(target)
    assert "pip install 'tf-orchestrator[examples]'" in str(error.value)
    assert "\n" not in str(error.value)
    module(tmp_path, "mine", "def experiment(config): ...\n")
    require_packages(look_at("mine:experiment", tmp_path))


def test_looking_imports_neither_the_module_nor_tensorflow(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom pathlib import Path\n"
        "from orchestrator.cli.experiment_target import look_at, require_packages\n"
        f"require_packages(look_at({DEFAULT_EXPERIMENT!r}, Path({str(tmp_path)!r})))\n"
        "heavy = {'tensorflow', 'sklearn', 'numpy', 'orchestrator.experiments'} & sys.modules.keys()\n"
        "assert not heavy, heavy\n"
    )
    pytest.importorskip("sklearn")
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
