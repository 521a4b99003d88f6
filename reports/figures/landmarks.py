"""Landmarks: cumulative error distribution, error of each landmark on the mean face, and in every clip."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reports import style, view
from reports.figures.base import Drawing, corner, floor_names, floor_note, legend, line_key, new_figure, plain_ticks
from reports.view import NotDrawn, floor_series, source_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SECTION = "landmarks"
REGIONS = {"jaw": (0, 17), "brows": (17, 27), "nose": (27, 36), "eyes": (36, 48), "mouth": (48, 68)}
"""Landmark numbers of the 68-point scheme, from, to (not included)."""
CONTOURS = (
    (*range(17),), (*range(17, 22),), (*range(22, 27),), (*range(27, 31),), (*range(31, 36),),
    (*range(36, 42), 36), (*range(42, 48), 42), (*range(48, 60), 48), (*range(60, 68), 60),
)  # fmt: skip
"""Lines that make a face of the 68 points."""
SCALE = (0.005, 5.0)
"""Ends of the colour scale of landmark errors, px."""


def ced(record: view.Record) -> list[Drawing]:
    """Share of frames with an NME up to a threshold: as usual (linear), and where these errors lie (logarithmic)."""
    clips = view.with_series(record, "nme")
    if not clips:
        raise NotDrawn("no clip has normalised landmark errors")
    figure = new_figure(style.DOUBLE, 2.5)
    usual, fine = figure.subplots(1, 2, sharey=True)
    for clip in clips:
        for recorded in floor_series(clip, "ced").values():
            _ced_line(usual, recorded, style.FLOOR)
        for values in floor_series(clip, "nme").values():
            _steps(fine, values, style.FLOOR)
    for clip in clips:
        _ced_line(usual, clip["series"]["ced"], style.OURS)
        _steps(fine, clip["series"]["nme"], style.OURS)
    for axes in (usual, fine):
        for threshold in (2.0, 8.0):
            axes.axvline(threshold, color=style.MUTED, linewidth=0.5, linestyle=":")
        axes.grid(axis="y")
        axes.set_axisbelow(True)
        axes.set_xlabel("NME: landmark error / outer eye corner distance (%)")
    usual.set(xlim=(0, 8.05), ylim=(0, 101), ylabel="frames (%)")
    fine.set(xscale="log", xlim=(0.003, 20))
    plain_ticks(fine.xaxis, (0.01, 0.1, 1, 10))
    corner(fine, f"n = {view.frames(clips)} frames\n{len(clips)} clips", x=0.62, y=0.3)
    legend(figure, [
        ("pyfaceau against C++ OpenFace 2.2, one clip", line_key(style.OURS)),
        (f"noise floor: {floor_names(clips)}", line_key(style.FLOOR)),
    ])  # fmt: skip
    caption = (
        f"One line a clip, n = {view.frames(clips)} frames of {len(clips)} clips. Left: the usual axis, thresholds "
        f"recorded in steps of 0.1 %; right: the same frames on a logarithmic axis. Dotted: the failure thresholds of "
        f"2 and 8 %. " + floor_note(clips, "Noise floor (grey): the reference against {}.")
    )
    return [Drawing("ced", SECTION, "Cumulative error distribution", caption, figure)]


def _ced_line(axes: Axes, recorded: dict[str, list[float]], colour: str) -> None:
    percent = [[100 * v for v in recorded[name]] for name in ("threshold", "share")]
    axes.plot(*percent, color=colour, linewidth=0.7, alpha=0.75)


def _steps(axes: Axes, values: list[float], colour: str) -> None:
    ordered = sorted(100 * v for v in values)
    heights = [100 * (i + 1) / len(ordered) for i in range(len(ordered))]
    axes.plot(ordered, heights, color=colour, linewidth=0.7, alpha=0.75, drawstyle="steps-post")


def mean_face(record: view.Record) -> list[Drawing]:
    """The error of each landmark on the mean face of the shown clips, beside the reference's repetitions."""
    clips = [clip for clip in view.shown_clips(record) if clip["series"].get("mean_face")]
    if not clips:
        raise NotDrawn("no clip has landmarks of both programs")
    sources = list(dict.fromkeys(source for clip in clips for source in floor_series(clip, "point_px")))
    figure = new_figure(style.DOUBLE, 1.95 * len(clips) + 0.5)
    panels = figure.subplots(len(clips), 1 + len(sources), squeeze=False)
    for row, clip in zip(panels, clips, strict=True):
        repeated = floor_series(clip, "point_px")
        columns = [("pyfaceau", clip["series"]["point_px"])]
        columns += [(f"floor: {source_name(source)}", repeated.get(source)) for source in sources]
        for axes, (label, errors) in zip(row, columns, strict=True):
            shown = _face(axes, clip["series"]["mean_face"], errors)
            axes.set_title(f"{label}\n{clip['clip']}, n = {len(clip['series']['frame'])}", loc="left", fontsize=6)
    _colour_bar(figure, shown, panels)
    caption = (
        "n: frames with a face in both programs; per landmark the mean over the frames. Mean face of the reference's "
        "shapes. The CSV's 0.1 px steps alone make two programs differ by up to 0.04 px. "
        + floor_note(clips, "Noise floor beside each: the reference against {}.")
    )
    return [Drawing("mean-face", SECTION, "Error of each landmark on the mean face", caption, figure)]


