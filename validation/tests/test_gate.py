"""Verdicts: each way to pass, fail, stay undecided and go wrong, with the sentence that says so."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from validation import assemble, baseline, environment, outputs, record, terminal
from validation.compare import join
from validation.errors import HarnessError
from validation.files import GOLDEN
from validation.floor import floor
from validation.gate import Gate, judge, read_gates
from validation.tests.conftest import make_csv, table
from validation.verdict import ERROR, FAIL, INCONCLUSIVE, PASS, Result, overall

WIRES = baseline.read_tripwires(GOLDEN / "gates.toml")
LANDMARKS = Gate("landmarks", "landmarks.mean_px", "each", at_most=0.05, or_floor_times=3.0)


@pytest.fixture(scope="module")
def run() -> dict:
    """The record of a run of three clips that agree well."""
    clips = []
    for seed, name in ((2, "a"), (3, "b"), (4, "c")):
        reference = table(make_csv())
        pair = join(reference, table(make_csv(seed=seed, noise=0.2)))
        repeated = floor(reference, {"rebuild": table(make_csv(seed=seed + 10, noise=0.2))})
        pixels = {"verdict": "same", "frames": 60, "differing": 0, "first": None}
        clips.append(assemble.clip_record(name, f"{name}.avi", pair, repeated, pixels=pixels, sha256="0" * 64))
    checks = [Result("x", PASS, "x")]
    return record.new(
        "run", environment.fingerprint(), configuration="clnf", threads=2, clips=clips,
        totals=assemble.totals(clips), equivalence=assemble.equivalence(clips),
        gates=[c.to_json() for c in checks], verdict=overall(checks),
    )  # fmt: skip


@pytest.fixture
def changed(run):
    """A copy to break."""
    return copy.deepcopy(run)


def verdicts(results: list[Result], gate: str) -> list[str]:
    """Of one gate, clip by clip."""
    return [r.verdict for r in results if r.gate == gate]


def set_figure(data: dict, name: str, value: float | None, clip: int = 0) -> None:
    """Replace a figure of a clip."""
    data["clips"][clip]["figures"][name]["value"] = value


class TestGates:
    def test_pass(self, run):
        results = judge(run, [LANDMARKS])
        assert verdicts(results, "landmarks") == [PASS] * 3
        assert overall(results)["exit_code"] == 0

    def test_fail_names_figure_clip_and_amount(self, changed):
        set_figure(changed, "landmarks.mean_px", 0.6)
        state = overall(judge(changed, [LANDMARKS]))
        assert (state["verdict"], state["exit_code"]) == (FAIL, 1)
        for part in ("a: landmarks.mean_px is 0.6", "at most", "off by", "the reference against itself"):
            assert part in state["sentence"]

    def test_the_floor_widens_the_bound_but_never_narrows_it(self):
        gate = LANDMARKS
        assert gate.bound(0.001) == 0.05
        assert gate.bound(0.1) == pytest.approx(0.3)
        assert gate.bound(None) == 0.05
        least = Gate("x", "intensity.ccc", "each", at_least=0.97, or_floor_times=1.0)
        assert (least.bound(0.99), least.bound(0.9)) == (0.97, 0.9)

    def test_too_few_frames(self, changed):
        set_figure(changed, "landmarks.mean_px", 0.6)
        changed["clips"][0]["counts"]["both_succeed"] = 5
        result = judge(changed, [LANDMARKS])[3]
        assert result.verdict == INCONCLUSIVE and "5 frames are too few" in result.sentence

    def test_a_reference_that_does_not_agree_with_itself(self, changed):
        strict = Gate("strict", "landmarks.mean_px", "each", at_most=0.001)
        results = judge(changed, [strict])
        assert verdicts(results, "strict") == [INCONCLUSIVE] * 3
        assert "does not agree with itself" in results[-1].sentence

    def test_other_pixels(self, changed):
        changed["clips"][1]["pixels"] = {"verdict": "differ", "frames": 60, "differing": 4, "first": 7}
        results = judge(changed, [LANDMARKS])
        assert overall(results)["verdict"] == INCONCLUSIVE
        assert (
            "b: 4 of 60 decoded frames are not the reference's pixels (first: frame 7)" in overall(results)["sentence"]
        )
        set_figure(changed, "landmarks.mean_px", 0.6, clip=1)
        assert verdicts(judge(changed, [LANDMARKS]), "landmarks") == [PASS, INCONCLUSIVE, PASS]

    def test_other_machine(self, changed):
        set_figure(changed, "landmarks.mean_px", 0.6)
        gate = Gate("m", "landmarks.mean_px", "each", at_most=0.5, machine="same")
        assert verdicts(judge(changed, [gate], same_machine=False), "m")[0] == INCONCLUSIVE
        assert verdicts(judge(changed, [gate], same_machine=True), "m")[0] == FAIL

    def test_an_unsteady_machine_does_not_decide_about_speed(self, changed):
        gate = Gate("s", "speed.per_calibration", "each", at_most=0.1)
        for clip in changed["clips"]:
            clip["figures"]["speed.per_calibration"] = {"value": 0.2, "n": 60}
            clip["speed"] = {"unsteady": None}
        changed["clips"][0]["speed"]["unsteady"] = "calibration 100 ms before, 200 ms after"
        assert verdicts(judge(changed, [gate]), "s") == [INCONCLUSIVE, FAIL, FAIL]
        over = Gate("m", "speed.per_calibration", "median", at_most=0.1)
        assert "beside 1 of 3 clips" in judge(changed, [over])[-1].sentence
        changed["clips"] += copy.deepcopy(changed["clips"][1:])
        assert verdicts(judge(changed, [over]), "m") == [FAIL]

    def test_times_are_asked_only_of_calibrated_runs_with_as_many_threads(self, changed):
        gate = Gate("s", "speed.gaze_per_calibration", "median", at_most=0.1, threads=2)
        assert verdicts(judge(changed, [gate]), "s") == []
        for clip in changed["clips"]:
            clip["figures"]["speed.per_calibration"] = {"value": 0.05, "n": 60}
        assert verdicts(judge(changed, [gate]), "s") == [INCONCLUSIVE]  # a stage that is not there any more
        changed["threads"] = 1
        assert verdicts(judge(changed, [gate]), "s") == []

    def test_undefined_is_not_a_pass(self, changed):
        changed["clips"][0]["figures"]["landmarks.mean_px"] = {"value": None, "n": 0, "reason": "no landmarks"}
        result = judge(changed, [LANDMARKS])[3]
        assert result.verdict == INCONCLUSIVE and "no value (no landmarks)" in result.sentence

    def test_a_clip_that_did_not_run_is_an_error(self, changed):
        changed["clips"][2]["error"] = "c.avi is in no folder of clips"
        state = overall(judge(changed, [LANDMARKS]))
        assert (state["verdict"], state["exit_code"]) == (ERROR, 2)
        assert "c.avi is in no folder" in state["sentence"]

    def test_over_clips(self, changed):
        gates = [
            Gate("mean", "landmarks.mean_px", "mean", at_most=0.1),
            Gate("median", "landmarks.mean_px", "median", at_most=0.1),
            Gate("many", "landmarks.mean_px", "median", at_most=0.0, min_clips=4),
        ]
        set_figure(changed, "landmarks.mean_px", 5.0)
        results = judge(changed, gates)
        assert verdicts(results, "mean") == [FAIL]
        assert verdicts(results, "median") == [PASS]
        assert verdicts(results, "many") == []
        assert "worst clip a" in next(r.sentence for r in results if r.gate == "mean")

    def test_gates_apply_by_faces_names_and_configuration(self, changed):
        changed["clips"][0]["faces"] = "several"
        assert len(judge(changed, [Gate("x", "landmarks.mean_px", "each", at_most=1.0, clips=("one",))])) == 3 + 2
        assert len(judge(changed, [Gate("x", "landmarks.mean_px", "each", at_most=1.0, names=("b*",))])) == 3 + 1
        assert len(judge(changed, [Gate("x", "landmarks.mean_px", "each", at_most=1.0, configurations=("clm",))])) == 3

    def test_nothing_checked_is_an_error(self):
        assert overall([])["verdict"] == ERROR

    def test_order_of_verdicts(self):
        results = [Result("x", v, v) for v in (PASS, INCONCLUSIVE, FAIL, ERROR)]
        assert [overall(results[:n])["exit_code"] for n in (1, 2, 3, 4)] == [0, 3, 1, 2]

    def test_shipped_gates_hold_the_promise(self):
        gates = read_gates(GOLDEN / "gates.toml")
        promise = next(g for g in gates if g.name == "promise")
        assert (promise.figure, promise.over, promise.at_least) == ("presence.agreement", "mean", 0.90)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "nothing would be checked"),
            ('[[gate]]\nname="x"\nfigure="f"\nover="each"\n', "at_most or at_least"),
            ('[[gate]]\nname="x"\nfigure="f"\nover="each"\nat_most=1\nat_least=1\n', "at_most or at_least"),
            ('[[gate]]\nname="x"\nfigure="f"\nover="some"\nat_most=1\n', "over must be"),
            ('[[gate]]\nname="x"\nfigure="f"\nover="each"\nat_moist=1\n', "unknown key 'at_moist'"),
            ("[[gate", "not TOML"),
        ],
    )
    def test_wrong_gates_are_refused(self, tmp_path, text, message):
        (tmp_path / "gates.toml").write_text(text)
        with pytest.raises(HarnessError, match=message):
            read_gates(tmp_path / "gates.toml")


class TestTripwires:
    @pytest.fixture
    def path(self, run: dict, tmp_path: Path) -> Path:
        """A baseline made of the run."""
        baseline.accept(run, tmp_path / "baseline.json", "first", WIRES)
        return tmp_path / "baseline.json"

    def test_the_same_run_passes(self, run, path):
        results, same = baseline.tripwires(run, path, WIRES)
        assert same is True and len(results) == 3 * len(WIRES.tolerance)
        assert {r.verdict for r in results} == {PASS}

    def test_a_small_loss_is_seen_long_before_a_gate_breaks(self, changed, path):
        before = changed["clips"][0]["figures"]["landmarks.mean_px"]["value"]
        set_figure(changed, "landmarks.mean_px", before * 1.25)
        assert overall(judge(changed, [LANDMARKS]))["verdict"] == PASS
        failing = [r for r in baseline.tripwires(changed, path, WIRES)[0] if r.verdict == FAIL]
        assert [(r.clip, r.figure) for r in failing] == [("a", "landmarks.mean_px")]
        assert "worse by" in failing[0].sentence

    def test_better_is_never_a_failure(self, changed, path):
        set_figure(changed, "landmarks.mean_px", 0.0)
        set_figure(changed, "intensity.ccc", 1.0)
        assert {r.verdict for r in baseline.tripwires(changed, path, WIRES)[0]} == {PASS}

    def test_another_machine_is_undecided(self, changed, path):
        set_figure(changed, "intensity.ccc", 0.5)
        changed["environment"]["cpu"] = "another one"
        results, same = baseline.tripwires(changed, path, WIRES)
        assert same is False
        assert {r.verdict for r in results} == {PASS, INCONCLUSIVE}

    def test_a_figure_that_vanished_fails(self, changed, path):
        set_figure(changed, "intensity.ccc", None)
        failing = [r for r in baseline.tripwires(changed, path, WIRES)[0] if r.verdict == FAIL]
        assert any("has none now" in r.sentence for r in failing)

    def test_without_a_baseline_there_is_nothing_to_trip_over(self, run, tmp_path):
        assert baseline.tripwires(run, tmp_path / "absent.json", WIRES) == ([], None)


class TestTripwiresOfTime:
    """Times of three clips, in calibration passes, against the baseline's."""

    @pytest.fixture
    def timed(self, changed):
        for clip in changed["clips"]:
            clip["speed"] = {"unsteady": None}
            self.set_times(clip, 0.05, 0.01)
        return changed

    @staticmethod
    def set_times(clip: dict, frame: float, gaze: float) -> None:
        """Of a machine that takes 100 ms for a calibration pass."""
        times = {"": frame, "gaze_": gaze, "pose_": 0.0001}
        for stage, passes in times.items():
            clip["figures"][f"speed.{stage}per_calibration"] = {"value": passes, "n": 60}
            if stage:
                clip["figures"][f"speed.{stage}ms"] = {"value": 100 * passes, "n": 60}

    @pytest.fixture
    def path(self, timed, tmp_path) -> Path:
        baseline.accept(timed, tmp_path / "baseline.json", "first", WIRES)
        return tmp_path / "baseline.json"

    @staticmethod
    def of_times(data: dict, path: Path) -> dict[str, str]:
        return {r.figure: r.verdict for r in baseline.tripwires(data, path, WIRES)[0] if r.figure.startswith("speed.")}

    def test_short_stages_are_left_out_and_equal_times_pass(self, timed, path):
        assert self.of_times(timed, path) == {"speed.per_calibration": PASS, "speed.gaze_per_calibration": PASS}

    def test_a_slower_stage_fails_alone(self, timed, path):
        for clip in timed["clips"]:
            self.set_times(clip, 0.052, 0.0155)
        assert self.of_times(timed, path) == {"speed.per_calibration": PASS, "speed.gaze_per_calibration": PASS}
        for clip in timed["clips"]:
            self.set_times(clip, 0.052, 0.020)
        assert self.of_times(timed, path) == {"speed.per_calibration": PASS, "speed.gaze_per_calibration": FAIL}

    def test_one_slow_clip_is_not_a_slower_program(self, timed, path):
        self.set_times(timed["clips"][0], 0.5, 0.1)
        assert set(self.of_times(timed, path).values()) == {PASS}

    def test_noise_another_machine_and_an_unsteady_one_are_undecided(self, timed, path):
        for clip, slower in zip(timed["clips"], (0.9, 1.7, 3.0), strict=True):
            self.set_times(clip, 0.05 * slower, 0.01)
        assert self.of_times(timed, path)["speed.per_calibration"] == INCONCLUSIVE
        for clip in timed["clips"]:
            self.set_times(clip, 0.1, 0.01)
        assert self.of_times(timed, path)["speed.per_calibration"] == FAIL
        timed["clips"][0]["speed"]["unsteady"] = "calibration 100 ms before, 200 ms after"
        assert self.of_times(timed, path)["speed.per_calibration"] == INCONCLUSIVE
        timed["clips"][0]["speed"]["unsteady"] = None
        timed["environment"]["cpu"] = "another one"
        assert self.of_times(timed, path)["speed.per_calibration"] == INCONCLUSIVE

    def test_other_threads_and_too_few_clips_are_not_compared(self, timed, path):
        fewer = {**timed, "clips": timed["clips"][:2]}
        assert self.of_times(fewer, path) == {} == self.of_times({**timed, "threads": 1}, path)


