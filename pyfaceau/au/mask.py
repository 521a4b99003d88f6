"""The face mask: the union of the face model's triangles over the aligned landmarks.

Pixels are decided by the f32 arithmetic of the OpenFace 2.2 specification, part 3 §2.4, so that the mask is the
reference's to the byte; only the search for each row's interval is our own.
"""

from __future__ import annotations

import math

import numpy as np

from pyfaceau._jit import kernel

LIFTED = (0, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26)
"""Brows and upper ends of the jaw line: raised before masking so that the forehead stays in."""

_LIFTED = np.array(LIFTED, dtype=np.int64)
_F0 = np.float32(0)
_F1 = np.float32(1)
_FAR = np.float32(1000)
_NEAR = np.float32(0.01)


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
    for y in range(mask.shape[0]):
        first[y] = mask.shape[1]
        last[y] = -1
        for x in range(mask.shape[1]):
            mask[y, x] = 0
    for t in range(triangles.shape[0]):
        i = triangles[t, 0]
        j = triangles[t, 1]
        k = triangles[t, 2]
        _fill_triangle(px[i], py[i], px[j], py[j], px[k], py[k], mask, first, last)


@kernel
def _fill_triangle(x1, y1, x2, y2, x3, y3, mask, first, last):
    """Mark the pixels of one triangle, edges included, by the f32 sign test of each edge.

    A pixel Q is on the inner side of edge (A, B) with opposite corner P if c(Q) * c(P) >= 0, where
    c(Z) = (bx-ax)(zy-ay) - (zx-ax)(by-ay) in f32. Rounding keeps c monotone along a row, so each edge
    cuts a row once and only the pixels around the cut need the test.
    """
    left = min(x1, x2, x3)
    right = max(x1, x2, x3)
    top = min(y1, y2, y3)
    bottom = max(y1, y2, y3)
    height, width = mask.shape
    if not (right >= _F0 and bottom >= _F0 and left <= width - 1 and top <= height - 1):
        return  # outside the picture, or not a number
    x_first = max(0, math.ceil(left))
    x_last = min(width - 1, math.floor(right))
    c1 = (x3 - x2) * (y1 - y2) - (x1 - x2) * (y3 - y2)
    c2 = (x3 - x1) * (y2 - y1) - (x2 - x1) * (y3 - y1)
    c3 = (x2 - x1) * (y3 - y1) - (x3 - x1) * (y2 - y1)
    per_dy1 = _F1 / (y3 - y2)
    per_dy2 = _F1 / (y3 - y1)
    per_dy3 = _F1 / (y2 - y1)
    for row in range(max(0, math.ceil(top)), min(height - 1, math.floor(bottom)) + 1):
        y = np.float32(row)
        lo, hi = _clip_row(x2, y3 - y2, per_dy1, (x3 - x2) * (y - y2), c1, x_first, x_last)
        lo, hi = _clip_row(x1, y3 - y1, per_dy2, (x3 - x1) * (y - y1), c2, lo, hi)
        lo, hi = _clip_row(x1, y2 - y1, per_dy3, (x2 - x1) * (y - y1), c3, lo, hi)
        if lo <= hi:
            for x in range(lo, hi + 1):
                mask[row, x] = 1
            first[row] = min(first[row], lo)
            last[row] = max(last[row], hi)


@kernel
def _clip_row(ax, dy, per_dy, rise, corner, lo, hi):
    """Cut the pixel interval lo..hi of a row to one edge's inner side: (rise - (x - ax) dy) * corner >= 0."""
    right_of_cut = (dy > _F0) != (corner > _F0)
    from_a = rise * per_dy
    # f32 noise moves the cut by less than 1e-6 of its distance from A: only near pixel centres is it felt.
    if abs(from_a) < _FAR and dy != _F0 and corner != _F0:
        cut = ax + from_a
        below = np.floor(cut)
        if _NEAR < cut - below < _F1 - _NEAR:
            return (max(lo, int(below) + 1), hi) if right_of_cut else (lo, min(hi, int(below)))
    return _clip_row_exactly(ax, dy, rise, corner, lo, hi, right_of_cut)


@kernel
def _clip_row_exactly(ax, dy, rise, corner, lo, hi, right_of_cut):
    """`_clip_row` where the cut passes through a pixel, or the edge is flat or degenerate: test pixel by pixel."""
    if right_of_cut:
        while lo <= hi and not (rise - (np.float32(lo) - ax) * dy) * corner >= _F0:
            lo += 1
    else:
        while lo <= hi and not (rise - (np.float32(hi) - ax) * dy) * corner >= _F0:
            hi -= 1
    return lo, hi
