"""Speed: time per stage beside the C++ program's, rounds of two trees, speed against accuracy of several records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reports import style, view
from reports.figures.base import Drawing, corner, floor_note, legend, line_key, new_figure, patch_key, plain_ticks
from reports.view import NotDrawn, value

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SECTION = "speed"
STAGES = {
    "decode": ("decoding", "#999999"),
    "gray": ("grey picture", "#cfcfcf"),
    "landmarks.detect": ("face detection", "#f0e442"),
    "landmarks.face": ("face landmarks", "#0072b2"),
    "landmarks.parts": ("eyes, inner face", "#56b4e9"),
    "landmarks.validator": ("certainty", "#a9d6f2"),
    "landmarks": ("landmarks, all", "#0072b2"),
    "pose": ("head pose", "#cc79a7"),
    "gaze": ("gaze", "#e69f00"),
    "analysis": ("action units", "#009e73"),
    "record": ("output", "#d55e00"),
}
"""Stages in the order of work, their name and colour; those with a dot are parts of the one before the dot."""
_CPP = {"landmarks": "landmarks", "gaze": "gaze", "analysis": "analysis", "record": "record", "decode": "wait_decode"}
_FAR = 2.5
"""Bars longer than this many times the median frame time are cut, and their length written at the end."""


def latency(record: view.Record) -> list[Drawing]:
    """Work per stage of every clip, stacked, beside the C++ program's; both in units of the calibration workload."""
    clips = [clip for clip in view.measured(record) if clip["speed"]]
    if not clips:
        raise NotDrawn("no clip was timed")
    figure = new_figure(style.DOUBLE, 0.235 * len(clips) + 1.2)
    bars, dots = figure.subplots(1, 2, sharey=True, width_ratios=(2.1, 1))
    totals = sorted(clip["speed"]["work_ms"] for clip in clips)
    limit = max(_FAR * totals[len(totals) // 2], *(_cpp_total(clip) for clip in clips))
    for row, clip in enumerate(clips):
        _bar(bars, row - 0.19, our_stages(clip["speed"]), limit)
        if clip["speed"]["mean_ms"] < limit:
            bars.plot([clip["speed"]["mean_ms"]], [row - 0.19], marker="D", markersize=2.4, color=style.PAPER,
                      markeredgecolor=style.INK, markeredgewidth=0.5, linestyle="none", zorder=4)  # fmt: skip
        reference = cpp_entry(clip)
        if reference:
            _bar(bars, row + 0.19, cpp_stages(reference), limit, hatch="/////")
        _calibrated(dots, row, clip, reference)
    labels = [f"{c['clip']} ({c['speed']['frames']}){'*' if c['speed']['unsteady'] else ''}" for c in clips]
    bars.set_yticks(range(len(clips)), labels)
    bars.set_ylim(len(clips) - 0.5, -0.5)
    bars.set_xlim(0, limit * 1.08)
    bars.set_xlabel("work per frame (ms), as measured")
    dots.set_xscale("log")
    dots.set_xlabel("in units of the calibration workload")
    plain_ticks(dots.xaxis, _ticks(dots.get_xlim()))
    for axes in (bars, dots):
        axes.grid(axis="x", which="major")
        axes.set_axisbelow(True)
    used = {stage for clip in clips for stage in our_stages(clip["speed"])}
    keys: list[tuple[str, Any]] = [(STAGES[s][0], patch_key(STAGES[s][1], 1.0)) for s in STAGES if s in used]
    keys.append(("time between frames (◆)", line_key(style.INK, 0, marker="D", markersize=3, markerfacecolor="white")))
    legend(figure, keys, columns=6)
    threads = sorted({clip["speed"]["threads"] for clip in clips})
    caption = (
        f"n in brackets: frames (the first is left out); upper bar pyfaceau with {' or '.join(map(str, threads))} "
        f"thread(s), lower hatched bar the C++ program on {cpp_mode(threads[0]).replace('_', ' ')} of its own machine "
        f"(golden/speed.json, golden/cpp-stage-times.json; 'landmarks, all': parts of it that were not timed). "
        f"Stages of two threads overlap, so the diamond, the time between finished frames, can be inside the bar. "
        f"Right: both divided by a fixed workload timed on the same machine, which makes them "
        f"comparable; bars there are the C++ program's range over its runs, the noise floor of timing. "
        f"* the workload's own time changed by more than 15 % beside this clip: not a quiet machine."
    )
    return [Drawing("latency", SECTION, "Time per stage, beside the C++ program", caption, figure)]


def _ticks(limits: tuple[float, float]) -> list[float]:
    """Round numbers within the limits, at most about six."""
    every = [digit * 10.0**power for power in range(-6, 5) for digit in (1, 2, 5)]
    inside = [tick for tick in every if limits[0] <= tick <= limits[1]]
    return inside if len(inside) <= 6 else [t for t in inside if f"{t:e}"[0] == "1"]


def our_stages(speed: dict[str, Any]) -> dict[str, float]:
    """Mean ms of work per frame by stage; a stage whose parts were timed is given by its parts and what is left."""
    means = {stage: times["mean"] for stage, times in speed["stages"].items()}
    found = {}
    for stage in STAGES:
        if stage not in means:
            continue
        parts = [means[name] for name in means if name.startswith(f"{stage}.")]
        found[stage] = max(means[stage] - sum(parts), 0.0)
    return {stage: ms for stage, ms in found.items() if ms > 0}


def cpp_mode(threads: int) -> str:
    """Which of the C++ program's recorded modes a run of so many threads is put beside."""
    return "one_core" if threads == 1 else "two_cores"


def cpp_entry(clip: view.Clip) -> dict[str, Any] | None:
    """The C++ program's times of the clip, of the mode that fits the run."""
    reference = clip["speed"]["reference"]
    return reference.get(cpp_mode(clip["speed"]["threads"])) if reference else None


def cpp_stages(reference: dict[str, Any]) -> dict[str, float]:
    """Mean ms per frame by stage, under this program's stage names; landmarks by their parts where those are known."""
    found = {ours: reference["stages_ms"][theirs] for ours, theirs in _CPP.items() if theirs in reference["stages_ms"]}
    parts = {f"landmarks.{part}": ms for part, ms in reference.get("landmarks_ms", {}).items() if ms > 0}
    if parts and "landmarks" in found:
        found["landmarks"] = max(found["landmarks"] - sum(parts.values()), 0.0)
    return {**found, **parts}


def _cpp_total(clip: view.Clip) -> float:
    reference = cpp_entry(clip)
    return sum(cpp_stages(reference).values()) if reference else 0.0


def _bar(axes: Axes, height: float, stages: dict[str, float], limit: float, hatch: str | None = None) -> None:
    left = 0.0
    for stage, (_, colour) in STAGES.items():
        if stage in stages:
            shown = max(min(stages[stage], limit - left), 0.0)
            axes.barh(height, shown, 0.34, left=left, color=colour, linewidth=0.0, label=stage, hatch=hatch,
                      edgecolor=style.PAPER)  # fmt: skip
            left += stages[stage]
    if left > limit:
        axes.text(limit * 1.01, height, f"{left:.0f} ›", va="center", fontsize=5)


def _calibrated(axes: Axes, row: int, clip: view.Clip, reference: dict[str, Any] | None) -> None:
    ours = clip["speed"]["per_calibration"]
    if ours is not None:
        axes.plot([ours], [row - 0.1], marker="o", markersize=3, color=style.OURS, linestyle="none")
    if reference:
        axes.hlines([row + 0.1], *reference["range"], color=style.REFERENCE, linewidth=1)
        axes.plot([reference["per_calibration"]], [row + 0.1], marker="s", markersize=2.6, color=style.REFERENCE,
                  linestyle="none")  # fmt: skip


def rounds(record: view.Record) -> list[Drawing]:
    """Of a speed record: how much slower or faster the tree is than the base, with intervals and the budget."""
    comparisons = record.get("speed", {}).get("comparisons") or {}
    if not comparisons:
        raise NotDrawn("this record does not compare two trees; `python -m validation speed --base REVISION` does")
    names = list(comparisons)
    figure = new_figure(style.DOUBLE, 0.2 * len(names) + 0.9)
    axes = figure.subplots()
    for row, name in enumerate(names):
        found = comparisons[name]
        colour = style.REFERENCE if found["slower"] else style.OURS
        axes.hlines([row], found["low"], found["high"], color=colour, linewidth=1)
        axes.plot([found["ratio"]], [row], marker="o", markersize=3.5, color=colour, linestyle="none")
        axes.plot([1 + found["budget"]], [row], marker="|", markersize=7, color=style.INK, linestyle="none")
    axes.axvline(1, color=style.MUTED, linewidth=0.6)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlabel("time of the working tree / time of the base")
    n = sorted({found["rounds"] for found in comparisons.values()})
    caption = (
        f"n = {' or '.join(map(str, n))} rounds of each tree, taken in turns. Ratio of medians with its 99 % interval "
        f"(the spread of the rounds is the noise floor); the tick is the budget. Vermilion: slower beyond both."
    )
    return [Drawing("rounds", SECTION, "Working tree against base", caption, figure)]


def against_accuracy(records: list[view.Record]) -> list[Drawing]:
    """Time per frame against intensity and landmark accuracy of every clip, for all records, and the C++ program."""
    groups = [(record, [c for c in view.measured(record) if _time(c) is not None]) for record in records]
    groups = [(record, clips) for record, clips in groups if clips]
    if not groups:
        raise NotDrawn("no record holds times in units of the calibration workload")
    figure = new_figure(style.DOUBLE, 2.7)
    panels = figure.subplots(1, 2)
    keys: list[tuple[str, Any]] = []
    texts = ("mean landmark error (px)", "1 − CCC of AU intensity")
    for axes, name, label in zip(panels, ("landmarks.mean_px", "intensity.ccc"), texts, strict=True):
        clips = list({(c["clip"], _pair(c)): c for _, clips in groups for c in clips}.values())
        points = [(*xy, 0) for c in clips if (xy := _pair(c, name))]
        axes.scatter([p[0] for p in points], [p[1] for p in points], s=11, marker="s", color=style.REFERENCE,
                     alpha=0.6, linewidths=0)  # fmt: skip
        for i, (record, clips) in enumerate(groups):
            ours = [(_time(c), _error(name, value(c["figures"], name))) for c in clips]
            ours = [point for point in ours if None not in point]
            colour = _record_colour(i)
            axes.scatter([p[0] for p in ours], [p[1] for p in ours], s=9, color=colour, alpha=0.6, linewidths=0)
            total = record["totals"]
            centre = total.get("speed.per_calibration", {}).get("median"), total.get(name, {}).get("median")
            if None not in centre:
                axes.scatter([centre[0]], [_error(name, centre[1])], s=55, color=colour, edgecolors=style.INK,
                             linewidths=0.7, zorder=4, marker="o")  # fmt: skip
        axes.set(xscale="log", yscale="log", xlabel="ms per frame / ms of the calibration workload", ylabel=label)
        plain_ticks(axes.xaxis, _ticks(axes.get_xlim()))
        plain_ticks(axes.yaxis, _ticks(axes.get_ylim()))
        axes.grid(which="major")
        axes.set_axisbelow(True)
    for i, (record, clips) in enumerate(groups):
        label = f"pyfaceau {view.title(record)}, {clips[0]['speed']['threads']} threads (n = {len(clips)} clips)"
        keys.append((label, line_key(_record_colour(i), 0, marker="o", markersize=4)))
    keys.append(("C++ OpenFace 2.2 at its noise floor", line_key(style.REFERENCE, 0, marker="s", markersize=4)))
    legend(figure, keys, columns=3)
    corner(panels[0], "faster and closer: down, left", x=0.03, y=0.05, color=style.MUTED)
    every = [clip for _, clips in groups for clip in clips]
    caption = (
        f"n = {len(every)} clips of {len(groups)} record(s); small dots are clips, the large one their median as "
        f"recorded. {floor_note(every, 'Squares: the C++ program, its time over its noise floor ({}).')} Values of 0 "
        f"have no place on the logarithmic axis."
    )
    return [Drawing("speed-accuracy", SECTION, "Speed against accuracy", caption, figure)]


def _record_colour(i: int) -> str:
    free = [colour for colour in style.OKABE_ITO if colour != style.REFERENCE]
    return free[i % len(free)]


def _time(clip: view.Clip) -> float | None:
    return clip["speed"]["per_calibration"] if clip["speed"] else None


def _pair(clip: view.Clip, name: str = "landmarks.mean_px") -> tuple[float, float] | None:
    """The C++ program's time and floor of the clip."""
    reference = cpp_entry(clip)
    error = _error(name, view.floor_value(clip, name))
    return (reference["per_calibration"], error) if reference and error is not None else None


def _error(name: str, amount: float | None) -> float | None:
    """An agreement as its distance from 1, so that down is better in both panels."""
    if amount is None:
        return None
    return 1 - amount if name == "intensity.ccc" else amount