def test_broken_tripwires_are_named(tmp_path):
    text = (GOLDEN / "gates.toml").read_text()
    for old, new, message in (
        ("floor_share", "floor_part", "incomplete"),
        ("noise_at_most", "noise_most", "unknown key"),
        ('"intensity.mae"', '"intensity.mea"', "'intensity.mea', which is no figure"),
    ):
        (tmp_path / "gates.toml").write_text(text.replace(old, new))
        with pytest.raises(HarnessError, match=message):
            baseline.read_tripwires(tmp_path / "gates.toml")
    (tmp_path / "gates.toml").write_text('[[gate]]\nname="x"\n')
    assert baseline.read_tripwires(tmp_path / "gates.toml") is None


def test_the_worst_clip_is_the_slowest_not_the_fastest(changed):
    for clip, fps in zip(changed["clips"], (50.0, 20.0, 90.0), strict=True):
        clip["figures"]["speed.fps"] = {"value": fps, "n": 60}
        clip["figures"]["speed.mean_ms"] = {"value": 1000 / fps, "n": 60}
    totals = assemble.totals(changed["clips"])
    assert (totals["speed.fps"]["worst_clip"], totals["speed.fps"]["worst"]) == ("b", 20.0)
    assert totals["speed.mean_ms"]["worst_clip"] == "b"


