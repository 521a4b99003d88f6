"""Joins a CSV with its reference by frame number and face. Nothing is dropped silently: every kind is counted."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from validation.errors import HarnessError
from validation.metrics.landmarks import POINTS
from validation.reference import Table


@dataclass(frozen=True)
class Counts:
    """Rows (a face in a frame) of the two files by kind."""

    reference: int
    other: int
    common: int
    missing: int
    """in the reference only"""
    extra: int
    """in the other only"""
    both_succeed: int
    lost_only_in_other: int
    lost_only_in_reference: int
    both_fail: int
    excluded: int
    """both succeed, but a value of one of them is not a finite number"""
    truncated_lines: int
    faces: int
    """different face numbers over both files"""


@dataclass(frozen=True)
class Pair:
    """The rows that both files have, in the order of (face, frame); ``used``: those that the figures are taken over."""

    reference: Table
    other: Table
    rows: np.ndarray
    """i64 (common, 2): row in the reference, row in the other"""
    used: np.ndarray
    """bool (common,): both succeed and every compared value is finite"""
    counts: Counts
    success: np.ndarray
    """bool (union, 2): success of (reference, other) over all rows of both; a missing row counts as no success"""
    frames: np.ndarray
    """i64 (common, 2): frame and face of each common row"""
    union: np.ndarray
    """i64 (union, 2): frame and face of each row of ``success``"""

    def both(self, names: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """The columns of the used rows: f64 (used, len(names)) of the reference and of the other."""
        rows = self.rows[self.used]
        return self.reference.matrix(names)[rows[:, 0]], self.other.matrix(names)[rows[:, 1]]

    def shared(self, pattern: str) -> list[str]:
        """Columns of both files whose name fits, in the reference's order."""
        return [name for name in self.reference.names(pattern) if self.other.has(name)]

    def landmarks(self) -> tuple[np.ndarray, np.ndarray] | None:
        """2D landmarks of the used rows, f64 (used, 68, 2) px, reference first; ``None`` if a file has none."""
        xs, ys = [f"x_{i}" for i in range(POINTS)], [f"y_{i}" for i in range(POINTS)]
        if not (self.reference.has(*xs, *ys) and self.other.has(*xs, *ys)):
            return None
        (xa, xb), (ya, yb) = self.both(xs), self.both(ys)
        return np.stack([xa, ya], axis=2), np.stack([xb, yb], axis=2)

    @property
    def keys(self) -> np.ndarray:
        """i64 (used, 2): frame and face of the used rows."""
        return self.frames[self.used]


def join(reference: Table, other: Table) -> Pair:
    """Join by frame and face; ``HarnessError`` if no row is common although both files have rows."""
    at_a = {key: i for i, key in enumerate(zip(reference.face_id.tolist(), reference.frame.tolist(), strict=True))}
    at_b = {key: i for i, key in enumerate(zip(other.face_id.tolist(), other.frame.tolist(), strict=True))}
    common = sorted(at_a.keys() & at_b.keys())
    if at_a and at_b and not common:
        raise HarnessError(f"{other.name}: no frame in common with {reference.name}; are they of the same clip?")
    union = sorted(at_a.keys() | at_b.keys())
    rows = np.array([(at_a[k], at_b[k]) for k in common], np.int64).reshape(-1, 2)
    success = np.array(
        [(k in at_a and reference.success[at_a[k]], k in at_b and other.success[at_b[k]]) for k in union], bool
    ).reshape(-1, 2)
    joint = np.stack([reference.success[rows[:, 0]], other.success[rows[:, 1]]], axis=1)
    succeed = joint.all(axis=1)
    finite = _finite(reference, rows[:, 0], other) & _finite(other, rows[:, 1], reference)
    used = succeed & finite
    counts = Counts(
        reference=len(at_a),
        other=len(at_b),
        common=len(common),
        missing=len(at_a) - len(common),
        extra=len(at_b) - len(common),
        both_succeed=int(succeed.sum()),
        lost_only_in_other=int((joint[:, 0] & ~joint[:, 1]).sum()),
        lost_only_in_reference=int((~joint[:, 0] & joint[:, 1]).sum()),
        both_fail=int((~joint).all(axis=1).sum()),
        excluded=int((succeed & ~finite).sum()),
        truncated_lines=reference.truncated_lines + other.truncated_lines,
        faces=len({face for face, _ in union}),
    )
    frames, every = (np.array(keys, np.int64).reshape(-1, 2)[:, ::-1] for keys in (common, union))
    return Pair(reference, other, rows, used, counts, success, frames, every)


def _finite(table: Table, rows: np.ndarray, partner: Table) -> np.ndarray:
    """bool (rows,): every value of a column that both files have is a finite number."""
    names = [name for name in table.columns if partner.has(name)]
    return np.isfinite(table.matrix(names)[rows]).all(axis=1)


def counts_dict(counts: Counts) -> dict[str, int]:
    """As a plain dictionary, for the record."""
    return asdict(counts)
