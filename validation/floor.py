"""The noise floor: the reference against another build of itself, and against the same binary on another computer.

A clip's floor of a figure is the worse of the two. Every figure of a run is shown beside it and as a share of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from math import degrees
from pathlib import Path
from typing import Any

from validation.compare import join
from validation.errors import HarnessError
from validation.figures import DEFINITIONS, Evaluation, Figure, evaluate, worst_index
from validation.files import read_text
from validation.goldens import Golden, Store
from validation.reference import Table
from validation.series import repetition_series


@dataclass(frozen=True)
class Floor:
    """``sources``: the evaluation of each repetition of the reference ("rebuild", "other-cpu"); ``worst`` of them.

    ``series``: by repetition, what the report's figures draw of it.
    """

    sources: dict[str, Evaluation]
    worst: dict[str, Figure]
    series: dict[str, dict[str, Any]] = field(default_factory=dict)
    configuration: str | None = None
    """whose floor it is, where it does not come from two CSVs of the user"""


def floor_of(store: Store, golden: Golden) -> Floor | None:
    """The floor of a golden from the store, its own or that of the configuration it borrows from."""
    source, repetitions = store.floor_source(golden)
    summary = store.configurations[golden.configuration].get("floor_summary")
    if summary and not repetitions:
        return replace(floor_from_summary(store.folder / summary, golden), configuration=golden.configuration)
    found = floor(store.table(source), {name: store.table(other) for name, other in repetitions.items()})
    return None if found is None else replace(found, configuration=source.configuration)


def floor(reference: Table, repetitions: Mapping[str, Table]) -> Floor | None:
    """The floor of one clip, ``None`` if the reference was not repeated."""
    if not repetitions:
        return None
    pairs = {name: join(reference, table) for name, table in repetitions.items()}
    sources = {name: evaluate(pair) for name, pair in pairs.items()}
    worst = {name: worse(name, [e.figures[name] for e in sources.values()]) for name in DEFINITIONS}
    return Floor(sources, worst, {name: repetition_series(pair) for name, pair in pairs.items()})


_ROWS: dict[str, tuple[str, Callable[[float], float]]] = {
    # Of a point that moves, one coordinate does, by the CSV's 0.1 px: a frame's mean distance is the sum of both means.
    "landmarks 2D (px)": ("landmarks.mean_px", lambda mean: 2 * mean),
    "gaze angles (rad)": ("gaze.angle_deg", degrees),
    "pose R (rad)": ("pose.axis_deg", degrees),
    "AU intensity": ("intensity.mae", lambda mean: mean),
    "AU presence": ("presence.agreement", lambda mean: 1 - mean),
}
"""Rows of a summary of two builds: the figure that the row's mean |difference| of a value gives."""


def floor_from_summary(path: Path, golden: Golden) -> Floor:
    """The floor of a golden whose second build left no CSV but a summary; ``HarnessError`` if it lacks the clip."""
    head = f"== {Path(golden.file).name}\n"
    text = read_text(path, "the summary of two builds")
    if head not in text:
        raise HarnessError(f"{path}: no part {head.strip()!r}; it should summarise two builds of every clip")
    part = text.partition(head)[2].partition("\n==")[0]
    counts = re.search(r"(\d+) frames, both successful (\d+), success differs in (\d+)", part)
    if counts is None:
        raise HarnessError(f"{path}: {head.strip()!r} does not say in how many frames success differs")
    frames, successful, differing = map(int, counts.groups())
    figures = {name: Figure(None, 0, "the summary of the two builds does not say") for name in DEFINITIONS}
    figures["tracking.agreement"] = Figure(1 - differing / frames, frames)
    for row, (name, convert) in _ROWS.items():
        found = re.search(rf"^{re.escape(row)}.*?mean\s+([\d.]+)", part, re.MULTILINE)
        if found:
            figures[name] = Figure(convert(float(found[1])), successful)
    return Floor({"rebuild": Evaluation(figures, {})}, figures)


def worse(name: str, figures: list[Figure]) -> Figure:
    """The worst of the repetitions' values of a figure."""
    defined = [figure for figure in figures if figure.value is not None]
    if not defined:
        return figures[0]
    found = defined[worst_index(name, [figure.value for figure in defined if figure.value is not None])]
    return Figure(found.value, found.n)


def share(name: str, figure: Figure, floor_figure: Figure | None) -> Figure:
    """The figure as a share of the floor: value / floor, so 1 is as good as the reference's own repetition.

    For errors below 1 is better, for agreements above 1. Undefined where the floor is 0 or undefined.
    """
    if figure.value is None:
        return figure
    if floor_figure is None or floor_figure.value is None:
        return Figure(None, figure.n, "no noise floor for this figure")
    if floor_figure.value == 0:
        return Figure(None, figure.n, "the noise floor is 0")
    return Figure(figure.value / floor_figure.value, figure.n)
