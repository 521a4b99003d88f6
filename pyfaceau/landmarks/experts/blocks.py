"""Mean and norm of every 11x11 block of an area."""

from __future__ import annotations

import numpy as np

from pyfaceau._jit import kernel
from pyfaceau.landmarks.areas import SUPPORT


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