def test_the_gain_over_the_reference_programs_record(changed):
    """Its 10 ms on a machine that needs 160 ms for the workload, ours on one that needs 80."""
    theirs = {
        "ms_per_frame": 10.0, "per_calibration": 0.0625, "stages_ms": {"landmarks": 6.0, "wait_decode": 0.1},
        "frames": 60, "first_frame_ms": 400.0, "post_ms": 10.0, "calibration_ms": 160.0,
    }  # fmt: skip
    for clip, ms in zip(changed["clips"], (4.0, 2.0, 10.0), strict=True):
        speed = {
            "frames": 60, "threads": 2, "mean_ms": ms, "calibration_ms": 80.0, "per_calibration": ms / 80,
            "wall_s": 0.2, "reference": {"two_cores": theirs},
            "stages": {"landmarks": {"mean": 1.5}, "analysis": {"mean": 1.0}},
        }  # fmt: skip
        assemble.set_times(clip, speed)
    gains = [clip["figures"]["speed.frame_gain"]["value"] for clip in changed["clips"]]
    assert gains == pytest.approx([1.25, 2.5, 0.5])
    assert changed["clips"][0]["figures"]["speed.frame_gain_ms"]["value"] == 2.5
    assert changed["clips"][0]["figures"]["speed.landmarks_gain"]["value"] == 2.0
    assert changed["clips"][0]["figures"]["speed.clip_gain_ms"]["value"] == 5.0  # 400 + 59 x 10 + 10 ms
    assert changed["clips"][0]["figures"]["speed.clip_gain"]["value"] == 2.5
    assert "speed.analysis_gain" not in changed["clips"][0]["figures"]  # the program's record does not have it
    changed["totals"] = assemble.totals(changed["clips"])
    assert changed["totals"]["speed.frame_gain"]["worst_clip"] == "c"
    (row,) = terminal.gain_rows(changed)
    assert "median 1.25 (0.50 to 2.50) over 3 clips; stages: landmarks 2.00; in ms as recorded: 2.50" in row
    assert row.endswith("whole clips, first frame and end included: 2.50")
    assert terminal.gain_rows({**changed, "totals": {}}) == []


