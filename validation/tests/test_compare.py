"""Joining, counting, and the figures of a whole comparison."""

from __future__ import annotations

import numpy as np
import pytest

from validation import defects
from validation.compare import join
from validation.errors import HarnessError
from validation.figures import DEFINITIONS, evaluate
from validation.floor import floor, share
from validation.reference import Table
from validation.series import series, tracking_record, worst_frames
from validation.tests.conftest import AUS, FRAMES, make_csv, table


def without(text: str, *frames: int) -> str:
    """The CSV without these frames' rows."""
    head, *rows = text.splitlines()
    return "\n".join([head, *(row for row in rows if int(row.split(",")[0]) not in frames), ""])


def test_a_file_against_itself_is_perfect(reference):
    pair = join(reference, reference)
    figures = evaluate(pair).figures
    assert set(figures) == set(DEFINITIONS)
    for name, figure in figures.items():
        better = DEFINITIONS[name].better
        if name in ("tracking.runs_equal",):
            assert figure.value is None and "never loses" in figure.reason
        elif better in ("lower", "zero") or name == "presence.flips":
            assert figure.value == pytest.approx(0, abs=1e-12), name
        else:
            assert figure.value == pytest.approx(1), name
    assert pair.counts.both_succeed == pair.counts.common == FRAMES


def test_rows_are_joined_by_number_not_by_order(reference):
    shuffled = Table(
        "shuffled", reference.columns, reference.values[np.random.default_rng(0).permutation(FRAMES)], 0, "source"
    )
    assert evaluate(join(reference, shuffled)).figures["landmarks.mean_px"].value == 0


def test_every_kind_of_row_is_counted():
    a = table(without(make_csv(lost=(5, 6)), 10))
    b = table(without(make_csv(lost=(6, 7)), 20, 21))
    counts = join(a, b).counts
    assert (counts.reference, counts.other, counts.common) == (59, 58, 57)
    assert (counts.missing, counts.extra) == (2, 1)
    assert (counts.lost_only_in_reference, counts.lost_only_in_other, counts.both_fail) == (1, 1, 1)
    assert counts.both_succeed == 57 - 3


def test_missing_rows_count_against_tracking(reference):
    cut = table(without(make_csv(), 1, 2, 3))
    assert evaluate(join(reference, cut)).figures["tracking.agreement"].value == pytest.approx(57 / 60)
    assert evaluate(join(cut, reference)).figures["tracking.agreement"].value == pytest.approx(57 / 60)


def test_a_value_that_is_not_a_number_excludes_its_frame_and_says_so():
    lines = make_csv().splitlines()
    cells = lines[7].split(",")
    cells[-1] = "nan(ind)"
    lines[7] = ",".join(cells)
    pair = join(table(make_csv()), table("\n".join(lines) + "\n"))
    assert (pair.counts.both_succeed, pair.counts.excluded) == (60, 1)
    assert evaluate(pair).figures["landmarks.mean_px"].n == 59


def test_two_faces_are_compared_face_by_face():
    two = table(make_csv(faces=2))
    pair = join(two, two)
    assert (pair.counts.common, pair.counts.faces) == (2 * FRAMES, 2)
    assert evaluate(pair).figures["landmarks.mean_px"].value == 0
    one = join(two, table(make_csv()))
    assert (one.counts.missing, one.counts.common) == (FRAMES, FRAMES)


def test_files_of_different_clips_are_refused():
    early, late = table(make_csv(5)), table(without(make_csv(10), 1, 2, 3, 4, 5))
    with pytest.raises(HarnessError, match="no frame in common"):
        join(early, late)


def test_missing_groups_give_a_reason_instead_of_a_figure(reference):
    names = [n for n in reference.columns if not n.startswith(("pose", "AU"))]
    less = Table("less", tuple(names), reference.matrix(names), 0, "source")
    figures = evaluate(join(reference, less)).figures
    assert figures["landmarks.mean_px"].value == 0
    for name in ("pose.axis_deg", "intensity.ccc", "presence.agreement"):
        assert figures[name].value is None and "columns" in figures[name].reason


