"""The noise floor: the reference against another build of itself, and against the same binary on another computer.

A clip's floor of a figure is the worse of the two. Every figure of a run is shown beside it and as a share of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from validation.compare import join
from validation.figures import DEFINITIONS, Evaluation, Figure, evaluate, worst_index
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
