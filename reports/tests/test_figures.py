"""Figures by what is plotted: the record's own numbers, and nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from reports import gallery, style, view
from reports.build import Source, draw
from reports.figures import Drawing, intensity, landmarks, presence, speed
from reports.figures.base import gaps
from reports.view import NotDrawn

pytestmark = pytest.mark.usefixtures("styled")


def _clip(made: dict[str, Any], name: str) -> dict[str, Any]:
    return next(clip for clip in made["clips"] if clip["clip"] == name)


def value(figures: Any, name: str) -> float:
    """A figure that must have a value."""
    found = view.value(figures, name)
    assert found is not None
    return found


def floor_au(clip: dict[str, Any], source: str, au: str, metric: str) -> float:
    """A figure of the floor that must have a value."""
    return value(clip["floor"]["per_au"][source][au], metric)


def _axes(drawing: Drawing) -> list[Any]:
    return list(drawing.figure.axes)


def _offsets(collection: Any) -> np.ndarray:
    return np.asarray(collection.get_offsets())


def test_traces_are_the_series_with_gaps_where_frames_are_missing(made: dict[str, Any]) -> None:
    drawings = {d.name: d for d in intensity.traces(made)}
    for name in ("first", "second <b>&amp;"):
        clip = _clip(made, name)
        axes = _axes(drawings[f"traces-{name}"])
        assert len(axes) >= len(clip["series"]["intensity"])
        for panel, (au, both) in zip(axes, clip["series"]["intensity"].items(), strict=False):
            assert panel.get_title(loc="left").startswith(view.action_unit(au))
            lines = {line.get_label(): line for line in panel.lines}
            for side in ("reference", "other"):
                drawn = lines[side].get_ydata()
                np.testing.assert_array_equal(np.asarray(drawn)[~np.isnan(drawn)], both[side])
    second = _axes(drawings["traces-second <b>&amp;"])[0].lines[0]
    x = np.asarray(second.get_xdata())
    assert np.isnan(x).sum() == 1
    assert x[np.flatnonzero(np.isnan(x))[0] + 1] == 22


def test_trace_band_is_the_floors_limits(made: dict[str, Any]) -> None:
    clip = _clip(made, "first")
    panel = _axes(next(d for d in intensity.traces(made) if d.name == "traces-first"))[0]
    reference = clip["series"]["intensity"]["AU01_r"]["reference"]
    band = panel.collections[0].get_paths()[0].get_extents()
    assert band.ymin == pytest.approx(min(reference) + floor_au(clip, "rebuild", "AU01_r", "limit_low"))
    assert band.ymax == pytest.approx(max(reference) + floor_au(clip, "rebuild", "AU01_r", "limit_high"))


def test_scatter_holds_every_frame_and_the_identity(made: dict[str, Any]) -> None:
    figure = intensity.scatter(made)[0].figure
    clips = view.with_series(made, "intensity")
    for axes, au in zip(figure.axes, view.units(made, "_r"), strict=False):
        series = [c["series"]["intensity"][au] for c in clips]
        wanted = [pair for both in series for pair in zip(both["reference"], both["other"], strict=True)]
        np.testing.assert_array_equal(_offsets(axes.collections[0]), wanted)
        x, y = axes.lines[0].get_data()
        np.testing.assert_array_equal(x, y)
        assert f"n = {len(wanted)}" in axes.texts[0].get_text()


def test_bland_altman_lines_are_recorded_not_computed(made: dict[str, Any]) -> None:
    clip = _clip(made, "first")
    clip["per_au"]["AU04_r"]["bias"]["value"] = 0.123
    panel = _axes(next(d for d in intensity.bland_altman(made) if d.name == "bland-altman-first"))[1]
    levels = {line.get_label(): line.get_ydata()[0] for line in panel.lines}
    assert levels == {
        "bias": 0.123,
        "limit_low": value(clip["per_au"]["AU04_r"], "limit_low"),
        "limit_high": value(clip["per_au"]["AU04_r"], "limit_high"),
    }
    both = clip["series"]["intensity"]["AU04_r"]
    points = np.array([both["reference"], both["other"]])
    np.testing.assert_allclose(_offsets(panel.collections[0]), np.array([points.mean(axis=0), points[1] - points[0]]).T)


def test_biases_of_run_and_floor(made: dict[str, Any]) -> None:
    axes = _axes(intensity.biases(made)[0])[0]
    dots = [line for line in axes.lines if line.get_marker() == "o"]
    clips = view.measured(made)
    for row, au in enumerate(view.units(made, "_r")):
        assert sorted(dots[2 * row].get_xdata()) == sorted(value(c["per_au"][au], "bias") for c in clips)
        assert sorted(dots[2 * row + 1].get_xdata()) == sorted(floor_au(c, "rebuild", au, "bias") for c in clips)


def test_presence_matrix_and_its_floor(made: dict[str, Any]) -> None:
    _clip(made, "first")["per_au"]["AU12_c"]["agreement"]["value"] = 0.5
    ours, floor = _axes(presence.matrix(made)[0])[:2]
    names, clips = view.units(made, "_c"), view.measured(made)
    wanted = [[100 * value(c["per_au"][au], "agreement") for au in names] for c in clips]
    np.testing.assert_allclose(ours.images[0].get_array(), wanted)
    wanted = [[100 * floor_au(c, "rebuild", au, "agreement") for au in names] for c in clips]
    np.testing.assert_allclose(floor.images[0].get_array(), wanted)
    assert [names.index("AU12_c"), 0] in _offsets(ours.collections[0]).tolist()


def test_ced_is_the_recorded_curve_and_the_recorded_frames(made: dict[str, Any]) -> None:
    usual, fine = _axes(landmarks.ced(made)[0])
    clips = view.with_series(made, "nme")
    ours = [line for line in usual.lines if line.get_color() == style.OURS]
    floors = [line for line in usual.lines if line.get_color() == style.FLOOR]
    for line, clip in zip(ours, clips, strict=True):
        np.testing.assert_allclose(line.get_ydata(), 100 * np.array(clip["series"]["ced"]["share"]))
        np.testing.assert_allclose(line.get_xdata(), 100 * np.array(clip["series"]["ced"]["threshold"]))
    for line, clip in zip(floors, clips, strict=True):
        np.testing.assert_allclose(line.get_ydata(), 100 * np.array(clip["floor"]["series"]["rebuild"]["ced"]["share"]))
    ours = [line for line in fine.lines if line.get_color() == style.OURS]
    for line, clip in zip(ours, clips, strict=True):
        np.testing.assert_allclose(line.get_xdata(), 100 * np.sort(clip["series"]["nme"]))
        assert line.get_ydata()[-1] == 100


def test_mean_face_beside_its_floor(made: dict[str, Any]) -> None:
    axes = _axes(landmarks.mean_face(made)[0])
    clip = view.shown_clips(made)[0]
    for panel, errors in zip(
        axes, (clip["series"]["point_px"], clip["floor"]["series"]["rebuild"]["point_px"]), strict=False
    ):
        np.testing.assert_array_equal(_offsets(panel.collections[0]), clip["series"]["mean_face"])
        np.testing.assert_array_equal(panel.collections[0].get_array(), np.maximum(errors, landmarks.SCALE[0]))


def test_contours_use_each_of_the_68_points() -> None:
    assert {i for contour in landmarks.CONTOURS for i in contour} == set(range(68))
    assert [i for a, b in landmarks.REGIONS.values() for i in range(a, b)] == list(range(68))


def test_latency_bars_add_up_beside_the_cpp_program(made: dict[str, Any]) -> None:
    bars, dots = _axes(speed.latency(made)[0])
    by_height: dict[float, float] = {}
    for patch in bars.patches:
        height = round(patch.get_y() + patch.get_height() / 2, 2)
        by_height[height] = by_height.get(height, 0) + patch.get_width()
    # 9.5 ms of outer stages and 10.02 ms of the C++ program; twice 9.5 and no reference.
    assert by_height == pytest.approx({-0.19: 9.5, 0.19: 10.02, 0.81: 19.0})
    assert [line.get_xdata()[0] for line in dots.lines] == pytest.approx([7 / 160, 0.061, 14 / 160])


def test_the_cpp_programs_landmarks_are_split_where_its_parts_were_timed() -> None:
    whole = {"stages_ms": {"landmarks": 4.0, "gaze": 0.3}}
    assert speed.cpp_stages(whole) == {"landmarks": 4.0, "gaze": 0.3}
    parts = {"detect": 0.0, "face": 2.5, "parts": 0.5, "validator": 0.6}
    assert speed.cpp_stages({**whole, "landmarks_ms": parts}) == pytest.approx(
        {"landmarks": 0.4, "gaze": 0.3, "landmarks.face": 2.5, "landmarks.parts": 0.5, "landmarks.validator": 0.6}
    )


def test_parts_of_a_stage_are_not_counted_twice(made: dict[str, Any]) -> None:
    found = speed.our_stages(_clip(made, "first")["speed"])
    assert found["landmarks"] == pytest.approx(0.5)
    assert sum(found.values()) == pytest.approx(9.5)


def test_speed_against_accuracy_of_several_records(made: dict[str, Any]) -> None:
    panels = _axes(speed.against_accuracy([made, made])[0])
    cpp, first, *_ = panels[0].collections
    clip = _clip(made, "first")
    np.testing.assert_allclose(_offsets(cpp), [(0.061, value(clip["floor"]["worst"], "landmarks.mean_px"))])
    wanted = [(c["speed"]["per_calibration"], value(c["figures"], "landmarks.mean_px")) for c in view.measured(made)]
    np.testing.assert_allclose(_offsets(first), wanted)
    median = made["totals"]["intensity.ccc"]["median"]
    assert any(np.allclose(_offsets(c)[0][1], 1 - median) for c in panels[1].collections if len(_offsets(c)) == 1)


def test_rounds_of_two_trees() -> None:
    comparison = {"ratio": 1.2, "low": 1.1, "high": 1.3, "budget": 0.05, "slower": True, "rounds": 7}
    drawing = speed.rounds({"speed": {"comparisons": {"mean_ms": comparison}}})[0]
    dot, tick = _axes(drawing)[0].lines[:2]
    assert dot.get_xdata()[0] == 1.2
    assert dot.get_color() == style.REFERENCE
    assert tick.get_xdata()[0] == pytest.approx(1.05)
    assert "n = 7" in drawing.caption


def test_every_figure_names_n_and_its_noise_floor(made: dict[str, Any]) -> None:
    contents, shared = draw([Source(made)])
    drawings = [*contents[0].drawings, *shared]
    assert {d.section for d in drawings} == {"units", "landmarks", "speed", "frames"}
    for drawing in drawings:
        assert "n " in drawing.caption, drawing.name
        assert "floor" in drawing.caption.lower(), drawing.name
    assert contents[0].missing == {}


def test_figures_that_cannot_be_drawn_say_why(made: dict[str, Any]) -> None:
    for clip in made["clips"]:
        clip["series"], clip["per_au"], clip["speed"], clip["worst_frames"] = None, {}, None, []
    contents, shared = draw([Source(made)])
    assert contents[0].drawings == [] and shared == []
    reasons = [reason for found in contents[0].missing.values() for _, reason in found]
    assert len(reasons) == 10
    assert all(reasons)


def test_records_without_series_of_the_floor_are_drawn_without_it(made: dict[str, Any]) -> None:
    for clip in view.measured(made):
        del clip["floor"]["series"]
    usual, _ = _axes(landmarks.ced(made)[0])
    assert [line for line in usual.lines if line.get_color() == style.FLOOR] == []
    assert len(_axes(landmarks.mean_face(made)[0])) == 3  # two clips and the colour bar
    assert landmarks.every_landmark(made)


def test_drawing_is_repeatable_to_the_byte(made: dict[str, Any], tmp_path: Any) -> None:
    for kind in ("pdf", "svg", "png"):
        for name in ("a", "b"):
            style.save(presence.matrix(made)[0].figure, tmp_path / f"{name}.{kind}")
        assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()


def test_inline_drawing_keeps_every_digit_of_its_text(made: dict[str, Any]) -> None:
    drawing = intensity.scatter(made)[0]
    text = style.inline_svg(drawing.figure, "x", 'a "label" & more')
    noted = _axes(drawing)[0].texts[0].get_text().split("\n")
    assert all(line in text for line in noted)
    assert 'aria-label="a &quot;label&quot; &amp; more"' in text
    assert 'id="' in text and 'id="' not in text.replace('id="x-', "")
    assert style.INK not in text.replace(f"var(--ink,{style.INK})", "")


def test_gaps() -> None:
    x, y = gaps([1, 2, 5], [0.1, 0.2, 0.5])
    np.testing.assert_array_equal(x, [1, 2, np.nan, 5])
    np.testing.assert_array_equal(y, [0.1, 0.2, np.nan, 0.5])


def test_gallery_takes_pictures_only_from_the_very_clip(made: dict[str, Any], tmp_path: Any) -> None:
    cv2 = pytest.importorskip("cv2")
    clip = _clip(made, "first")
    frame = clip["worst_frames"][0]
    picture = np.full((300, 400, 3), 90, np.uint8)
    (tmp_path / "beside").mkdir()
    cv2.imwrite(str(tmp_path / "beside" / "worst.jpg"), picture)
    frame["picture"] = "worst.jpg"
    shots = gallery.worst(made, tmp_path / "beside", None)
    having = [shot for shot in shots if shot.jpeg]
    assert [(shot.clip, shot.frame) for shot in having] == [("first", frame["frame"])]
    assert [shot.mean_px for shot in shots] == sorted((shot.mean_px for shot in shots), reverse=True)
    assert len({shot.clip for shot in shots}) == 2 and len(shots) == 4
    clip["sha256"] = "0" * 64
    (tmp_path / "first.mp4").write_bytes(b"another clip of this name")
    assert not any(shot.jpeg for shot in gallery.worst(made, None, tmp_path))
    panel = _axes(gallery.figure(made, having)[0])[0]
    x, y, side = having[0].box
    assert tuple(panel.images[0].get_extent()) == (x, x + side, y + side, y)
    contour = landmarks.CONTOURS[0]
    np.testing.assert_array_equal(panel.lines[0].get_xdata(), [having[0].reference[i][0] for i in contour])


def test_nothing_to_draw_in_an_empty_gallery(made: dict[str, Any]) -> None:
    with pytest.raises(NotDrawn, match="no clip"):
        gallery.figure(made, [])


def test_a_record_without_a_noise_floor_says_so(made: dict[str, Any]) -> None:
    for clip in view.measured(made):
        clip["floor"] = None
    contents, shared = draw([Source(made)])
    for drawing in [*contents[0].drawings, *shared]:
        if drawing.name != "latency":  # the floor of timing is the C++ program's range
            assert "No noise floor was recorded." in drawing.caption, drawing.name
    matrix = next(d for d in contents[0].drawings if d.name == "presence")
    assert len([axes for axes in _axes(matrix) if axes.images]) == 1


def test_labels_stay_inside_of_the_figure(made: dict[str, Any]) -> None:
    for i, clip in enumerate(view.measured(made)):
        clip["clip"] = f"{i} a clip with a name as long as they come"
    contents, shared = draw([Source(made)])
    for drawing in [*contents[0].drawings, *shared]:
        drawing.figure.set_dpi(900)  # where letters have their true widths
        width, height = drawing.figure.bbox.max
        # Ticks outside of the limits have labels, too, which are not drawn: the axis knows which are.
        for axis in (axis for axes in _axes(drawing) if axes.axison for axis in (axes.xaxis, axes.yaxis)):
            box = axis.get_tightbbox()
            if box is not None:
                assert box.x0 >= -9 and box.x1 <= width + 9, (drawing.name, box)
                assert box.y0 >= -9 and box.y1 <= height + 9, (drawing.name, box)
