"""The speed command: figures of a round, the decision about two trees, the calibration workload."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from validation import calibration, goldens, record, speedtest
from validation import run as runs
from validation.cli import main
from validation.commands import speed as command
from validation.environment import git
from validation.errors import HarnessError
from validation.files import GOLDEN, REPOSITORY, SHARED
from validation.tests.test_goldens import store  # noqa: F401 (a fixture)
from validation.verdict import FAIL, INCONCLUSIVE, PASS, Result

needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="needs the reference material in ../shared")


def answer(ms: float, first: float = 300.0, analysis: float = 2.0) -> dict:
    """What a worker says of a clip of 40 frames, run twice."""
    frames = list(range(1, 41))
    intervals = [first, *[ms] * 39]
    stages = {
        "landmarks": {"frames": frames, "ms": [ms - analysis - 1] * 40},
        "landmarks.parts": {"frames": frames, "ms": [1.0] * 40},
        "analysis": {"frames": frames, "ms": [analysis] * 40},
        "finish": {"frames": [0], "ms": [7.0]},
    }
    one = {"frames": 40, "intervals_ms": intervals, "stages": stages}
    cold = {"import_s": 1.0, "load_s": 0.2, "first_frame_s": 1.6, "peak_mb": 300.0}
    return {"clips": {"face": [{**one, "intervals_ms": [9 * ms] * 40}, one, one, one]}, **cold}


def test_figures_are_of_the_passes_after_the_first():
    found = answer(8.0)
    figures = speedtest.figures_of(found, threads=1)
    assert figures["mean_ms"] == figures["p95_ms"] == 8.0
    assert figures["first_ms"] == 300.0
    assert (figures["landmarks_ms"], figures["analysis_ms"], figures["finish_ms"]) == (5.0, 2.0, 7.0)
    # "landmarks.parts" is within "landmarks": 8 - 5 - 2 is unaccounted for.
    assert figures["unaccounted_share"] == pytest.approx(1 / 8)
    assert "unaccounted_share" not in speedtest.figures_of(answer(8.0), threads=2)
    assert speedtest.cold_of(answer(8.0))["start_to_first_frame_ms"] == 1600.0
    # A slow pass counts for the whole frame, but what it adds is not taken for time that no stage claims.
    found["clips"]["face"][2] = {**found["clips"]["face"][2], "intervals_ms": [300.0, *[14.0] * 39]}
    figures = speedtest.figures_of(found, threads=1)
    assert (figures["mean_ms"], figures["p50_ms"], figures["p95_ms"]) == (10.0, 8.0, 14.0)
    assert figures["unaccounted_share"] == pytest.approx(1 / 8)


def test_a_stage_counts_with_its_median_in_each_frame():
    """Every pass is disturbed in a third of its frames, so none of them shows the stage's own time."""
    found = answer(8.0)
    whole = found["clips"]["face"][1]
    passes = [found["clips"]["face"][0]]
    for number in range(5):
        ms = [50.0 if (frame + number) % 3 == 0 else 2.0 for frame in range(40)]
        stages = {**whole["stages"], "analysis": {**whole["stages"]["analysis"], "ms": ms}}
        stages["finish"] = {"frames": [0, 0, 0], "ms": [90.0, 6.0, 5.0 + number / 10]}
        passes.append({**whole, "stages": stages})
    figures = speedtest.figures_of({**found, "clips": {"face": passes}}, threads=2)
    assert figures["analysis_ms"] == figures["analysis.p99_ms"] == 2.0 and figures["finish_ms"] == 6.0


