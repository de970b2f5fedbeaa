"""`python -m orchestrator.estimator PROGRAM ARGS`: runs a program that uses `tf.estimator`.

Like `python PROGRAM ARGS` (or `python -m MODULE ARGS`, with `-m`), on a
TensorFlow that no longer has it. Where tf-keras is installed and
TF_USE_LEGACY_KERAS is not set, it is set: such programs were written for Keras 2.
"""

from __future__ import annotations

import importlib.util
import os
import runpy
import sys

from orchestrator.estimator.installation import install

USAGE = "usage: python -m orchestrator.estimator [-m MODULE | PROGRAM.py] [ARGS ...]"
_LEGACY_KERAS = "TF_USE_LEGACY_KERAS"


def main(arguments: list[str]) -> int:
    """Runs the program as `__main__`; returns 2, with one line on stderr, where there is none."""
    if arguments[:1] in ([], ["-h"], ["--help"]):
        print(USAGE, file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else 2
    as_module = arguments[0] == "-m"
    target = arguments[1:] if as_module else arguments
    problem = _problem(target, as_module)
    if problem:
        print(f"orchestrator.estimator: {problem}", file=sys.stderr)
        return 2
    if _LEGACY_KERAS not in os.environ and importlib.util.find_spec("tf_keras") is not None:
        os.environ[_LEGACY_KERAS] = "1"
    install()
    sys.argv[:] = target
    if as_module:
        runpy.run_module(target[0], run_name="__main__", alter_sys=True)
    else:
        sys.path[0] = os.path.dirname(os.path.abspath(target[0]))
        runpy.run_path(target[0], run_name="__main__")
    return 0


def _problem(target: list[str], as_module: bool) -> str | None:
    if not target:
        return f"-m needs the name of a module. {USAGE}"
    if not as_module and not os.path.exists(target[0]):
        return f"there is no file {target[0]}. {USAGE}"
    if as_module and importlib.util.find_spec(target[0]) is None:
        return f"there is no module {target[0]}. {USAGE}"
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