def test_no_face_in_either_gives_reasons_and_full_tracking_agreement():
    none = table(make_csv(8, lost=tuple(range(1, 9))))
    figures = evaluate(join(none, none)).figures
    for name, figure in figures.items():
        if not name.startswith("tracking."):
            assert figure.value is None and figure.reason, name
    assert figures["tracking.agreement"].value == 1


def test_an_offset_shows_as_its_size_in_landmarks_only(reference):
    figures = evaluate(join(reference, defects.offset(reference, 0.5))).figures
    assert figures["landmarks.mean_px"].value == pytest.approx(0.5)
    assert figures["landmarks.nme"].value == pytest.approx(0.5 / 90, rel=1e-3)
    assert figures["intensity.ccc"].value == pytest.approx(1)


def test_a_bias_shows_as_its_size(reference):
    figures = evaluate(join(reference, defects.bias(reference, 0.1))).figures
    assert figures["intensity.worst_bias"].value == pytest.approx(0.1, abs=0.02)
    assert figures["intensity.pcc"].value > 0.999
    assert figures["presence.agreement"].value == 1


def test_a_delay_shows_in_everything_that_moves(reference):
    figures = evaluate(join(reference, defects.delay(reference, 1))).figures
    assert figures["landmarks.mean_px"].value > 0.5
    assert figures["pose.axis_deg"].value > 0.3
    assert figures["intensity.ccc"].value < 0.99
    assert figures["tracking.agreement"].value == 1


def test_constant_aus_are_left_out_of_the_mean_correlation(reference):
    values = reference.values.copy()
    at = reference.columns.index("AU01_r")
    values[:, at] = 0.3
    still = Table("still", reference.columns, values, 0, "source")
    evaluation = evaluate(join(still, reference))
    assert evaluation.figures["intensity.ccc"].n == len(AUS) - 1
    assert evaluation.per_au["AU01_r"]["varies"].value == 0
    assert evaluation.per_au["AU01_r"]["pcc"].value is None


def test_the_floor_is_the_worse_repetition(reference):
    near, far = table(make_csv(seed=3, noise=0.1)), table(make_csv(seed=4, noise=0.5))
    found = floor(reference, {"rebuild": near, "other-cpu": far})
    worst = evaluate(join(reference, far)).figures
    for name in ("landmarks.mean_px", "intensity.ccc", "intensity.mae"):
        assert found.worst[name].value == worst[name].value
    assert floor(reference, {}) is None


def test_share_of_the_floor(reference, other):
    found = floor(reference, {"rebuild": other})
    figures = evaluate(join(reference, other)).figures
    assert share("landmarks.mean_px", figures["landmarks.mean_px"], found.worst["landmarks.mean_px"]).value == 1
    zero = floor(reference, {"rebuild": reference}).worst["landmarks.mean_px"]
    assert share("landmarks.mean_px", figures["landmarks.mean_px"], zero).value is None
    assert share("landmarks.mean_px", figures["landmarks.mean_px"], None).reason == "no noise floor for this figure"


def test_series_hold_one_entry_a_used_frame():
    pair = join(table(make_csv(lost=(3,))), table(make_csv(seed=2, noise=0.2, lost=(4,))))
    data = series(pair)
    n = FRAMES - 2
    assert len(data["frame"]) == len(data["landmark_px"]) == len(data["pose_deg"]) == len(data["nme"]) == n
    assert len(data["presence"]["AU01_c"]["other"]) == len(data["intensity"]["AU01_r"]["reference"]) == n
    assert len(data["point_px"]) == len(data["mean_face"]) == 68
    radius = np.sqrt((np.array(data["mean_face"]) ** 2).sum(1).mean())
    assert radius == pytest.approx(1, abs=0.01)
    assert tracking_record(pair) == {
        "lost_reference": [[0, 3, 3]],
        "lost_other": [[0, 4, 4]],
        "differing": [[0, 3], [0, 4]],
    }


def test_the_worst_frames_come_first(reference):
    values = reference.values.copy()
    values[[10, 20], reference.columns.index("x_0")] += (68.0, 34.0)
    worst = worst_frames(join(reference, Table("x", reference.columns, values, 0, "source")))
    assert [(w["frame"], w["mean_px"]) for w in worst[:2]] == [(11, 1.0), (21, 0.5)]