class TestRecord:
    def test_round_trip(self, run, tmp_path):
        path = record.save(run, tmp_path / "run.json")
        assert record.load(path) == json.loads(json.dumps(run))

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda d: d.update(schema=2), "record schema 2"),
            (lambda d: d.pop("verdict"), "lacks 'verdict'"),
            (lambda d: d["clips"][0].pop("counts"), r"clips\[0\] lacks 'counts'"),
            (lambda d: d["clips"][0]["figures"]["landmarks.nme"].update(value="x"), "is str, not number or null"),
            (lambda d: d["clips"][0]["figures"]["landmarks.nme"].update(extra=1), "unknown entry 'extra'"),
            (lambda d: d["verdict"].update(verdict="MAYBE"), "not one of"),
        ],
    )
    def test_a_broken_record_is_refused(self, changed, tmp_path, change, message):
        change(changed)
        (tmp_path / "run.json").write_text(json.dumps(changed))
        with pytest.raises(HarnessError, match=message):
            record.load(tmp_path / "run.json")

    def test_no_record_at_all(self, tmp_path):
        (tmp_path / "a.json").write_text("[]")
        for name, message in (("a.json", "record schema 'list'"), ("b.json", "cannot be read")):
            with pytest.raises(HarnessError, match=message):
                record.load(tmp_path / name)

    def test_infinity_never_reaches_a_file(self, changed, tmp_path):
        set_figure(changed, "landmarks.mean_px", float("inf"))
        with pytest.raises(ValueError):
            record.save(changed, tmp_path / "run.json")
        assert not (tmp_path / "run.json").exists()


