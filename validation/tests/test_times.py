"""Times of a run on a busy machine: timed again before they decide, and coarse enough to be left alone by noise."""

from __future__ import annotations

import json

import numpy as np
import pytest

from validation import adapter, record
from validation import run as runs
from validation.cli import main
from validation.tests.conftest import table
from validation.tests.test_commands import _Pyfaceau, _Steady
from validation.tests.test_goldens import store  # noqa: F401 (a fixture)
from validation.verdict import FAIL, PASS

GATES = '[[gate]]\nname="frame"\nfigure="speed.per_calibration"\nover="median"\nat_most=0.1\n'
"""Of 100 ms a calibration pass: 10 ms a frame."""


@pytest.fixture
def passes(store, tmp_path, monkeypatch, capsys):  # noqa: F811
    """`run` where pyfaceau takes so many ms a frame, pass by pass; returns the record and what was printed."""
    monkeypatch.setattr(record, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(runs, "decoded_digests", lambda video: ["1", "2", "3"])
    monkeypatch.setattr(runs, "Calibrator", _Steady)
    (store.folder / "gates.toml").write_text(GATES)
    (store.folder / "frame-crc32.json").write_text(json.dumps({"face.avi": "1 2 3"}))

    def call(*ms: float) -> tuple[dict, str]:
        left = iter(ms)

        class Pyfaceau(_Pyfaceau):
            def run(self, video, csv):
                csv.write_text(self.csv)
                times = np.full(len(table(self.csv).values), next(left))
                return adapter.Timing(len(times), 0.1, times, {"analysis": times / 2}, 1.0)

        monkeypatch.setattr(runs, "Runner", Pyfaceau)
        path = tmp_path / "record.json"
        main(["run", "--golden", str(store.folder), "--videos", str(tmp_path / "videos"), "-o", str(path)])
        assert list(left) == []
        return record.load(path), capsys.readouterr().out

    return call


def test_times_that_hold_are_taken_once(passes):
    data, said = passes(8.0)
    assert data["verdict"]["verdict"] == PASS and data["clips"][0]["speed"]["passes"] == 1
    assert "timing the clips again" not in said


def test_a_slow_minute_passes_once_it_is_over(passes):
    data, said = passes(30.0, 8.0)
    (clip,) = data["clips"]
    assert data["verdict"]["verdict"] == PASS and clip["speed"]["passes"] == 2
    assert clip["figures"]["speed.per_calibration"]["value"] == pytest.approx(0.08)
    assert clip["figures"]["speed.analysis_ms"]["value"] == pytest.approx(4.0)
    assert data["totals"]["speed.mean_ms"]["median"] == pytest.approx(8.0)
    assert said.count("timing the clips again, as median of speed.per_calibration") == 1


def test_a_slower_program_fails_every_time_it_is_asked(passes):
    data, _ = passes(16.0, 17.0, 16.5)
    assert data["verdict"]["verdict"] == FAIL and data["clips"][0]["speed"]["passes"] == 3
    assert "0.16, bound at most 0.1" in data["verdict"]["sentence"]


def test_the_lowest_of_two_runs():
    a = adapter.Timing(3, 1.0, np.array([9.0, 1, 1]), {"pose": np.array([1.0, 5, 1])}, 2.0)
    b = adapter.Timing(3, 2.0, np.array([3.0, 3, 3]), {"pose": np.array([4.0, 1, 1])}, 1.0)
    for found in (a.lowest(b), b.lowest(a)):
        assert found.intervals.tolist() == [3, 3, 3] and found.finish_ms == 1.0 and found.wall_s == 2.0
        assert found.stages["pose"].tolist() == [1, 1, 1]
