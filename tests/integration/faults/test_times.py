from __future__ import annotations

import pytest

from tests.integration.faults.times import BEGIN, END, Row, table, written_into

ROWS = [Row("none", "launcher", "kill", None, "", 9.0), Row("none", "chief-0", "kill", 0.26, "attempt", 23.4)]


def test_rows_become_a_table_between_the_marks_of_a_page() -> None:
    page = f"before\n{BEGIN}\n\nold\n\n{END}\nafter\n"
    text = written_into(page, table(ROWS))
    assert text.startswith(f"before\n{BEGIN}\n\n| strategy |")
    assert (
        "\n| none | chief-0 | kill | 0.3 s | attempt | 23 s |\n| none | launcher | kill |  |  | 9 s |\n"
        in text
    )
    assert text.endswith(f"\n{END}\nafter\n")
    assert "old" not in text
    last = Row("coordinator", "ps-0", "stop", None, "", 1.0)
    assert table([last, *ROWS]).splitlines()[-1].startswith("| coordinator |")
    with pytest.raises(ValueError, match="not enough"):
        written_into("no marks", "")
