"""A stage that is really slower: the copy of the tree is busy for longer, and ``speed`` compares it with the tree."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from validation import record, slowed, speedtest
from validation.cli import main
from validation.commands import sensitivity
from validation.commands import speed as command
from validation.errors import HarnessError
from validation.files import GOLDEN, REPOSITORY
from validation.tests.test_goldens import store  # noqa: F401 (a fixture)
from validation.tests.test_speed import FakeCalibrator, answer

TIMED = """
import time
from pathlib import Path
import pyfaceau.clock
clock = pyfaceau.clock.StageClock()
start = time.perf_counter()
for stage in ("pose", "gaze"):
    with clock.stage(stage, 1):
        time.sleep(0.02)
clock.add("pose", 2, 1_000_000)
wall = (time.perf_counter() - start) * 1e3
found = clock.milliseconds()
print(Path(pyfaceau.clock.__file__).parents[1], wall, *found["pose"], *found["gaze"])
"""


def test_the_copy_is_busy_in_that_stage_alone():
    with slowed.slowed_copy("pose", 2.0) as copy:
        done = subprocess.run([sys.executable, "-c", TIMED], cwd=copy, capture_output=True, text=True, check=True)
    where, *numbers = done.stdout.split()
    wall, timed, added, other = map(float, numbers)
    assert Path(where) == copy.resolve() and not copy.exists()
    assert timed > 59 and added > 2.9 and other > 19
    assert wall > timed + other + added - 1.5  # time was spent, not only written down; 1 ms was given


def test_the_tree_itself_stays_as_it_is():
    before = (REPOSITORY / "pyfaceau" / "clock.py").read_bytes()
    with slowed.slowed_copy("gaze", 0.15) as copy:
        text = (copy / "pyfaceau" / "clock.py").read_bytes()
        assert text.startswith(before) and b'"gaze"' in text and b"0.15 * nanoseconds" in text
    assert (REPOSITORY / "pyfaceau" / "clock.py").read_bytes() == before


@pytest.mark.parametrize("text", ["pose", "pose=", "pose=-1", "pose=nan", "nose=15", "=15"])
def test_what_is_no_slowdown_is_refused(text):
    with pytest.raises(HarnessError, match=r"no stage|STAGE=PERCENT"):
        slowed.parse(text)
    assert slowed.parse("landmarks.face=15") == ("landmarks.face", 0.15)


def test_the_command_compares_the_copy_with_the_tree(store, tmp_path, monkeypatch, capsys):  # noqa: F811
    monkeypatch.setattr(record, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(command, "weights_folder", lambda models: tmp_path)
    monkeypatch.setattr(speedtest, "Calibrator", FakeCalibrator)
    (tmp_path / "kernels").mkdir()
    monkeypatch.setattr(speedtest, "kernel_cache", lambda: tmp_path / "kernels")
    (store.folder / "gates.toml").write_text((GOLDEN / "gates.toml").read_text())

    def fake(trees: list[Path], request: dict, caches: dict[Path, Path]) -> list[dict]:
        (copy,) = caches
        assert copy != REPOSITORY and set(trees) <= {copy, REPOSITORY}
        assert b'"analysis"' in (copy / "pyfaceau" / "clock.py").read_bytes()
        return [answer(8.0, analysis=2.0 if tree == REPOSITORY else 2.3) for tree in trees]

    monkeypatch.setattr(speedtest, "one_round", fake)
    arguments = ["speed", "--golden", str(store.folder), "--videos", str(tmp_path / "videos"), "--clips", "face"]
    assert main([*arguments, "--slow", "analysis=15", "-o", str(tmp_path / "s.json")]) == 1
    assert "FAIL         analysis_ms: 2.300 ms against 2.000 ms, +15.0 %" in capsys.readouterr().out
    assert record.load(tmp_path / "s.json")["speed"]["slowed"] == "analysis=15"
    assert not (tmp_path / "runs" / "history.jsonl").exists()
    assert main([*arguments, "--slow", "analysis=15", "--base", "HEAD"]) == 2
    with pytest.raises(HarnessError, match="timed with --slow"):
        sensitivity._slowdowns(tmp_path / "s.json", store, [])
