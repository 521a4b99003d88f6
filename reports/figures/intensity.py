"""AU intensity: traces of both programs, scatter with identity line, Bland-Altman grid, biases of all clips."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reports import style, view
from reports.figures import base
from reports.figures.base import Drawing, corner, floor_note, gaps, grid, legend, line_key, patch_key, points
from reports.view import NotDrawn, action_unit, floor_au, significant, value

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SECTION = "units"


def traces(record: view.Record) -> list[Drawing]:
    """Per shown clip, every AU over time, both programs."""
    clips = [clip for clip in view.shown_clips(record) if clip["series"].get("intensity")]
    if not clips:
        raise NotDrawn("no clip has AU intensities of both programs")
    return [_traces(clip) for clip in clips]


def _traces(clip: view.Clip) -> Drawing:
    series = clip["series"]
    names = list(series["intensity"])
    figure, panels = grid(len(names), 3, 0.88)
    for axes, au in zip(panels, names, strict=True):
        both = series["intensity"][au]
        _floor_band(axes, clip, au)
        for side, colour, width in (("reference", style.REFERENCE, 1.5), ("other", style.OURS, 0.6)):
            axes.plot(*gaps(series["frame"], both[side]), color=colour, linewidth=width, label=side)
        axes.set_title(_traces_title(clip, au), loc="left", fontsize=6.5, pad=2)
        top = max(*both["reference"], *both["other"], 1.0)
        axes.set_ylim(-0.05 * top, 1.08 * top)
        axes.margins(x=0.01)
    figure.supxlabel("frame", fontsize=7)
    figure.supylabel("AU intensity (0 to 5)", fontsize=7)
    keys = [("C++ OpenFace 2.2", line_key(style.REFERENCE, 1.6)), ("pyfaceau", line_key(style.OURS, 0.8))]
    if view.floor_sources(clip):
        keys.append(("reference ± its own limits of agreement", patch_key(style.FLOOR)))
    legend(figure, keys)
    n = len(series["frame"])
    return Drawing(
        f"traces-{clip['clip']}",
        SECTION,
        f"AU intensity over time: {clip['clip']}",
        f"n = {n} frames with a face in both programs, {len(names)} AUs. Scales differ between panels; gaps are frames "
        f"without a face. CCC of this run. "
        + floor_note(
            [clip],
            "Noise floor (grey): the reference shifted by its 95 % limits of agreement with {}; in "
            "brackets the lowest CCC of the reference against itself.",
        ),
        figure,
    )


def _floor_band(axes: Axes, clip: view.Clip, au: str) -> None:
    """The reference's trace, as wide as the reference disagrees with itself."""
    lows = [floor_au(clip, source, au, "limit_low") for source in view.floor_sources(clip)]
    highs = [floor_au(clip, source, au, "limit_high") for source in view.floor_sources(clip)]
    low, high = [v for v in lows if v is not None], [v for v in highs if v is not None]
    if low and high:
        frames, reference = gaps(clip["series"]["frame"], clip["series"]["intensity"][au]["reference"])
        bottom, top = [v + min(low) for v in reference], [v + max(high) for v in reference]
        axes.fill_between(frames, bottom, top, color=style.FLOOR, alpha=0.35, linewidth=0)


def _traces_title(clip: view.Clip, au: str) -> str:
    ccc = value(clip["per_au"][au], "ccc")
    floors = [floor_au(clip, source, au, "ccc") for source in view.floor_sources(clip)]
    known = [v for v in floors if v is not None]
    beside = f" ({min(known):.3f})" if known else ""
    return f"{action_unit(au)}   CCC {'–' if ccc is None else f'{ccc:.3f}'}{beside}"