def test_a_stage_fifteen_per_cent_slower_fails_and_an_equal_tree_passes():
    rng = np.random.default_rng(0)

    def side(slower: float) -> speedtest.Side:
        noise = rng.normal(1, 0.01, 7)
        rounds = [speedtest.figures_of(answer(8.0 * n, analysis=2.0 * n * slower), 2) for n in noise]
        return speedtest.Side(Path(), figures=rounds)

    budgets = {
        "slower_at_most": 0.05, "stage_slower_at_most": 0.10, "stage_at_least_ms": 0.05, "noise_at_most": 0.30,
    }  # fmt: skip

    def judged(a: speedtest.Side, b: speedtest.Side) -> dict[str, Result]:
        return {r.figure: r for r in command.judge_sides(command.compare_sides(a, b, budgets), budgets)}

    base = side(1.0)
    bad = judged(base, side(1.15))
    assert bad["analysis_ms"].verdict == FAIL and bad["mean_ms"].verdict == PASS
    assert set(bad) == {
        "mean_ms", "p50_ms", "p95_ms", "p99_ms", "landmarks_ms", "landmarks.parts_ms", "analysis_ms", "finish_ms",
    }  # fmt: skip
    good = judged(base, side(1.0)).values()
    assert {r.verdict for r in good} == {PASS}
    assert all("interval" in r.sentence and "p =" in r.sentence for r in good)
    noisy = speedtest.Side(Path(), figures=[speedtest.figures_of(answer(v), 2) for v in (6.0, 9, 12, 7, 10, 8, 11)])
    undecided = judged(noisy, speedtest.Side(Path(), figures=noisy.figures[::-1]))["mean_ms"]
    assert undecided.verdict == INCONCLUSIVE and "too much to see" in undecided.sentence


def test_the_calibrated_budget_fails_only_if_every_round_is_over_it():
    def side(values: list[float]) -> speedtest.Side:
        return speedtest.Side(Path(), figures=[{"per_calibration": v} for v in values])

    budgets = {"per_calibration": {"clnf-2-threads": 0.1}}
    assert command.judge_calibrated(side([0.2, 0.3, 0.25]), budgets, "clnf", 2)[0].verdict == FAIL
    assert command.judge_calibrated(side([0.09, 0.3, 0.25]), budgets, "clnf", 2)[0].verdict == PASS
    assert command.judge_calibrated(side([0.2]), budgets, "clm", 2) == []


