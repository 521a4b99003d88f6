"""Two processes by turns: who runs when, and that standing still is not measured."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from validation import clips, goldens, slowed, speedtest, turns, worker
from validation.errors import HarnessError
from validation.files import REPOSITORY

can_stop = pytest.mark.skipif(turns.TURN_S is None, reason="processes cannot be stopped here")

BUSY = """
import json, pathlib, sys, time
scratch = pathlib.Path(json.loads(pathlib.Path(sys.argv[2]).read_text())["scratch"])
def say(what):
    (scratch / "answer.json").write_text(json.dumps(what))
    print(flush=True)
say({"import_s": 0.0, "load_s": 0.0})
for line in sys.stdin:
    if line.strip() == "finish":
        say({"clip": {"frames": 300, "stamps_s": [], "stages": {}}})
        continue
    stamps = [time.perf_counter()]
    for _ in range(300):  # a third of a second of work
        until = time.thread_time() + 0.001
        while time.thread_time() < until:
            pass
        stamps.append(time.perf_counter())
    say({"clip": {"frames": 300, "stamps_s": stamps, "stages": {}}})
say({"peak_mb": None})
"""


def test_pauses_are_taken_off_what_they_interrupt():
    one = {
        "frames": 3,
        "stamps_s": [10.0, 11.0, 13.0, 14.0],
        "stages": {"analysis": {"frames": [1, 2, 3], "ms": [500.0, 1500.0, 200.0], "ends_s": [11.0, 13.0, 14.0]}},
    }
    # Before the pass; half a second, of which the stage misses 0.25; after all.
    found = turns.awake(one, [(1.0, 9.0), (11.25, 11.75), (20.0, float("inf"))])
    assert found["intervals_ms"] == pytest.approx([1000, 1500, 1000])
    assert found["stages"]["analysis"]["frames"] == [1, 2, 3]
    assert found["stages"]["analysis"]["ms"] == pytest.approx([500, 1250, 200])
    assert turns.awake(one, [])["intervals_ms"] == pytest.approx([1000, 2000, 1000])


class Fake:
    """A worker that needs so many turns for a pass."""

    def __init__(self, name: str, needs: int, log: list[str]) -> None:
        self.name, self.needs, self.log = name, needs, log

    def begin(self, what: str) -> None:
        self.left = self.needs
        self.log.append(f"{what} {self.name}")

    def pause(self) -> None:
        self.log.append(f"stop {self.name}")

    def resume(self) -> None:
        self.log.append(f"run {self.name}")

    def finished(self, within_s: float | None) -> bool:
        assert within_s == turns.TURN_S
        self.left -= 1
        return self.left == 0


def test_only_one_runs_at_a_time_and_the_last_is_not_stopped():
    log: list[str] = []
    turns.take_turns([Fake("a", 2, log), Fake("b", 4, log)], "pass")
    assert log[:4] == ["stop a", "pass a", "stop b", "pass b"]
    assert log[4:] == ["run a", "stop a", "run b", "stop b", "run a", "run b", "run b", "run b"]


def test_a_round_changes_who_begins(tmp_path, monkeypatch):
    order: list[str] = []

    class Whole(Fake):
        def __init__(self, tree: Path, request: dict, cache: Path | None) -> None:
            super().__init__(tree.name, 1, [])
            order.append(f"start {self.name}")

        def __enter__(self):
            return self

        def __exit__(self, *_: object) -> None:
            order.append(f"leave {self.name}")

        def resume(self) -> None:
            order.append(self.log[-1])

        def end(self) -> dict:
            return {"of": self.name}

    monkeypatch.setattr(turns, "Worker", Whole)
    answers = turns.one_round([tmp_path / "a", tmp_path / "b"], {"passes": 2})
    assert answers == [{"of": "a"}, {"of": "b"}]
    one = ["pass a", "pass b", "finish a", "finish b"]
    assert order == ["start a", "start b", *one, "pass b", "pass a", "finish b", "finish a", "leave b", "leave a"]


@can_stop
def test_two_processes_do_not_run_at_the_same_time(tmp_path, monkeypatch):
    script = tmp_path / "busy.py"
    script.write_text(BUSY)
    monkeypatch.setattr(turns, "WORKER", script)
    seen: list[tuple[float, int]] = []
    real = turns.awake

    def awake(one: dict, pauses: list) -> dict:
        seen.extend((moment, id(pauses)) for moment in one["stamps_s"])
        if one["stamps_s"]:
            assert sum(end - begin for begin, end in pauses) > 0.2  # the other's work took longer than that
        return real(one, pauses)

    monkeypatch.setattr(turns, "awake", awake)
    for answer in turns.one_round([tmp_path, tmp_path], {"passes": 1}):
        assert len(answer["clips"]["clip"][0]["intervals_ms"]) == 300
    changes = sum(a[1] != b[1] for a, b in itertools.pairwise(sorted(seen)))
    assert 3 <= changes < 100, "unstopped, they would change places some 300 times"


@can_stop
def test_a_stopped_process_is_let_go_when_a_round_is_given_up(tmp_path, monkeypatch):
    script = tmp_path / "busy.py"
    script.write_text(BUSY)
    monkeypatch.setattr(turns, "WORKER", script)
    with pytest.raises(KeyboardInterrupt), turns.Worker(tmp_path, {}) as one:
        one.pause()
        raise KeyboardInterrupt
    assert one._process.returncode == 0


def test_a_real_worker_times_the_demo_clip():
    shipped = goldens.load()
    settings, models = shipped.settings("demo-avi", None)
    request = {
        "settings": {**settings, "models": str(models), "threads": 1},
        "clips": {"lost": str(clips.locate(shipped, shipped.clips["astronaut_lost_avi"], []))},
        "passes": 2,
    }
    (found,) = turns.one_round([REPOSITORY], request)
    assert [one["frames"] for one in found["clips"]["lost"]] == [60, 60]
    assert set(found["clips"]["lost"][1]["stages"]) == set(slowed.STAGES)
    assert len(found["clips"]["lost"][1]["stages"]["finish"]["ms"]) == worker.FINISHES
    figures = speedtest.figures_of(found, 1)
    assert 0 < figures["landmarks_ms"] < figures["mean_ms"]
    cold = speedtest.cold_of(found)
    assert cold["start_to_first_frame_ms"] > cold["import_ms"] + cold["load_ms"] and cold["peak_mb"] > 50


def test_a_round_that_fails_says_why(tmp_path):
    with pytest.raises(HarnessError, match=r"a round of .* failed"):
        turns.one_round([tmp_path], {"settings": {}, "clips": {}, "passes": 1})


def test_the_worker_needs_nothing_of_the_harness():
    """It has to run beside another revision, which may have no harness."""
    source = turns.WORKER.read_text(encoding="utf-8")
    assert "validation" not in source.replace("`python worker.py", "")
