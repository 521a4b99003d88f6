"""The history and its change points."""

from __future__ import annotations

import numpy as np
import pytest

from validation import history
from validation.cli import main
from validation.errors import HarnessError


def run(number: int, value: float) -> dict:
    """A record with what the history reads."""
    return {
        "id": str(number), "started": f"2026-01-{number + 1:02d}T00:00:00Z", "kind": "run", "configuration": "clnf",
        "environment": {"commit": f"{number:040d}", "dirty": False, "cpu": "x"},
        "verdict": {"verdict": "PASS"}, "totals": {"landmarks.mean_px": {"mean": value}},
        "clips": [{"clip": "a", "figures": {"landmarks.mean_px": {"value": 2 * value, "n": 1}}}],
    }  # fmt: skip


def test_append_and_trace(tmp_path, capsys):
    path = tmp_path / "runs" / "history.jsonl"
    rng = np.random.default_rng(0)
    for number in range(20):
        level = 0.02 if number < 12 else 0.03
        history.append(run(number, level + rng.normal(0, 0.001)), tmp_path / f"{number}.json", path)
    runs = history.read(path)
    assert len(runs) == 20
    assert history.trace(runs, "landmarks.mean_px", "a", "clnf")[0][1] == pytest.approx(
        2 * history.trace(runs, "landmarks.mean_px", None, "clnf")[0][1]
    )
    assert main(["history", "landmarks.mean_px", "--history", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 21 and lines[12].startswith("--- changes from 0.0")
    assert main(["history", "nonsense", "--history", str(path)]) == 2
    assert "figures: landmarks.mean_px" in capsys.readouterr().err


def test_change_points_are_found_where_they_are():
    rng = np.random.default_rng(1)
    values = [*rng.normal(1, 0.05, 15), *rng.normal(2, 0.05, 15), *rng.normal(1.5, 0.05, 15)]
    found = history.change_points(values)
    assert [c.index for c in found] == [15, 30]
    assert (found[0].before, found[0].after) == (pytest.approx(1, abs=0.05), pytest.approx(2, abs=0.05))


def test_noise_has_no_change_points():
    rng = np.random.default_rng(2)
    assert sum(len(history.change_points(list(rng.normal(0, 1, 25)), permutations=199)) for _ in range(20)) <= 2
    assert history.change_points([0.5] * 30) == []
    assert history.change_points([1.0, 2.0, 3.0]) == []


def test_a_damaged_or_missing_history_says_so(tmp_path):
    with pytest.raises(HarnessError, match="make a run first"):
        history.read(tmp_path / "none.jsonl")
    (tmp_path / "h.jsonl").write_text('{"a": 1}\n{"a":')
    with pytest.raises(HarnessError, match="line 2: damaged"):
        history.read(tmp_path / "h.jsonl")
