"""What a figure of the report is, and the small parts that all of them are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reports import style, view

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Drawing:
    """A finished figure. ``name``: of its files; ``section``: the tab it belongs to; ``caption`` says n and units.

    Its parts are laid out once, here: every format is then drawn from the same places.
    """

    name: str
    section: str
    title: str
    caption: str
    figure: Figure

    def __post_init__(self) -> None:
        # The room that labels take beside a colour bar is only known once it has been placed.
        self.figure.draw_without_rendering()
        self.figure.draw_without_rendering()
        self.figure.set_layout_engine("none")


@dataclass(frozen=True)
class Spec:
    """A figure of a record: ``draw(record)`` gives drawings, or raises ``NotDrawn`` with the reason."""

    name: str
    section: str
    title: str
    draw: Callable[[view.Record], list[Drawing]]


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, inches, whose parts keep clear of each other."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def grid(count: int, columns: int, panel_height: float, width: float = style.DOUBLE) -> tuple[Figure, list[Axes]]:
    """A figure of ``count`` panels in rows of ``columns``; places without a panel stay empty."""
    columns = min(columns, count)
    rows = -(-count // columns)
    figure = new_figure(width, rows * panel_height + 0.45)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for spare in axes[count:]:
        spare.set_axis_off()
    return figure, list(axes[:count])


NONE = "none recorded"
"""Instead of the names of the repetitions."""
MANY = 60
"""Points of one panel from which on a picture is smaller, and quicker to show, than so many shapes."""


def points(axes: Axes, xs: Sequence[float], ys: Sequence[float], **options: Any) -> Any:
    """Frames as small translucent dots."""
    settings: dict[str, Any] = {"s": 2.5, "color": style.OURS, "alpha": 0.35, "linewidths": 0, "zorder": 2}
    return axes.scatter(xs, ys, rasterized=len(xs) > MANY, **{**settings, **options})


def plain_ticks(axis: Any, ticks: Sequence[float]) -> None:
    """These ticks of a logarithmic axis as plain numbers."""
    from matplotlib.ticker import NullLocator

    axis.set_ticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    axis.set_minor_locator(NullLocator())


def corner(axes: Axes, text: str, x: float = 0.03, y: float = 0.97, **options: Any) -> None:
    """A note inside the panel, readable over data."""
    settings: dict[str, Any] = {"fontsize": 5.5, "color": style.INK, "va": "top", "ha": "left", "zorder": 9}
    # A halo would be prettier, but SVG then holds the outlines of all letters, and no text.
    box = {"facecolor": style.PAPER, "alpha": 0.75, "linewidth": 0, "pad": 0.8}
    axes.text(x, y, text, transform=axes.transAxes, linespacing=1.25, bbox=box, **{**settings, **options})


def legend(figure: Figure, entries: Sequence[tuple[str, Any]], columns: int = 4) -> None:
    """One legend for all panels, above them."""
    figure.legend([handle for _, handle in entries], [label for label, _ in entries], loc="outside upper left",
                  ncols=columns)  # fmt: skip


def line_key(colour: str, width: float = 1.2, **options: Any) -> Any:
    """A legend's sample of a line."""
    from matplotlib.lines import Line2D

    return Line2D([], [], color=colour, linewidth=width, **options)


def patch_key(colour: str, alpha: float = 0.35) -> Any:
    """A legend's sample of an area."""
    from matplotlib.patches import Patch

    return Patch(facecolor=colour, alpha=alpha, linewidth=0)


def gaps(frames: Sequence[int], values: Sequence[float]) -> tuple[list[float], list[float]]:
    """Frames and values with a ``nan`` wherever frames are missing, so that no line is drawn over a gap."""
    xs: list[float] = []
    ys: list[float] = []
    for i, (frame, value) in enumerate(zip(frames, values, strict=True)):
        if i and frame != frames[i - 1] + 1:
            xs.append(float("nan"))
            ys.append(float("nan"))
        xs.append(frame)
        ys.append(value)
    return xs, ys


def floor_names(clips: Sequence[view.Clip]) -> str:
    """The repetitions that the floor of these clips is made of, in words; what to say where there are none."""
    sources = dict.fromkeys(source for clip in clips for source in view.floor_sources(clip))
    return " and ".join(view.source_name(source) for source in sources) or NONE


def floor_note(clips: Sequence[view.Clip], text: str) -> str:
    """What a caption says of the floor: ``text`` with the repetitions in place of ``{}``, or that there is none."""
    named = floor_names(clips)
    return "No noise floor was recorded." if named == NONE else text.format(named)