def _face(axes: Axes, face: list[list[float]], errors: list[float] | None) -> Any:
    from matplotlib.colors import LogNorm

    for contour in CONTOURS:
        axes.plot([face[i][0] for i in contour], [face[i][1] for i in contour], color=style.GRID, linewidth=1, zorder=1)
    axes.set_aspect("equal")
    axes.invert_yaxis()
    axes.set_axis_off()
    axes.margins(0.06)
    if errors is None:
        return None
    shown = [max(error, SCALE[0]) for error in errors]
    return axes.scatter(
        [x for x, _ in face], [y for _, y in face], c=shown, s=15, norm=LogNorm(*SCALE), linewidths=0.3,
        edgecolors=style.MUTED, zorder=2,
    )  # fmt: skip


def every_landmark(record: view.Record) -> list[Drawing]:
    """Error of the 68 landmarks in every clip, beside the worse of the reference's repetitions."""
    from matplotlib.colors import LogNorm

    clips = view.with_series(record, "point_px")
    if not clips:
        raise NotDrawn("no clip has landmarks of both programs")
    floors = [_worse(list(floor_series(clip, "point_px").values())) for clip in clips]
    figure = new_figure(style.DOUBLE, 0.155 * len(clips) + 1.25)
    sides = [[clip["series"]["point_px"] for clip in clips]]
    if any(floor_series(clip, "point_px") for clip in clips):
        sides.append(floors)
    panels = figure.subplots(1, len(sides), sharey=True, squeeze=False)[0]
    titles = ("pyfaceau against C++ OpenFace 2.2", f"noise floor: {floor_names(clips)}")
    for axes, rows, label in zip(panels, sides, titles, strict=False):
        # 0 px (both CSVs agree in every digit) has no place on a logarithmic scale: drawn in the first colour.
        shown = axes.imshow(
            [[max(v, SCALE[0]) for v in row] for row in rows], norm=LogNorm(*SCALE), aspect="auto",
            interpolation="nearest",
        )  # fmt: skip
        axes.set_title(label, loc="left", fontsize=6.5, pad=3)
        axes.set_xticks([(a + b - 1) / 2 for a, b in REGIONS.values()], list(REGIONS))
        for _, end in list(REGIONS.values())[:-1]:
            axes.axvline(end - 0.5, color="white", linewidth=0.6)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_xlabel("landmark 0 to 67")
    panels[0].set_yticks(range(len(clips)), [f"{c['clip']} ({len(c['series']['frame'])})" for c in clips])
    _colour_bar(figure, shown, panels)
    caption = (
        f"n in brackets: frames; {len(clips)} clips, {view.frames(clips)} frames. Logarithmic scale; "
        f"errors below {SCALE[0]:g} px in the first colour. "
        + floor_note(clips, "Noise floor: the worse of {}, landmark by landmark.")
    )
    return [Drawing("landmarks", SECTION, "Error of each landmark in every clip", caption, figure)]


def _worse(repetitions: list[list[float]]) -> list[float]:
    return [max(values) for values in zip(*repetitions, strict=True)] or [float("nan")] * 68


def _colour_bar(figure: Any, shown: Any, panels: Any) -> None:
    if shown is None:
        return
    bar = figure.colorbar(shown, ax=panels, orientation="horizontal", shrink=0.4, aspect=40, extend="both")
    bar.set_ticks([0.01, 0.1, 1], labels=["0.01", "0.1", "1"])
    bar.set_label("landmark error (px)")
    bar.outline.set_visible(False)
