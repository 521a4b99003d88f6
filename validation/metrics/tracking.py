"""Whether two programs have the face on the same frames.

Conventions: ``reference`` and ``estimated`` are bool (frames,), of all frames of one face in time order; a frame that
a file lacks counts as one without a face.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from validation.errors import Undefined


class Run(NamedTuple):
    """Frames first..last (inclusive) without a face."""

    first: int
    last: int


def success_agreement(reference: np.ndarray, estimated: np.ndarray) -> float:
    """Share of frames on which both have, or both lack, a face."""
    if len(reference) == 0:
        raise Undefined("no frames")
    return float((reference == estimated).mean())


def lost_runs(success: np.ndarray, frames: np.ndarray) -> list[Run]:
    """Runs of frames without a face, by frame number: lost on ``first``, found again after ``last``."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], ~success, [False]]).astype(np.int8)))
    return [Run(int(frames[a]), int(frames[b - 1])) for a, b in edges.reshape(-1, 2)]


def differing_frames(reference: np.ndarray, estimated: np.ndarray, frames: np.ndarray) -> list[int]:
    """Frame numbers on which only one has a face."""
    return [int(n) for n in frames[reference != estimated]]


def equal_runs(reference: Iterable[tuple[int, ...]], estimated: Iterable[tuple[int, ...]]) -> int:
    """Number of the reference's runs that the estimate has on exactly the same frames."""
    return len(set(reference) & set(estimated))
