from __future__ import annotations

from orchestrator.launch.root_cause import RootCause
from tests.launch.test_root_cause import ended
from tests.launch.test_summary import a_result


def test_an_exception_that_the_verdict_shows_is_not_shown_in_a_note_too() -> None:
    same, other = (
        f"evaluator-0 is left out\n{RootCause(ended('evaluator-0', error=name, message='x')).render()}"
        for name in ("LookupError", "ValueError")
    )
    assert "Traceback" in same
    assert "Traceback" in other
    cause = RootCause(ended("chief-0", error="LookupError", message="x"))
    result = a_result(root_cause=cause, notes=(same, other, "a port was taken"))
    assert result.notes_beside_verdict == ("evaluator-0 is left out", other, "a port was taken")
    assert a_result(notes=(same,)).notes_beside_verdict == (same,)