class TestOutputs:
    @pytest.fixture
    def failing(self, changed: dict) -> dict:
        """A run with one failure and one undecided check."""
        set_figure(changed, "landmarks.mean_px", 0.6)
        changed["clips"][1]["pixels"] = {"verdict": "differ", "frames": 60, "differing": 4, "first": 7}
        checks = judge(changed, [LANDMARKS])
        changed["gates"], changed["verdict"] = [c.to_json() for c in checks], overall(checks)
        return changed

    def test_junit(self, failing):
        suite = ElementTree.fromstring(outputs.junit_xml(failing))
        assert (suite.get("tests"), suite.get("failures"), suite.get("skipped"), suite.get("errors")) == (
            "6", "1", "1", "0",
        )  # fmt: skip
        (case,) = (c for c in suite if c.find("failure") is not None)
        assert (case.get("classname"), case.get("name")) == ("a", "landmarks")
        assert "off by" in case.find("failure").get("message")

    def test_markdown(self, failing):
        text = outputs.markdown_summary(failing)
        assert text.startswith("## Validation: FAIL\n")
        assert "| landmarks | FAIL | a: landmarks.mean_px is 0.6" in text
        rows = [line for line in text.splitlines() if line.startswith("| ")]
        assert len({row.count("|") for row in rows if row.startswith(("| clip", "| a", "| b", "| c "))}) == 1

    def test_markdown_of_a_clip_without_figures(self, failing):
        failing["clips"][2]["error"] = "broken | file"
        assert "broken \\| file" in outputs.markdown_summary(failing)

    def test_annotations(self, failing):
        lines = outputs.github_annotations(failing)
        assert lines[0].startswith("::warning title=pixels::b: 4 of 60")
        assert lines[1].startswith("::error title=landmarks::a: landmarks.mean_px")
        assert lines[-1].startswith("::notice title=Validation FAIL::")
        assert outputs._escape("50 %, a: b\n", True) == "50 %25%2C a%3A b%0A"

    def test_terminal_hides_nothing(self, failing):
        text = "\n".join(line for clip in failing["clips"] for line in terminal.clip_rows(clip))
        assert "INCONCLUSIVE: 4 of 60 decoded frames" in text and text.count("the reference against itself") == 3
        failing["clips"][0]["counts"].update(missing=2, excluded=1, truncated_lines=1)
        (note,) = terminal.notes(failing["clips"][0])
        assert "2 rows missing; 1 frames left out" in note and "cut-off" in note

    def test_totals_have_an_interval_around_the_mean(self, run):
        total = run["totals"]["landmarks.mean_px"]
        assert total["n"] == 3 and total["low"] <= total["mean"] <= total["high"]
        assert total["floor_sources"]["rebuild"] == pytest.approx(total["floor_median"])
        assert len(terminal.total_rows(run)) == 5

    def test_equivalence_is_stated_with_its_margin(self, run):
        by_figure = {e["figure"]: e for e in run["equivalence"]}
        assert by_figure["intensity.bias"]["margin"] == 0.05 and by_figure["intensity.bias"]["equivalent"]
