"""The face mask: the union of the face model's triangles over the aligned landmarks.

Pixels are decided by the f32 arithmetic of the OpenFace 2.2 specification, part 3 §2.4, so that the mask is the
reference's to the byte; only the search for each row's interval is our own.
"""

from __future__ import annotations

import math

import numpy as np

from pyfaceau._jit import kernel
from pyfaceau.au._spans import ROWS, WORD, mark_rows, unpack

LIFTED = (0, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26)
"""Brows and upper ends of the jaw line: raised before masking so that the forehead stays in."""

_LIFTED = np.array(LIFTED, dtype=np.int64)
_F0 = np.float32(0)


@kernel
def _mask(landmarks, warp, lift, triangles, mask, first, last):
    """Rasterise the union of the triangles over the warped and lifted landmarks."""
    n = landmarks.shape[0] // 2
    px = np.empty(n, np.float32)
    py = np.empty(n, np.float32)
    for i in range(n):
        x = np.float64(landmarks[i])
        y = np.float64(landmarks[n + i])
        px[i] = np.float32(x * np.float64(warp[0, 0]) + y * np.float64(warp[0, 1])) + warp[0, 2]
        py[i] = np.float32(x * np.float64(warp[1, 0]) + y * np.float64(warp[1, 1])) + warp[1, 2]
    for i in range(_LIFTED.shape[0]):
        py[_LIFTED[i]] -= lift
    height, width = mask.shape
    pitch = height + ROWS
    bits = np.zeros((width + WORD - 1) // WORD * pitch, np.int32)
    begins, ends, spans = np.full(pitch, width, np.int32), np.full(pitch, -1, np.int32), np.empty((2, ROWS), np.int32)
    for t in range(triangles.shape[0]):
        i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        _fill_triangle(px[i], py[i], px[j], py[j], px[k], py[k], height, width, bits, begins, ends, spans[0], spans[1])
    flat = mask.reshape(-1)
    for y in range(height):
        first[y], last[y] = begins[y], ends[y]
        for begin in range(0, width, WORD):
            value, to = bits[begin // WORD * pitch + y], y * width + begin
            if to + WORD <= flat.shape[0]:
                unpack(value, flat, to)  # what hangs over is overwritten by the next row
            else:
                for x in range(width - begin):
                    flat[to + x] = (value >> np.int32(x)) & 1


@kernel
def _fill_triangle(x1, y1, x2, y2, x3, y3, height, width, bits, first, last, low, high):
    """Mark the pixels of one triangle, edges included, by the f32 sign test of each edge.

    A pixel Q is on the inner side of edge (A, B) with opposite corner P if c(Q) * c(P) >= 0, where
    c(Z) = (bx-ax)(zy-ay) - (zx-ax)(by-ay) in f32. Rounding keeps c monotone along a row, so each edge
    cuts a row once, and f32 noise moves the cut by less than 1e-6 of its distance from A: only near pixel
    centres is it felt, and takes the test.
    """
    left, right, top, bottom = min(x1, x2, x3), max(x1, x2, x3), min(y1, y2, y3), max(y1, y2, y3)
    if not (right >= _F0 and bottom >= _F0 and left <= width - 1 and top <= height - 1):
        return  # outside the picture, or not a number
    x_first, x_last = np.int32(max(0, math.ceil(left))), np.int32(min(width - 1, math.floor(right)))
    begin, end = max(0, math.ceil(top)), min(height - 1, math.floor(bottom)) + 1
    pitch = first.shape[0]
    for start in range(begin, end, ROWS):
        doubt = mark_rows(
            x1, y1, x2, y2, x3, y3, np.int32(start), np.int32(end), x_first, x_last, bits, pitch, first, last, low, high
        )
        row = start
        while doubt:
            if doubt & 1:
                y, lo, hi = np.float32(row), np.int64(low[row - start]), np.int64(high[row - start])
                lo, hi = _clip_row(x1, y1, x2, y2, x3, y3, y, lo, hi)
                lo, hi = _clip_row(x2, y2, x3, y3, x1, y1, y, lo, hi)
                lo, hi = _clip_row(x1, y1, x3, y3, x2, y2, y, lo, hi)
                for x in range(lo, hi + 1):
                    bits[x // WORD * pitch + row] |= np.int32(1) << np.int32(x % WORD)
                if lo <= hi:
                    first[row], last[row] = min(first[row], lo), max(last[row], hi)
            doubt >>= 1
            row += 1


@kernel
def _clip_row(ax, ay, bx, by, px, py, y, lo, hi):
    """Cut the pixel interval lo..hi of a row to the inner side of the edge (A, B), testing pixel by pixel."""
    dx, dy = bx - ax, by - ay
    corner = dx * (py - ay) - (px - ax) * dy
    rise = dx * (y - ay)
    if (dy > _F0) != (corner > _F0):
        while lo <= hi and not (rise - (np.float32(lo) - ax) * dy) * corner >= _F0:
            lo += 1
    else:
        while lo <= hi and not (rise - (np.float32(hi) - ax) * dy) * corner >= _F0:
            hi -= 1
    return lo, hi
