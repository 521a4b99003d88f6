"""Running medians of the descriptor: a person's neutral face, learned from the frames seen so far.

OpenFace keeps one histogram per descriptor entry and reads off the lower median as a bin centre
(OpenFace 2.2 specification, part 3 §5). A histogram gains at most one sample per update, so the median's bin
moves by few steps: it is tracked, never searched.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pyfaceau._jit import kernel
from pyfaceau.au._vectors import fetch

HOG_BINS, HOG_RANGE = 1000, (-0.005, 1.0)
GEOMETRY_BINS, GEOMETRY_RANGE = 10000, (-60.0, 60.0)

_BLOCK = 256  # values whose bins are computed in one go


@dataclass(frozen=True)
class Bins:
    """Equal bins over low..high: bin = trunc(clamp(value * scale + shift)); ``centres`` f64 (number,).

    Medians below `floor` are raised to it.
    """

    scale: float
    shift: float
    floor: float
    centres: NDArray[np.float64]


def make_bins(number: int, low: float, high: float, floor: float = -np.inf) -> Bins:
    """Bins over low..high; roundings as the reference's."""
    length = high - low
    per_length = 1.0 / length
    centres = low + np.arange(number) * (length / number) + 0.5 * length / number
    return Bins(number * per_length, (-low * number) * per_length, floor, np.maximum(centres, floor))


class RunningMedian:
    """Histogram and lower median of each of `size` values.

    Attributes
    ----------
    median : f64 (size,), read it, never write it.
    count : samples counted so far.

    Parameters
    ----------
    median : f64 (size,) zeros, where the medians are to be kept; made if ``None``.
    """

    def __init__(self, size: int, bins: Bins, median: NDArray[np.float64] | None = None) -> None:
        self.bins = bins
        self.median = np.zeros(size) if median is None else median
        self.count = 0
        self._counts = np.zeros((size, bins.centres.shape[0]), np.int32)
        # Of the median's bin: its index, the samples below it, the samples in it.
        self._position = np.zeros(size, np.int32)
        self._below = np.zeros(size, np.int32)
        self._here = np.zeros(size, np.int32)
        self._bins = np.zeros(_BLOCK, np.int32)

    def update(self, values: NDArray[np.float64], valid: bool) -> bool:
        """Count `values` f64 (size,) if `valid`; returns whether the median may have changed.

        Keeps two habits of the reference: without any sample the median is the lowest bin's centre, and while
        there is one sample only, the median is a copy of the latest values, valid or not.
        """
        if valid:
            self.count += 1
            _count(
                values, self.bins.scale, self.bins.shift, self.bins.centres, (self.count + 1) // 2,
                self._counts, self._position, self._below, self._here, self._bins, self.median,
            )  # fmt: skip
        if self.count == 0:
            self.median[:] = self.bins.centres[0]
        elif self.count == 1:
            np.maximum(values, self.bins.floor, out=self.median)
        return valid or self.count <= 1


@kernel
def _count(values, scale, shift, centres, rank, counts, position, below, here, bins, median):
    """Add one sample per row of `counts` and move each median to the first bin whose cumulative count >= rank."""
    top = np.float64(centres.shape[0] - 1)
    size, width = counts.shape
    flat, one = counts.reshape(-1), np.int32(1)
    for first in range(0, size, _BLOCK):
        last = min(first + _BLOCK, size)
        # Bins first, in vectors; not a number goes to bin 0 as well.
        for i in range(first, last):
            place = values[i] * scale + shift
            bins[i - first] = np.int32(min(place, top) if place > 0.0 else 0.0)
        # Every entry's histogram is a page of its own: without this each would wait for the memory in turn.
        for i in range(first, last):
            fetch(flat, i * width + bins[i - first])
        for i in range(first, last):
            bin_, start = bins[i - first], i * width
            flat[start + bin_] += one
            j, lower, at = position[i], below[i], here[i]
            # Sums instead of branches: which side a sample falls on cannot be foretold.
            lower += np.int32(bin_ < j)
            at += np.int32(bin_ == j)
            while lower >= rank:
                j -= 1
                at = flat[start + j]
                lower -= at
            while lower + at < rank:
                lower += at
                j += 1
                at = flat[start + j]
            position[i], below[i], here[i] = j, lower, at
            median[i] = centres[j]