def test_the_command_alternates_the_trees_and_writes_a_whole_record(store, tmp_path, monkeypatch, capsys):  # noqa: F811
    monkeypatch.setattr(record, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(command, "weights_folder", lambda models: tmp_path)
    (store.folder / "gates.toml").write_text("[speed]\nslower_at_most = 0.05\nstage_slower_at_most = 0.10\n")
    (store.folder / "speed.json").write_text((GOLDEN / "speed.json").read_text())
    calls: list[list[Path]] = []

    def fake(trees: list[Path], request: dict, caches: dict[Path, Path]) -> list[dict]:
        assert caches == {tmp_path / "HEAD": tmp_path / "cache"}
        calls.append(list(trees))
        assert request["settings"] == {"landmarks": "clnf", "models": str(tmp_path), "threads": 2}
        return [answer((8.0 if tree == REPOSITORY else 6.0) + 0.01 * len(calls)) for tree in trees]

    monkeypatch.setattr(speedtest, "one_round", fake)
    monkeypatch.setattr(speedtest, "Calibrator", FakeCalibrator)
    (tmp_path / "of the tree").mkdir()
    monkeypatch.setattr(speedtest, "kernel_cache", lambda: tmp_path / "of the tree")
    arguments = ["speed", "--golden", str(store.folder), "--videos", str(tmp_path / "videos"), "--clips", "face"]
    monkeypatch.setattr(speedtest, "worktree", lambda revision: _Here(tmp_path / revision))
    code = main([*arguments, "--base", "HEAD", "--rounds", "5", "-o", str(tmp_path / "speed.json")])
    assert code == 1
    base, tree = tmp_path / "HEAD", REPOSITORY
    assert calls == [[tree], [base], *[[base, tree], [tree, base]] * 2, [base, tree]]
    assert (tmp_path / "cache" / "kernels" / "of the tree").is_dir()  # the base need not compile the same again
    data = record.load(tmp_path / "speed.json")
    assert data["speed"]["comparisons"]["mean_ms"]["slower"] is True
    assert len(data["speed"]["tree"]["figures"]) == len(data["speed"]["calibration_ms"]) == 5
    assert "FAIL" in capsys.readouterr().out
    assert main([*arguments, "--rounds", "4"]) == 2
    assert "at least 5" in capsys.readouterr().err


class FakeCalibrator:
    """A machine that takes 160 ms a pass."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def measure(self):
        """One pass, ms."""
        return 160.0


class _Here:
    """A context that gives a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> Path:
        return self.folder

    def __exit__(self, *_: object) -> None:
        return None


@pytest.mark.skipif(git("rev-parse", "HEAD") is None, reason="needs a git repository")
def test_a_worktree_holds_the_revision_and_goes_away():
    with speedtest.worktree("HEAD") as tree:
        assert (tree / "validation" / "stats.py").is_file()
        assert git("rev-parse", "HEAD", folder=tree) == git("rev-parse", "HEAD")
    assert not tree.exists() and str(tree) not in git("worktree", "list")
    with pytest.raises(HarnessError, match="not in this repository"), speedtest.worktree("no-such-revision"):
        pass


def test_the_workload_is_timed_in_a_process_with_one_thread():
    with calibration.Calibrator() as calibrator:
        first, second = calibrator.measure(1), calibrator.measure(1)
    assert 5 < first < 60_000 and 5 < second < 60_000


@needs_shared
def test_the_workload_is_the_one_that_the_reference_was_timed_with(monkeypatch):
    """Both make the same calls to OpenCV and NumPy with the same arrays."""
    import cv2

    spec = importlib.util.spec_from_file_location("calibrate", SHARED / "tools" / "calibrate.py")
    theirs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(theirs)
    ours = calibration.workload()
    seen: list[str] = []

    def spy(name: str, function: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **options: object) -> object:
            arrays = [a.tobytes() if isinstance(a, np.ndarray) else repr(a) for a in arguments]
            seen.append(f"{name} {hash(tuple(arrays))} {options}")
            return function(*arguments, **options)

        return call

    for module, name in ((cv2, "matchTemplate"), (cv2, "warpAffine"), (np, "exp"), (np, "abs")):
        monkeypatch.setattr(module, name, spy(name, getattr(module, name)))
    calls = []
    for one_pass in (theirs.one_pass, ours):
        one_pass()
        calls.append(list(seen))
        seen.clear()
    assert calls[0] == calls[1] and len(calls[0]) > 400


def test_golden_speed_file_has_what_is_compared():
    table = json.loads((GOLDEN / "speed.json").read_text())["clnf"]
    assert all(entry["two_cores"]["per_calibration"] > 0 for entry in table.values()) and len(table) >= 14


def test_calibration_module_prints_a_time():
    done = subprocess.run(
        [sys.executable, "-m", "validation.calibration", "1"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    assert float(done.stdout) > 5


def test_the_cpp_programs_stages_are_those_of_its_table_and_reach_the_record():
    table = json.loads((GOLDEN / "cpp-stage-times.json").read_text())["clnf"]
    found = runs._reference_speed(goldens.load(), "clnf")
    for clip, modes in table.items():
        for mode, ms in modes.items():
            parts = found[clip][mode]["landmarks_ms"]
            assert sum(parts.values()) == pytest.approx(ms["landmarks"], rel=0.03)
            assert parts["face"] == pytest.approx(
                sum(ms[f"landmarks.face.{p}"] for p in ("responses", "rigid", "nonrigid"))
            )
    if SHARED.is_dir():
        text = (SHARED / "golden" / "cpp-stage-times.txt").read_text()
        row = next(line for line in text.splitlines() if line.startswith("main: patch responses")).split()[-6:]
        got = [table[c][m]["landmarks.face.responses"] for m in ("two_cores", "one_core") for c in table]
        assert got == [float(row[i]) for i in (0, 1, 4, 5)]
