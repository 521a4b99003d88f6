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
from pyfaceau._simd import LINE
from pyfaceau.au._vectors import fetch

HOG_BINS, HOG_RANGE = 1000, (-0.005, 1.0)
GEOMETRY_BINS, GEOMETRY_RANGE = 10000, (-60.0, 60.0)

_BLOCK = 256  # values whose bins are computed in one go
_LINE = LINE // 4  # counts in a cache line


@dataclass(frozen=True)
class Bins:
    """Equal bins over low..high: bin = trunc(clamp(value * scale + shift)); ``centres`` f64 (number,).

    Medians below `floor` are raised to it. Histograms keep `run` neighbouring bins of an entry side by side, then the
    same bins of the next entry; a power of two.
    """

    scale: float
    shift: float
    floor: float
    centres: NDArray[np.float64]
    run: int


def make_bins(number: int, low: float, high: float, floor: float = -np.inf, run: int = _LINE) -> Bins:
    """Bins over low..high; roundings as the reference's."""
    length = high - low
    per_length = 1.0 / length
    centres = low + np.arange(number) * (length / number) + 0.5 * length / number
    return Bins(number * per_length, (-low * number) * per_length, floor, np.maximum(centres, floor), run)


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
        counts = np.zeros(size * -(-bins.centres.shape[0] // bins.run) * bins.run + _LINE, np.int32)
        self._counts = counts[-counts.ctypes.data // 4 % _LINE :]  # on cache lines
        # Of the median's bin: its index, the samples below it, the samples in it.
        self._position = np.zeros(size, np.int32)
        self._below = np.zeros(size, np.int32)
        self._here = np.zeros(size, np.int32)
        self._work = np.zeros(_BLOCK, np.int32), np.zeros(_BLOCK, np.int32)

    def update(self, values: NDArray[np.float64], valid: bool) -> bool:
        """Count `values` f64 (size,) if `valid`; returns whether the median may have changed.

        Keeps two habits of the reference: without any sample the median is the lowest bin's centre, and while
        there is one sample only, the median is a copy of the latest values, valid or not.
        """
        if valid:
            self.count += 1
            _count(
                values, self.bins.scale, self.bins.shift, self.bins.centres, (self.count + 1) // 2, self._counts,
                self.bins.run.bit_length() - 1, self._position, self._below, self._here, *self._work, self.median,
            )  # fmt: skip
        if self.count == 0:
            self.median[:] = self.bins.centres[0]
        elif self.count == 1:
            np.maximum(values, self.bins.floor, out=self.median)
        return valid or self.count <= 1


@kernel
def _count(values, scale, shift, centres, rank, counts, bits, position, below, here, bins, movers, median):
    """Add one sample per histogram and move each median to the first bin whose cumulative count >= rank.

    Entry i counts bin b at ``counts[_place(i, b, size, bits)]``.
    """
    top = np.float64(centres.shape[0] - 1)
    size, one = values.shape[0], np.int32(1)
    for first in range(0, size, _BLOCK):
        last = min(first + _BLOCK, size)
        # Bins first, in vectors; not a number goes to bin 0 as well.
        for i in range(first, last):
            place = values[i] * scale + shift
            bins[i - first] = np.int32(min(place, top) if place > 0.0 else 0.0)
        # Without this each entry would wait for the memory in turn.
        for i in range(first, last):
            fetch(counts, _place(i, bins[i - first], size, bits))
        n = 0
        for index in range(first, last):
            i = np.uint64(index)
            bin_, j = bins[i - np.uint64(first)], position[i]
            counts[_place(i, bin_, size, bits)] += one
            # Sums instead of branches: which side a sample falls on cannot be foretold.
            lower = below[i] + np.int32(bin_ < j)
            at = here[i] + np.int32(bin_ == j)
            below[i], here[i], median[i] = lower, at, centres[np.uint64(j)]
            # Most medians stay: those that do not are written down, and moved when their counts have arrived.
            movers[np.uint64(n)] = index
            n += np.int64(lower >= rank) + np.int64(lower + at < rank)
        for k in range(n):
            i = np.uint64(movers[k])
            fetch(counts, _place(i, position[i] + (-1 if below[i] >= rank else 1), size, bits))
        for k in range(n):
            i = np.uint64(movers[k])
            j, lower, at = position[i], below[i], here[i]
            while lower >= rank:
                j -= 1
                at = counts[_place(i, j, size, bits)]
                lower -= at
            while lower + at < rank:
                lower += at
                j += 1
                at = counts[_place(i, j, size, bits)]
            position[i], below[i], here[i], median[i] = j, lower, at, centres[j]


@kernel
def _place(entry, bin_, size, bits):
    """Where an entry's bin is counted: runs of ``2 ** bits`` bins, those of all ``size`` entries one after another.

    Most values lie in few bins, so that the pages in use are few, and neighbours.
    """
    wide = np.int64(bin_)
    return np.uint64((((wide >> bits) * size + np.int64(entry)) << bits) + (wide & ((1 << bits) - 1)))
