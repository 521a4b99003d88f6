"""FHOG descriptor of an aligned face: 31 gradient features in each of 12 x 12 cells of 8 px.

The features of Felzenszwalb et al., "Object detection with discriminatively trained part-based models"
(PAMI 2010), in the variant and with the exact f32 roundings of the OpenFace 2.2 specification, part 3 §3:
18 signed orientations, 9 unsigned ones, 4 texture energies per cell.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pyfaceau._jit import kernel
from pyfaceau._simd import WIDE
from pyfaceau.au._vectors import orient_row, vote_row
from pyfaceau.errors import PyfaceauError

SIZE = 112
"""Side of the picture, px: the only size for which the reference computes AUs."""
CELL = 8
CELLS = SIZE // CELL
OUT = CELLS - 2
FEATURES = 31
LENGTH = OUT * OUT * FEATURES
"""Number of values: index = (row * 12 + column) * 31 + feature."""

_ORIENTATIONS = 18
# The reference takes 8 pixels at a time from column 1 on; the rest of the row follows other rules for ties.
_TAIL = 105

_F0 = np.float32(0)
_F1 = np.float32(1)
_TRUNCATE = np.float32(0.2)
_HALF_WEIGHT = np.float32(0.1)
_TEXTURE = np.float32(0.4714)
_ENERGY_FLOOR = np.float32(0.0001)
# Per column: where its left cell's votes start, and the shares of the left and the right cell. Longer than a row by
# what vectors hang over.
_CELL_X = (np.arange(SIZE + WIDE) - 4) >> 3
_CELL_START = (2 * (_CELL_X + 1)).astype(np.int32)
_RIGHT_SHARE = ((np.arange(SIZE + WIDE) + 0.5) / CELL - 0.5 - _CELL_X).astype(np.float32)
_LEFT_SHARE = (1 - _RIGHT_SHARE).astype(np.float32)
_SHARES = np.stack([_LEFT_SHARE, _LEFT_SHARE, _RIGHT_SHARE, _RIGHT_SHARE], axis=1).ravel()

# Votes of one row of pixels go to two rows of cells; a pixel's four votes lie side by side: index
# (orientation * 16 + cell) * 2 + (0 upper, 1 lower row).
_VOTES_LINE = 2 * (CELLS + 2)
_orient_row = orient_row(SIZE, _VOTES_LINE, False)
_orient_tail = orient_row(SIZE, _VOTES_LINE, True)


def fhog(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """FHOG features of an aligned face.

    Parameters
    ----------
    image : u8 (112, 112, 3), B, G, R.

    Returns
    -------
    f32 (4464,), values 0 to about 0.4.
    """
    if image.dtype != np.uint8 or image.shape != (SIZE, SIZE, 3):
        raise PyfaceauError(f"FHOG needs an 8-bit {SIZE} x {SIZE} colour picture, not {image.dtype} {image.shape}")
    scratch = FhogScratch()
    out = np.empty(LENGTH, np.float32)
    _fhog(np.ascontiguousarray(image).reshape(SIZE, -1), *scratch.whole, *scratch.arrays, out)
    return out


class FhogScratch:
    """Work arrays of `_fhog`, kept from frame to frame; ``whole`` is the row extent of a full picture."""

    def __init__(self) -> None:
        self.whole = (np.zeros(SIZE, np.int32), np.full(SIZE, SIZE - 1, np.int32))
        self.arrays = (
            np.zeros((CELLS + 2) * (CELLS + 2) * _ORIENTATIONS, np.float32),
            np.zeros((CELLS, CELLS), np.float32),
            np.zeros(3 * 3 * SIZE + 2 * WIDE, np.uint8),
            np.zeros(SIZE + WIDE, np.float32),
            np.zeros(SIZE + WIDE, np.int32),
            np.zeros(_ORIENTATIONS * _VOTES_LINE, np.float32),
        )


@kernel
def _fhog(image, first, last, histogram, energy, planes, magnitude, places, votes, out):
    """FHOG of `image` u8 (112, 336), whose pixels outside columns first[y]..last[y] of each row are black."""
    for i in range(votes.shape[0]):
        votes[i] = _F0
    line = (CELLS + 2) * _ORIENTATIONS
    _split(image[0], planes, _plane(0))
    _split(image[1], planes, _plane(1))
    for cell in range(CELLS + 1):
        # The pixels between the centres of two rows of cells.
        for y in range(max(1, CELL * cell - 4), min(SIZE - 1, CELL * cell + 4)):
            _split(image[y + 1], planes, _plane(y + 1))
            # A gradient can differ from zero only next to a pixel that is not black.
            begin = max(1, min(first[y - 1], first[y] - 1, first[y + 1]))
            end = min(SIZE - 1, max(last[y - 1], last[y] + 1, last[y + 1]) + 1)
            if begin < end:
                above, here, below = _plane(y - 1), _plane(y), _plane(y + 1)
                tail = max(begin, _TAIL)
                _orient_row(planes, above, here, below, begin, min(end, _TAIL), _CELL_START, magnitude, places)
                _orient_tail(planes, above, here, below, tail, end, _CELL_START, magnitude, places)
                _vote(magnitude, places, y, begin, end, votes)
        _settle(votes, histogram[cell * line : (cell + 1) * line])
    _settle(votes, histogram[(CELLS + 1) * line :])
    _energies(histogram, energy)
    _features(histogram, energy, out)


@kernel
def _plane(y):
    """Where the three channels of row y are kept until the row after the next one."""
    return y % 3 * (3 * SIZE)


@kernel
def _split(line, planes, at):
    """Put the channels of a row of pixels one after another."""
    blue, green, red = planes[at:], planes[at + SIZE :], planes[at + 2 * SIZE :]
    for x in range(SIZE):
        blue[x], green[x], red[x] = line[3 * x], line[3 * x + 1], line[3 * x + 2]


@kernel
def _vote(magnitude, places, y, begin, end, votes):
    """Spread each pixel's magnitude bilinearly over four cells, in raster order."""
    b0 = np.float32((y + 0.5) / CELL - 0.5 - ((y - 4) >> 3))
    b1 = _F1 - b0
    vote_row(magnitude, places, _SHARES, b1, b0, begin, min(end, _TAIL), votes)
    for x in range(max(begin, _TAIL), end):
        far, near, v, h = _RIGHT_SHARE[x], _LEFT_SHARE[x], magnitude[x], np.uint64(places[x])
        votes[h] += b1 * near * v
        votes[h + np.uint64(1)] += b0 * near * v
        votes[h + np.uint64(2)] += b1 * far * v
        votes[h + np.uint64(3)] += b0 * far * v