def scatter(record: view.Record) -> list[Drawing]:
    """Every frame of every clip: this run over the reference, one panel an AU."""
    clips = view.with_series(record, "intensity")
    names = [au for au in view.units(record, "_r") if any(au in clip["series"]["intensity"] for clip in clips)]
    if not names:
        raise NotDrawn("no clip has AU intensities of both programs")
    figure, panels = grid(len(names), 5, 1.42)
    for axes, au in zip(panels, names, strict=True):
        here = [clip["series"]["intensity"][au] for clip in clips if au in clip["series"]["intensity"]]
        reference = [v for both in here for v in both["reference"]]
        other = [v for both in here for v in both["other"]]
        top = max(*reference, *other, 0.5) * 1.05
        axes.plot([0, top], [0, top], color=style.MUTED, linewidth=0.6, zorder=1)
        points(axes, reference, other, alpha=0.25)
        axes.set(xlim=(-0.03 * top, top), ylim=(-0.03 * top, top), aspect="equal")
        axes.set_title(action_unit(au), loc="left", fontsize=6.5, pad=2)
        corner(axes, f"n = {len(reference)}\n{_ccc_range(clips, au)}")
    figure.supxlabel("C++ OpenFace 2.2, AU intensity (0 to 5)", fontsize=7)
    figure.supylabel("pyfaceau, AU intensity (0 to 5)", fontsize=7)
    caption = (
        f"n = {view.frames(clips)} frames of {len(clips)} clips; the line is identity. Lowest and highest CCC over the "
        f"clips in which the AU varies. " + floor_note(clips, "Noise floor: the same of the reference against {}.")
    )
    return [Drawing("scatter", SECTION, "AU intensity, frame by frame", caption, figure)]


def _ccc_range(clips: list[view.Clip], au: str) -> str:
    varying = [clip for clip in clips if value(clip["per_au"].get(au), "varies")]
    ours = [value(clip["per_au"][au], "ccc") for clip in varying]
    floors = [floor_au(clip, source, au, "ccc") for clip in varying for source in view.floor_sources(clip)]
    lines = []
    for label, values in (("CCC", ours), ("floor", floors)):
        known = [v for v in values if v is not None]
        if known:
            lines.append(f"{label} {min(known):.3f} to {max(known):.3f}".replace("-", "−"))
    return "\n".join(lines)


def bland_altman(record: view.Record) -> list[Drawing]:
    """Per shown clip, difference over mean of the two programs, with the recorded bias and limits."""
    clips = [clip for clip in view.shown_clips(record) if clip["series"].get("intensity")]
    if not clips:
        raise NotDrawn("no clip has AU intensities of both programs")
    return [_bland_altman(clip) for clip in clips]


def _bland_altman(clip: view.Clip) -> Drawing:
    names = list(clip["series"]["intensity"])
    figure, panels = grid(len(names), 5, 1.15)
    for axes, au in zip(panels, names, strict=True):
        both = clip["series"]["intensity"][au]
        pairs = list(zip(both["reference"], both["other"], strict=True))
        means, differences = [(a + b) / 2 for a, b in pairs], [b - a for a, b in pairs]
        for source in view.floor_sources(clip):
            low, high = (floor_au(clip, source, au, f"limit_{end}") for end in ("low", "high"))
            if low is not None and high is not None:
                axes.axhspan(low, high, color=style.FLOOR, alpha=0.25, linewidth=0, zorder=0)
        points(axes, means, differences)
        for metric, dash in (("bias", "-"), ("limit_low", "--"), ("limit_high", "--")):
            level = value(clip["per_au"][au], metric)
            if level is not None:
                axes.axhline(level, color=style.INK, linewidth=0.7, linestyle=dash, zorder=3, label=metric)
        reach = max(*(abs(d) for d in differences), 0.05) * 1.1
        axes.set_ylim(-reach, reach * 1.45)
        axes.set_title(action_unit(au), loc="left", fontsize=6.5, pad=2)
        bias = value(clip["per_au"][au], "bias")
        corner(axes, f"n = {len(pairs)}, bias {'–' if bias is None else significant(bias, 2)}")
    figure.supxlabel("mean of both programs, AU intensity (0 to 5)", fontsize=7)
    figure.supylabel("pyfaceau − C++ OpenFace 2.2, AU intensity", fontsize=7)
    legend(figure, [
        ("a frame", line_key(style.OURS, 0, marker="o", markersize=2.5)),
        ("bias", line_key(style.INK, 0.8)),
        ("95 % limits of agreement", line_key(style.INK, 0.8, linestyle="--")),
        ("limits of the reference against itself", patch_key(style.FLOOR)),
    ])  # fmt: skip
    return Drawing(
        f"bland-altman-{clip['clip']}",
        SECTION,
        f"Bland–Altman: {clip['clip']}",
        f"n = {len(clip['series']['frame'])} frames. Each panel has its own scale. Stripes come "
        f"from the two decimals of the CSV. "
        + floor_note([clip], "Noise floor (grey): limits of agreement of the reference with {}."),
        figure,
    )


