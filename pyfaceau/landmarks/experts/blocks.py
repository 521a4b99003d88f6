"""What the expert kinds share: statistics and template products of every 11x11 block of an area."""

from __future__ import annotations

import numpy as np

from pyfaceau._jit import kernel
from pyfaceau._simd import LANES, row_products
from pyfaceau.landmarks.areas import SUPPORT

_rows_3, _rows_5, _rows_7 = row_products(3, SUPPORT), row_products(5, SUPPORT), row_products(7, SUPPORT)
_rows_9, _rows_11, _rows_1 = row_products(9, SUPPORT), row_products(11, SUPPORT), row_products(1, SUPPORT)


@kernel
def block_statistics(area, window, means, inverse_norms, column_sums, column_squares):
    """Mean and 1 / L2 norm (of the centred values) of every 11x11 block of an area [w + 10, w + 10].

    Running sums in float64: areas hold multiples of 1/1024, so the sums are exact and a constant block
    is recognised as such (its norm counts as one).
    """
    side = area.shape[0]
    count = 1.0 / (SUPPORT * SUPPORT)
    for x in range(side):
        column_sums[x] = column_squares[x] = 0.0
    for y in range(SUPPORT):
        for x in range(side):
            v = np.float64(area[y, x])
            column_sums[x] += v
            column_squares[x] += v * v
    for y in range(window):
        if y > 0:
            for x in range(side):
                new, old = np.float64(area[y + SUPPORT - 1, x]), np.float64(area[y - 1, x])
                column_sums[x] += new - old
                column_squares[x] += new * new - old * old
        total = squares = 0.0
        for x in range(SUPPORT - 1):
            total += column_sums[x]
            squares += column_squares[x]
        for x in range(window):
            total += column_sums[x + SUPPORT - 1]
            squares += column_squares[x + SUPPORT - 1]
            mean = total * count
            variance = squares - total * mean
            means[y * window + x] = np.float32(mean)
            inverse_norms[y * window + x] = np.float32(1.0 / np.sqrt(variance)) if variance > 1e-6 else np.float32(1)
            total -= column_sums[x]
            squares -= column_squares[x]


@kernel
def correlate(flat, window, side, weights, out):
    """Products of every block of a flattened area with eight templates: ``out[8 (window y + x) + q]``."""
    for y in range(window):
        start, to = y * side, LANES * y * window
        if window == 9:
            _rows_9(flat, start, side, weights, 0, out, to)
        elif window == 7:
            _rows_7(flat, start, side, weights, 0, out, to)
        elif window == 11:
            _rows_11(flat, start, side, weights, 0, out, to)
        elif window == 5:
            _rows_5(flat, start, side, weights, 0, out, to)
        elif window == 3:
            _rows_3(flat, start, side, weights, 0, out, to)
        else:
            x = 0
            while x + 7 <= window:
                _rows_7(flat, start + x, side, weights, 0, out, to + LANES * x)
                x += 7
            while x < window:
                _rows_1(flat, start + x, side, weights, 0, out, to + LANES * x)
                x += 1
