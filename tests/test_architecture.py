"""The rules of the house that a machine can check."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "orchestrator"
MODULES = sorted(PACKAGE.rglob("*.py"))
WITHOUT_TENSORFLOW = ("errors.py", "cluster/", "launch/", "cli/", "testing/")
NAMES_THAT_REFUSE_NOTHING = {"utils", "util", "common", "helpers", "core", "base", "misc"}
MAX_MODULE_LINES = 400
MAX_FUNCTION_LINES = 70


def inside(module: Path) -> str:
    return module.relative_to(PACKAGE).as_posix()


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("module", MODULES, ids=inside)
def test_a_module_is_short_and_well_named(module: Path) -> None:
    text = module.read_text()
    assert text.count("\n") <= MAX_MODULE_LINES, f"{inside(module)} is too long to be one noun"
    assert not NAMES_THAT_REFUSE_NOTHING & {module.stem, module.parent.name}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= MAX_FUNCTION_LINES, f"{inside(module)}: {node.name} has {length} lines"


@pytest.mark.parametrize("module", MODULES, ids=inside)
def test_relative_imports_are_not_used(module: Path) -> None:
    for node in ast.walk(ast.parse(module.read_text())):
        assert not (isinstance(node, ast.ImportFrom) and node.level), f"{inside(module)}: write the full name"


@pytest.mark.parametrize(
    "module", [m for m in MODULES if inside(m).startswith(WITHOUT_TENSORFLOW)], ids=inside
)
def test_the_launching_side_never_imports_tensorflow(module: Path) -> None:
    heavy = {"tensorflow", "tensorflow_datasets", "keras", "tf_keras"}
    assert not heavy & {name.split(".")[0] for name in imports(ast.parse(module.read_text()))}


ALLOWED = {
    "cluster": {"errors", "cluster"},
    "launch": {"errors", "cluster", "launch"},
    "testing": {"errors", "cluster", "launch", "testing"},
    "data": {"errors", "cluster", "data"},
    "hooks": {"errors", "cluster", "hooks"},
    "warm_start": {"errors", "cluster", "warm_start"},
    "exporters": {"errors", "cluster", "exporters"},
    "estimator": {"errors", "cluster", "data", "hooks", "warm_start", "exporters", "estimator"},
    "experiments": {
        "errors",
        "cluster",
        "data",
        "hooks",
        "warm_start",
        "exporters",
        "estimator",
        "experiments",
    },
}


@pytest.mark.parametrize("module", [m for m in MODULES if inside(m).split("/")[0] in ALLOWED], ids=inside)
def test_imports_go_one_way(module: Path) -> None:
    allowed = ALLOWED[inside(module).split("/")[0]]
    for name in imports(ast.parse(module.read_text())):
        parts = name.split(".")
        if parts[0] == "orchestrator" and len(parts) > 1 and (PACKAGE / parts[1]).exists():
            assert parts[1] in allowed, f"{inside(module)} imports {name}"


def test_nothing_imports_the_command_line() -> None:
    for module in MODULES:
        if not inside(module).startswith("cli/"):
            assert not any(
                name.startswith("orchestrator.cli") for name in imports(ast.parse(module.read_text()))
            )


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["config", "schema"]])
def test_the_command_line_imports_no_tensorflow(arguments: list[str]) -> None:
    program = (
        "import sys\nfrom orchestrator.cli.main import main\n"
        f"sys.argv = ['orchestrator', *{arguments!r}]\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "assert 'tensorflow' not in sys.modules and 'numpy' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, timeout=120)