@kernel
def _settle(votes, line):
    """Copy the upper row of cells, which is complete, to the histogram; the lower one becomes the upper one."""
    for c in range(CELLS + 2):
        for o in range(_ORIENTATIONS):
            at = o * _VOTES_LINE + 2 * c
            line[c * _ORIENTATIONS + o] = votes[at]
            votes[at] = votes[at + 1]
            votes[at + 1] = _F0


@kernel
def _energies(histogram, energy):
    for r in range(CELLS):
        for c in range(CELLS):
            h = ((r + 1) * (CELLS + 2) + c + 1) * _ORIENTATIONS
            total = _F0
            for o in range(9):
                s = histogram[h + o] + histogram[h + o + 9]
                total += s * s
            energy[r, c] = total


@kernel
def _block_norm(energy, r, c):
    """Truncation limit and factor of the 2 x 2 block of cells with top left cell (r, c)."""
    total = energy[r, c] + energy[r, c + 1] + energy[r + 1, c] + energy[r + 1, c + 1] + _ENERGY_FLOOR
    limit = _TRUNCATE * np.sqrt(total)
    return limit, _HALF_WEIGHT / limit


@kernel
def _features(histogram, energy, out):
    t = np.empty((4, _ORIENTATIONS), np.float32)
    for r in range(OUT):
        for c in range(OUT):
            h = ((r + 2) * (CELLS + 2) + c + 2) * _ORIENTATIONS
            to = (r * OUT + c) * FEATURES
            l0, n0 = _block_norm(energy, r + 1, c + 1)
            l1, n1 = _block_norm(energy, r, c + 1)
            l2, n2 = _block_norm(energy, r + 1, c)
            l3, n3 = _block_norm(energy, r, c)
            for o in range(_ORIENTATIONS):
                v = histogram[h + o]
                t0 = (v if v < l0 else l0) * n0
                t1 = (v if v < l1 else l1) * n1
                t2 = (v if v < l2 else l2) * n2
                t3 = (v if v < l3 else l3) * n3
                t[0, o], t[1, o], t[2, o], t[3, o] = t0, t1, t2, t3
                out[to + o] = (t0 + t2) + (t1 + t3)
            for o in range(9):
                v = histogram[h + o] + histogram[h + o + 9]
                t0 = (v if v < l0 else l0) * n0
                t1 = (v if v < l1 else l1) * n1
                t2 = (v if v < l2 else l2) * n2
                t3 = (v if v < l3 else l3) * n3
                out[to + 18 + o] = (t0 + t2) + (t1 + t3)
            for k in range(4):
                total = _F0
                for o in range(0, _ORIENTATIONS, 3):
                    total += (t[k, o] + t[k, o + 1]) + t[k, o + 2]
                out[to + 27 + k] = total * _TEXTURE
