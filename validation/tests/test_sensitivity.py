"""Injected defects are what they say, and the power table finds them at the right size."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from validation import defects, record, sensitivity
from validation.baseline import read_tripwires
from validation.cli import main
from validation.compare import join
from validation.errors import Undefined
from validation.figures import DEFINITIONS, evaluate
from validation.files import GOLDEN
from validation.floor import floor
from validation.injection import measure
from validation.reference import Table
from validation.stats import slow_down
from validation.tests.conftest import make_csv, table
from validation.tests.test_goldens import store  # noqa: F401 (a fixture)

CLIPS = {name: table(make_csv(seed=1)) for name in "abcde"}
RUNS = [
    {clip: table(make_csv(seed=100 * k + i, noise=0.2)) for i, clip in enumerate(CLIPS)} for k in (1, 2, 3)
]  # fmt: skip


def values(tables: dict[str, Table]) -> sensitivity.Values:
    """Figures of each clip."""
    return {clip: measure(CLIPS[clip], found, sensitivity.FIGURES).values for clip, found in tables.items()}


def test_failed_frames_are_left_alone():
    lost = table(make_csv(lost=(3,)))
    for inject in (defects.offset, defects.bias):
        changed = inject(lost, 1.0)
        np.testing.assert_array_equal(changed.values[2], lost.values[2])
        assert not np.array_equal(changed.values[3], lost.values[3])


def test_delay_keeps_frame_numbers_and_moves_the_rest(reference):
    late = defects.delay(reference, 2)
    np.testing.assert_array_equal(late.frame, reference.frame)
    np.testing.assert_array_equal(late.column("timestamp"), reference.column("timestamp"))
    np.testing.assert_array_equal(late.column("x_0")[2:], reference.column("x_0")[:-2])
    np.testing.assert_array_equal(late.column("x_0")[:2], reference.column("x_0")[0])


def test_bias_stays_within_the_scale(reference):
    assert defects.bias(reference, 9.0).matrix(reference.names(r"AU\d+_r")).max() == 5.0


def test_the_sizes_that_must_be_caught_are_those_of_the_promise():
    assert {d.name: d.matters for d in defects.DEFECTS if d.inject} == {
        "landmark offset": 0.5, "AU bias": 0.1, "delay": 1,
    }  # fmt: skip
    assert all(d.matters in d.sizes for d in defects.DEFECTS)


def test_power_rises_with_the_size_of_the_defect_and_false_alarms_stay_rare():
    by_size = {size: values({c: defects.offset(t, size) for c, t in RUNS[0].items()}) for size in (0.0, 0.02, 0.5)}
    rows = sensitivity.power_table("landmark offset", "px", [values(run) for run in RUNS], by_size)
    (row,) = (r for r in rows if r.figure == "landmarks.mean_px")
    assert row.false_alarms <= sensitivity.FALSE_ALARMS
    assert row.powers["0"] < 0.2 and row.powers["0.5"] == 1.0
    assert row.smallest == 0.02
    (blind,) = (r for r in rows if r.figure == "intensity.ccc")
    assert blind.smallest is None


def test_too_few_clips_give_no_row():
    few = {clip: RUNS[0][clip] for clip in "ab"}
    assert sensitivity.power_table("x", "px", [values(few), values(few)], {1.0: values(few)}) == []


def test_tripwires_on_the_same_machine_see_smaller_defects():
    floors = {clip: floor(CLIPS[clip], {"rebuild": RUNS[1][clip]}).worst for clip in CLIPS}
    wires = read_tripwires(GOLDEN / "gates.toml")
    by_size = {size: values({c: defects.bias(t, size) for c, t in RUNS[0].items()}) for size in (0.0, 0.01, 0.1)}
    row = sensitivity.tripwire_row("AU bias", "AU", values(RUNS[0]), by_size, floors, wires)
    assert row.powers["0"] == 0 and row.smallest == 0.01 and row.powers["0.1"] == 1.0


def test_slowdowns_are_caught_on_a_quiet_machine_and_not_invented_on_a_noisy_one():
    rng = np.random.default_rng(0)

    def rounds(noise: float, drift: float = 0.0) -> list[list[dict[str, float]]]:
        level = 5 * np.exp(rng.normal(0, drift, 10))
        return [[{"landmarks_ms": v} for v in level * (1 + rng.normal(0, noise, 10))] for _ in range(2)]

    (row,) = sensitivity.slowdown_rows(*rounds(0.006), ["landmarks_ms"], 7, budget=0.10, draws=60)
    assert row.powers["15"] == 1.0 and row.powers["5"] == 0.0 and row.false_alarms == 0.0
    assert row.smallest == 12.0
    (row,) = sensitivity.slowdown_rows(*rounds(0.006, drift=0.5), ["landmarks_ms"], 7, budget=0.10, draws=60)
    assert row.smallest == 12.0  # a machine whose speed changes from round to round
    (row,) = sensitivity.slowdown_rows(*rounds(0.3), ["landmarks_ms"], 7, budget=0.10, draws=60)
    assert row.false_alarms <= 0.05
    with pytest.raises(Undefined, match="at least 6"):
        sensitivity.slowdown_rows(*(side[:3] for side in rounds(0.01)), ["landmarks_ms"], 7, budget=0.10)


def test_the_power_of_a_slowdown_is_that_of_the_speed_commands_own_decision():
    ratios = np.random.default_rng(3).lognormal(0, 0.05, (40, 7))
    for slower, share in sensitivity._shares_found(ratios, 0.10).items():
        found = [slow_down(np.ones(7), row * (1 + slower), 0.10).slower for row in ratios]
        assert share == np.mean(found), slower


@pytest.fixture
def with_repetitions(store):  # noqa: F811
    """Three clips with two repetitions each, and gates."""
    base = store.configurations["clnf-rebuild"]
    store.configurations["clnf-other-cpu"] = {**base, "as": "other-cpu"}
    for i, name in enumerate(("one", "two", "three")):
        store.clips[name] = replace(store.clips["face"], name=name, file=f"{name}.avi")
        store.put("clnf", name, make_csv().encode())
        store.put("clnf-rebuild", name, make_csv(seed=10 + i, noise=0.2).encode())
        store.put("clnf-other-cpu", name, make_csv(seed=20 + i, noise=0.2).encode())
    store.put("clnf-other-cpu", "face", make_csv(seed=30, noise=0.2).encode())
    store.save()
    return store


def gates(landmarks: str) -> str:
    """Gates for landmarks and AUs."""
    return (
        f'[[gate]]\nname="l"\nfigure="landmarks.mean_px"\nover="each"\n{landmarks}\n'
        '[[gate]]\nname="b"\nfigure="intensity.worst_bias"\nover="each"\nat_most=0.05\n'
    )


def test_only_the_wanted_figures_are_computed_and_they_are_the_same():
    pair = join(CLIPS["a"], RUNS[0]["a"])
    every = evaluate(pair)
    for name in DEFINITIONS:
        assert evaluate(pair, {name}).figures == {name: every.figures[name]}, name
    assert set(evaluate(pair, {"intensity.worst_bias"}).per_au["AU01_r"]) == {"bias", "varies"}


def test_command_without_weights(with_repetitions, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(record, "RUNS", tmp_path / "runs")
    folder = with_repetitions.folder
    (folder / "gates.toml").write_text(gates("at_most=0.05\nor_floor_times=3.0"))
    arguments = ["sensitivity", "--golden", str(folder), "--no-replay", "-o", str(tmp_path / "s.json")]
    assert main([*arguments, "--markdown", str(tmp_path / "s.md")]) == 0
    text = (tmp_path / "s.md").read_text()
    assert "| landmark offset | landmarks.mean_px |" in text and "not injected: left out on request" in text
    data = record.load(tmp_path / "s.json")
    assert {row["defect"] for row in data["sensitivity"]["rows"]} == {"landmark offset", "AU bias", "delay"}
    capsys.readouterr()

    (folder / "gates.toml").write_text(gates("at_most=50.0"))
    assert main(arguments) == 1
    assert "landmark offset of 0.5 px is not seen by any gate" in capsys.readouterr().out


def test_command_refuses_other_records(with_repetitions, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(record, "RUNS", tmp_path / "runs")
    (with_repetitions.folder / "gates.toml").write_text(gates("at_most=0.05"))
    (tmp_path / "r.json").write_text(json.dumps({"schema": 1}))
    arguments = ["sensitivity", "--golden", str(with_repetitions.folder), "--no-replay"]
    assert main([*arguments, "--speed", str(tmp_path / "r.json")]) == 2
    assert "not a whole record" in capsys.readouterr().err
