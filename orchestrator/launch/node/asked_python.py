"""Questions that only the tasks' own interpreter can answer, with the packages that it sees."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from typing import Any

_MARK = "answer "
_FRAME = """\
import json, sys
question = json.load(sys.stdin)
{program}
try:
    found = [answer(question), None]
except Exception as error:
    found = [None, f"{{type(error).__name__}}: {{error}}"]
print("\\n" + "{mark}" + json.dumps(found))
"""


def ask_python(
    executable: str, environ: Mapping[str, str], program: str, question: Any, limit: float
) -> tuple[Any, str | None]:
    """What the function `answer(question)` that `program` defines returns there, or why there is nothing.

    Question and answer are plain JSON; `limit` is seconds.
    """
    try:
        done = subprocess.run(
            [executable, "-c", _FRAME.format(program=program, mark=_MARK)],
            input=json.dumps(question),
            capture_output=True,
            text=True,
            timeout=limit,
            check=False,
            env=dict(environ),
        )
    except subprocess.TimeoutExpired:
        return None, f"no answer in {limit:g} s"
    except OSError as error:
        return None, error.strerror or str(error)
    for line in reversed(done.stdout.splitlines()):
        if line.startswith(_MARK):
            result, problem = json.loads(line[len(_MARK) :])
            return result, problem
    last = done.stderr.strip().splitlines()
    return None, last[-1] if last else f"{executable} ended with exit code {done.returncode}"