def biases(record: view.Record) -> list[Drawing]:
    """Bias and limits of agreement of every AU in every clip, this run above and the floor below."""
    clips = [clip for clip in view.measured(record) if any(au.endswith("_r") for au in clip["per_au"])]
    clips = [clip for clip in clips if any(value(clip["per_au"][au], "bias") is not None for au in clip["per_au"])]
    names = view.units(record, "_r")
    if not clips or not names:
        raise NotDrawn("no clip has AU intensities of both programs")
    figure = base.new_figure(style.DOUBLE, 0.36 * len(names) + 0.8)
    axes = figure.subplots()
    for row, au in enumerate(names):
        ours = [_limits(clip["per_au"].get(au)) for clip in clips]
        floors = [
            _limits((clip["floor"] or {}).get("per_au", {}).get(source, {}).get(au))
            for clip in clips for source in view.floor_sources(clip)
        ]  # fmt: skip
        for limits, colour, centre in ((ours, style.OURS, row - 0.2), (floors, style.FLOOR, row + 0.2)):
            _bars(axes, [entry for entry in limits if entry], colour, centre)
        axes.axhline(row + 0.5, color=style.GRID, linewidth=0.4)
    axes.axvline(0, color=style.INK, linewidth=0.6)
    axes.set_yticks(range(len(names)), [action_unit(au) for au in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xscale("symlog", linthresh=0.1, linscale=1.5)
    ticks = [-1, -0.3, -0.1, -0.05, 0, 0.05, 0.1, 0.3, 1]
    axes.set_xticks(ticks, [f"{t:g}".replace("-", "−") for t in ticks])
    axes.set_xlabel("difference of AU intensity (pyfaceau − C++ OpenFace 2.2); linear within ±0.1, logarithmic beyond")
    legend(figure, [
        ("pyfaceau: bias and 95 % limits of one clip", line_key(style.OURS, 1, marker="o", markersize=3)),
        ("reference against itself", line_key(style.FLOOR, 1, marker="o", markersize=3)),
    ])  # fmt: skip
    caption = (
        f"n = {len(clips)} clips, {view.frames(c for c in clips if c['series'])} frames. A dot is the bias of a clip, "
        f"its bar the 95 % limits of agreement. " + floor_note(clips, "Noise floor (grey): the reference against {}.")
    )
    return [Drawing("biases", SECTION, "Bias of every AU in every clip", caption, figure)]


def _limits(metrics: dict | None) -> tuple[float, float, float] | None:
    bias, low, high = (value(metrics, name) for name in ("bias", "limit_low", "limit_high"))
    return None if bias is None or low is None or high is None else (bias, low, high)


def _bars(axes: Axes, limits: list[tuple[float, float, float]], colour: str, centre: float) -> None:
    """Clips side by side within their half of the row, narrowest first."""
    limits = sorted(limits, key=lambda entry: entry[2] - entry[1])
    step = 0.32 / max(len(limits), 1)
    heights = [centre - 0.16 + step * (i + 0.5) for i in range(len(limits))]
    nan = float("nan")
    xs = [x for _, low, high in limits for x in (low, high, nan)]
    axes.plot(xs, [y for height in heights for y in (height, height, nan)], color=colour, linewidth=0.4, alpha=0.6)
    axes.plot([e[0] for e in limits], heights, marker="o", markersize=1.9, markeredgewidth=0.25, color=colour,
              markeredgecolor=style.PAPER, linestyle="none", zorder=3)  # fmt: skip
