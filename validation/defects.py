"""Known defects of known size, injected into a recorded run to see what the gates can see.

A defect takes the run's table and gives a changed one. Those of the analysis stage (HOG bins, medians, weights) cannot
be made from a CSV: they replay the stage from recorded descriptors, see ``validation.replay``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from validation.reference import Table

Inject = Callable[[Table, float], Table]


@dataclass(frozen=True)
class Defect:
    """A kind of defect; ``sizes`` from small to large, ``matters``: the size that must be caught, ``None`` if none is.

    ``inject``: for defects that a table alone can show, otherwise ``None`` (replayed).
    """

    name: str
    unit: str
    sizes: tuple[float, ...]
    matters: float | None
    inject: Inject | None


def changed(table: Table, columns: list[str], change: Callable[[np.ndarray], np.ndarray]) -> Table:
    """The table with ``change`` applied to these columns, f64 (rows, columns), on rows with a face."""
    values = table.values.copy()
    at = np.array([table.columns.index(name) for name in columns], np.int64)
    rows = np.flatnonzero(table.success)
    values[np.ix_(rows, at)] = change(values[np.ix_(rows, at)])
    return replace(table, values=values)


def offset(table: Table, pixels: float) -> Table:
    """Every landmark lies this much too far to the right."""
    return changed(table, table.names(r"x_\d+"), lambda x: x + pixels)


def bias(table: Table, amount: float) -> Table:
    """Every AU intensity is too high by this amount, within 0 to 5."""
    return changed(table, table.names(r"AU\d+_r"), lambda x: np.clip(x + amount, 0.0, 5.0))


def delay(table: Table, frames: float) -> Table:
    """Every row holds the values of this many rows before; the first ones are repeated."""
    source = np.maximum(np.arange(len(table.values)) - int(frames), 0)
    values = table.values[source].copy()
    for name in ("frame", "face_id", "timestamp"):
        if table.has(name):
            values[:, table.columns.index(name)] = table.column(name)
    return replace(table, values=values)


DEFECTS = (
    Defect("landmark offset", "px", (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0), 0.5, offset),
    Defect("AU bias", "AU", (0.005, 0.01, 0.02, 0.05, 0.1, 0.2), 0.1, bias),
    Defect("delay", "frames", (1, 2, 3, 5), 1, delay),
    Defect("swapped HOG bins", "of 144 cells", (1, 4, 16, 36, 72, 144), 144, None),
    Defect("stale median", "updates missed of 100", (50, 75, 90, 95, 99, 100), 100, None),
    Defect("wrong SVR weight sign", "weights of one AU", (1, 3, 10, 30, 100, 300), 100, None),
)
