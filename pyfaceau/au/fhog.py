"""FHOG descriptor of an aligned face: 31 gradient features in each of 12 x 12 cells of 8 px.

The features of Felzenszwalb et al., "Object detection with discriminatively trained part-based models"
(PAMI 2010), in the variant and with the exact f32 roundings of the OpenFace 2.2 specification, part 3 §3:
18 signed orientations, 9 unsigned ones, 4 texture energies per cell.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pyfaceau._jit import kernel
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
# cos and sin of 0, 20, .. 160 degrees, to the reference's four digits.
_UX = tuple(np.float32(v) for v in (1.0, 0.9397, 0.7660, 0.5, 0.1736, -0.1736, -0.5, -0.7660, -0.9397))
_UY = tuple(np.float32(v) for v in (0.0, 0.3420, 0.6428, 0.8660, 0.9848, 0.9848, 0.8660, 0.6428, 0.3420))

# Per column: where its left cell's bins start in a line of cells, and the shares of the left and the right cell.
_CELL_X = (np.arange(SIZE) - 4) >> 3
_CELL_START = ((_CELL_X + 1) * _ORIENTATIONS).astype(np.int32)
_RIGHT_SHARE = ((np.arange(SIZE) + 0.5) / CELL - 0.5 - _CELL_X).astype(np.float32)
_LEFT_SHARE = (1 - _RIGHT_SHARE).astype(np.float32)


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
            np.zeros((5, SIZE), np.float32),
            np.zeros(SIZE, np.int32),
        )


@kernel
def _fhog(image, first, last, histogram, energy, rows, bins, out):
    """FHOG of `image` u8 (112, 336), whose pixels outside columns first[y]..last[y] of each row are black."""
    for i in range(histogram.shape[0]):
        histogram[i] = _F0
    for y in range(1, SIZE - 1):
        # A gradient can differ from zero only next to a pixel that is not black.
        begin = max(1, min(first[y - 1], first[y] - 1, first[y + 1]))
        end = min(SIZE - 1, max(last[y - 1], last[y] + 1, last[y + 1]) + 1)
        if begin < end:
            block_end = max(begin, min(end, _TAIL))
            _gradients(image[y - 1], image[y], image[y + 1], begin, block_end, rows[0], rows[1])
            _gradients_of_tail(image[y - 1], image[y], image[y + 1], max(begin, _TAIL), end, rows[0], rows[1])
            _orient(rows[0], rows[1], begin, end, bins)
            _vote(rows, bins, y, begin, end, histogram)
    _energies(histogram, energy)
    _features(histogram, energy, out)


# The slices below start at the first pixel and are counted from 0: only then does LLVM see that no index is
# negative, and use vector instructions.


@kernel
def _gradients(above, line, below, begin, end, gx, gy):
    """Per pixel of a row the gradient of the channel in which it is strongest; ties: blue, then green."""
    left, right, up, down = line[3 * begin - 3 :], line[3 * begin + 3 :], above[3 * begin :], below[3 * begin :]
    out_x, out_y = gx[begin:], gy[begin:]
    for i in range(end - begin):
        bx = np.int32(right[3 * i]) - np.int32(left[3 * i])
        by = np.int32(down[3 * i]) - np.int32(up[3 * i])
        dx = np.int32(right[3 * i + 1]) - np.int32(left[3 * i + 1])
        dy = np.int32(down[3 * i + 1]) - np.int32(up[3 * i + 1])
        rx = np.int32(right[3 * i + 2]) - np.int32(left[3 * i + 2])
        ry = np.int32(down[3 * i + 2]) - np.int32(up[3 * i + 2])
        blue = np.int32(bx * bx + by * by)
        best = np.int32(dx * dx + dy * dy)
        red = np.int32(rx * rx + ry * ry)
        dx = rx if red > best else dx
        dy = ry if red > best else dy
        best = red if red > best else best
        out_x[i] = np.float32(dx if best > blue else bx)
        out_y[i] = np.float32(dy if best > blue else by)


@kernel
def _gradients_of_tail(above, line, below, begin, end, gx, gy):
    """`_gradients` for the last columns; ties: red, then green."""
    for x in range(begin, end):
        best = -1
        for c in (2, 1, 0):
            dx = np.int32(line[3 * x + c + 3]) - np.int32(line[3 * x + c - 3])
            dy = np.int32(below[3 * x + c]) - np.int32(above[3 * x + c])
            square = dx * dx + dy * dy
            if square > best:
                best = square
                gx[x] = np.float32(dx)
                gy[x] = np.float32(dy)


@kernel
def _turn(d, o, best, bin_):
    """Try direction o, on which the gradient's projection is d, and its opposite o + 9."""
    bin_ = o if d > best else bin_
    best = d if d > best else best
    # After a forward hit -d is negative, so this cannot hit too.
    bin_ = np.int32(o + 9) if -d > best else bin_
    best = -d if -d > best else best
    return best, bin_


