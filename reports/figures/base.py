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
    """A finished figure. ``name``: of its files; ``section``: the tab it belongs to; ``caption`` says n and units."""

    name: str
    section: str
    title: str
    caption: str
    figure: Figure


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


def corner(axes: Axes, text: str, x: float = 0.03, y: float = 0.97, **options: Any) -> None:
    """A note inside the panel, readable over data."""
    from matplotlib.patheffects import withStroke

    settings: dict[str, Any] = {"fontsize": 5.5, "color": style.INK, "va": "top", "ha": "left", "zorder": 9}
    axes.text(
        x, y, text, transform=axes.transAxes, linespacing=1.25,
        path_effects=[withStroke(linewidth=1.5, foreground=style.PAPER)], **{**settings, **options},
    )  # fmt: skip


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
    return " and ".join(view.source_name(source) for source in sources) or "none recorded"
