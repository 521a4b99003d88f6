"""AU presence: agreement of every AU in every clip, and of the reference with itself."""

from __future__ import annotations

from reports import style, view
from reports.figures.base import Drawing, floor_names, floor_note, new_figure
from reports.view import NotDrawn, action_unit, floor_au, value

SECTION = "units"
LEAST = 90.0
"""Where the colours begin, per cent: the project's promise; lower values are drawn in the first colour."""


def matrix(record: view.Record) -> list[Drawing]:
    """Two matrices of clips by AUs, one scale: this run, and the worse of the reference's repetitions."""
    names = view.units(record, "_c")
    clips = [clip for clip in view.measured(record) if any(_cells(clip, names))]
    if not clips or not names:
        raise NotDrawn("no clip has AU presence of both programs")
    ours = [_cells(clip, names) for clip in clips]
    floors = [_floor_cells(clip, names) for clip in clips]
    figure = new_figure(style.DOUBLE, 0.155 * len(clips) + 1.25)
    sides = [ours, floors] if any(view.floor_sources(clip) for clip in clips) else [ours]
    panels = figure.subplots(1, len(sides), sharey=True, squeeze=False)[0]
    titles = ("pyfaceau against C++ OpenFace 2.2", f"noise floor: {floor_names(clips)}")
    for axes, rows, label in zip(panels, sides, titles, strict=False):
        image = axes.imshow(
            [[float("nan") if v is None else v for v in row] for row in rows],
            vmin=LEAST, vmax=100, aspect="auto", interpolation="nearest", cmap="Blues_r",
        )  # fmt: skip
        axes.set_title(label, loc="left", fontsize=6.5, pad=3)
        axes.set_xticks(range(len(names)), [action_unit(au)[2:] for au in names])
        axes.set_xlabel("action unit")
        axes.tick_params(length=0)
        axes.spines[:].set_visible(True)
    worse = [
        (column, row)
        for row, (mine, floor) in enumerate(zip(ours, floors, strict=True))
        for column, (a, b) in enumerate(zip(mine, floor, strict=True))
        if a is not None and b is not None and a < b - 2
    ]
    panels[0].scatter([x for x, _ in worse], [y for _, y in worse], s=5, color="#e69f00", edgecolors="black",
                      linewidths=0.3)  # fmt: skip
    panels[0].set_yticks(range(len(clips)), [f"{c['clip']} ({_n(c)})" for c in clips])
    bar = figure.colorbar(image, ax=list(panels), orientation="horizontal", shrink=0.4, aspect=40, extend="min")
    bar.set_label("frames on which both say the same (%)")
    bar.outline.set_visible(False)
    caption = (
        f"n in brackets: frames with a face in both programs; {len(clips)} clips, {len(names)} AUs. Empty: not "
        f"defined. "
        + floor_note(
            clips, "Noise floor, right: the worse of {}; a dot marks cells more than 2 percentage points below."
        )
    )
    return [Drawing("presence", SECTION, "AU presence agreement", caption, figure)]


def _cells(clip: view.Clip, names: list[str]) -> list[float | None]:
    return [_percent(value(clip["per_au"].get(au), "agreement")) for au in names]


def _floor_cells(clip: view.Clip, names: list[str]) -> list[float | None]:
    """The worse of the repetitions, as for every floor."""
    cells = []
    for au in names:
        known = [floor_au(clip, source, au, "agreement") for source in view.floor_sources(clip)]
        cells.append(_percent(min((v for v in known if v is not None), default=None)))
    return cells


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _n(clip: view.Clip) -> int:
    return len(clip["series"]["frame"]) if clip["series"] else 0