@kernel
def _orient(gx, gy, begin, end, bins):
    """The one of 18 directions with the largest projection; gx is replaced by the magnitude."""
    in_x, in_y, out = gx[begin:], gy[begin:], bins[begin:]
    for i in range(end - begin):
        dx, dy = in_x[i], in_y[i]
        best, bin_ = _turn(dx * _UX[0] + dy * _UY[0], np.int32(0), _F0, np.int32(0))
        best, bin_ = _turn(dx * _UX[1] + dy * _UY[1], np.int32(1), best, bin_)
        best, bin_ = _turn(dx * _UX[2] + dy * _UY[2], np.int32(2), best, bin_)
        best, bin_ = _turn(dx * _UX[3] + dy * _UY[3], np.int32(3), best, bin_)
        best, bin_ = _turn(dx * _UX[4] + dy * _UY[4], np.int32(4), best, bin_)
        best, bin_ = _turn(dx * _UX[5] + dy * _UY[5], np.int32(5), best, bin_)
        best, bin_ = _turn(dx * _UX[6] + dy * _UY[6], np.int32(6), best, bin_)
        best, bin_ = _turn(dx * _UX[7] + dy * _UY[7], np.int32(7), best, bin_)
        best, bin_ = _turn(dx * _UX[8] + dy * _UY[8], np.int32(8), best, bin_)
        out[i] = bin_
        in_x[i] = np.sqrt(dx * dx + dy * dy)


@kernel
def _vote(rows, bins, y, begin, end, histogram):
    """Spread each pixel's magnitude bilinearly over four cells, in raster order."""
    cell_y = (y - 4) >> 3
    b0 = np.float32((y + 0.5) / CELL - 0.5 - cell_y)
    b1 = _F1 - b0
    magnitude, here, below, right, below_right = rows[0], rows[1], rows[2], rows[3], rows[4]
    for x in range(begin, min(end, _TAIL)):
        far, near = _RIGHT_SHARE[x] * magnitude[x], _LEFT_SHARE[x] * magnitude[x]
        here[x], below[x], right[x], below_right[x] = b1 * near, b0 * near, b1 * far, b0 * far
    for x in range(max(begin, _TAIL), end):
        far, near, v = _RIGHT_SHARE[x], _LEFT_SHARE[x], magnitude[x]
        here[x], below[x], right[x], below_right[x] = b1 * near * v, b0 * near * v, b1 * far * v, b0 * far * v
    line = (CELLS + 2) * _ORIENTATIONS
    upper = histogram[(cell_y + 1) * line : (cell_y + 2) * line]
    lower = histogram[(cell_y + 2) * line : (cell_y + 3) * line]
    for x in range(begin, end):
        h = np.uint64(_CELL_START[x] + bins[x])
        h_right = h + np.uint64(_ORIENTATIONS)
        upper[h] += here[x]
        lower[h] += below[x]
        upper[h_right] += right[x]
        lower[h_right] += below_right[x]


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
