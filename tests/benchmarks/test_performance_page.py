"""The performance page: medians, ratios within a round; measuring goes on where it stopped."""

from __future__ import annotations

from pathlib import Path

from benchmarks import performance_page
from benchmarks.measurements import Measurements


def rows_of(rounds: list[float]) -> dict[str, list[dict[str, float]]]:
    """Every subject as fast as the others; in each round the machine has another speed."""
    rows = {name: [{"steps_per_second": rate} for rate in rounds] for name in performance_page.STEPS}
    for name, times in (("genuine", 6.0), ("ours", 1.0)):
        rows[f"train_and_evaluate {name}"] = [{"seconds": times * 100 / rate} for rate in rounds]
        rows[f"start {name}"] = [{"first_step_seconds": times, "added_megabytes": 10 * times} for _ in rounds]
    return rows


def test_ratios_are_those_within_a_round() -> None:
    rows = rows_of([100.0, 400.0, 200.0])
    rows["ours"] = [{"steps_per_second": 2.5 * row["steps_per_second"]} for row in rows["genuine"]]
    page = performance_page.page(rows, "| the savers |", "A machine.")
    assert "| ours, defaults | 500 | 2.50 |" in page
    assert "| tf.estimator 2.15.1 | 200 | 1.00 |" in page
    assert "| train_and_evaluate | 3.00 s | 0.50 s | 6.00 |" in page
    assert "| memory added until then | 60 MB | 10 MB | 6.00 |" in page
    assert "medians of 3 rounds" in page
    assert "A machine." in page
    assert "| the savers |" in page


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    performance_page.draw(rows_of([100.0]), tmp_path / "speed.png")
    assert (tmp_path / "speed.png").read_bytes().startswith(b"\x89PNG")


def test_what_was_measured_is_not_measured_again(tmp_path: Path) -> None:
    path = tmp_path / "kept" / "rows.json"
    measured: list[str] = []

    def measure() -> dict[str, float]:
        measured.append("once more")
        return {"seconds": float(len(measured))}

    assert Measurements(path, "state", fresh=False).get("1 ours", measure) == {"seconds": 1.0}
    assert Measurements(path, "state", fresh=False).get("1 ours", measure) == {"seconds": 1.0}
    assert Measurements(path, "other state", fresh=False).get("1 ours", measure) == {"seconds": 2.0}
    assert Measurements(path, "other state", fresh=True).get("1 ours", measure) == {"seconds": 3.0}
    assert len(measured) == 3
