"""A float32 matrix product with the roundings of the reference's BLAS (OpenBLAS' AVX2 kernels).

Every cell is summed over k in blocks; inside a block in one chain of fused multiply-adds, or, in some rectangles of
the result, in two chains (even and odd k) that are added at the end. Which cells are which follows from how the
library cuts a product into register tiles, and was found by comparing its results with both ways.

Source: OpenFace 2.2 specification, part 2 §6a, on the reference machine.
"""

from __future__ import annotations

import numpy as np

from pyfaceau._jit import kernel
from pyfaceau._simd import LANES, tile_product

DEPTH = 320  # longest block of k
ROWS = 6  # of a tile; twelve rows are cut alike
#: Floats of work space: two chains of the largest tile, 6 x 16.
WORK = 2 * ROWS * 2 * LANES
_tile_6x2, _tile_6x1, _tile_4x1, _tile_1x1 = (
    tile_product(6, 2),
    tile_product(6, 1),
    tile_product(4, 1),
    tile_product(1, 1),
)


@kernel
def block_end(start, depth):
    """Where the block of k that starts at ``start`` ends."""
    left = depth - start
    if left >= 2 * DEPTH:
        return start + DEPTH
    if left > DEPTH:
        return start + (left // 2 + LANES - 1) // LANES * LANES
    return depth


@kernel
def _chain(left, row, rows, right, column, vectors, first, step, count, sums, to):
    """Add ``left[k, row + r] * right[k, column + c]`` to ``sums[to + 8 vectors r + c]``, k = first, first + step, ..."""
    address = left.ctypes.data + 4 * (first * left.shape[1] + row)
    left_step, right_step = step * left.shape[1], step * right.shape[1]
    flat, start = right.reshape(-1), first * right.shape[1] + column
    if vectors == 2:
        _tile_6x2(address, 1, left_step, count, flat, start, right_step, sums, to, 2 * LANES)
    elif rows == 6:
        _tile_6x1(address, 1, left_step, count, flat, start, right_step, sums, to, LANES)
    elif rows == 4:
        _tile_4x1(address, 1, left_step, count, flat, start, right_step, sums, to, LANES)
    else:
        _tile_1x1(address, 1, left_step, count, flat, start, right_step, sums, to, LANES)


@kernel
def _add_tile(left, row, rows, right, column, vectors, two_chains, first, end, sums, out):
    """Add the block ``first <= k < end`` of the product to ``rows`` x ``8 vectors`` cells of ``out``."""
    width = LANES * vectors
    odd = ROWS * 2 * LANES
    sums[:] = np.float32(0)
    if two_chains:
        # What is over after a multiple of eight joins the even chain.
        pairs = (end - first) // 8 * 4
        tail = first + 2 * pairs
        _chain(left, row, rows, right, column, vectors, first, 2, pairs, sums, 0)
        _chain(left, row, rows, right, column, vectors, tail, 1, end - tail, sums, 0)
        _chain(left, row, rows, right, column, vectors, first + 1, 2, pairs, sums, odd)
    else:
        _chain(left, row, rows, right, column, vectors, first, 1, end - first, sums, 0)
    for r in range(rows):
        for c in range(width):
            value = sums[width * r + c]
            if two_chains:
                value += sums[odd + width * r + c]
            out[row + r, column + c] += value


@kernel
def add_product(left, right, columns, sums, out):
    """``out += left^T right``, every cell rounded as the reference's BLAS rounds it.

    Parameters
    ----------
    left : np.ndarray [shape=(k, n), dtype=float32]
    right : np.ndarray [shape=(k, padded), dtype=float32]
        The columns padded to a multiple of eight.
    columns : int
        How many of them count: it decides on the order of the sums.
    sums : np.ndarray [shape=(WORK,), dtype=float32]
        Work space.
    out : np.ndarray [shape=(n, padded), dtype=float32]
    """
    depth, n = left.shape
    padded = right.shape[1]
    in_twelves = n - n % (2 * ROWS)
    first = 0
    while first < depth:
        end = block_end(first, depth)
        for row in range(0, in_twelves, ROWS):
            column = 0
            if row % (2 * ROWS) == 0 and columns >= 2 * LANES:
                _add_tile(left, row, ROWS, right, 0, 1, True, first, end, sums, out)
                column = LANES
            while columns - column >= 2 * LANES:
                _add_tile(left, row, ROWS, right, column, 2, False, first, end, sums, out)
                column += 2 * LANES
            while column < padded:
                whole = columns - column >= LANES and columns >= 2 * LANES
                _add_tile(left, row, ROWS, right, column, 1, whole, first, end, sums, out)
                column += LANES
        row = in_twelves
        while row < n:
            rows = 4 if n - row >= 4 else 1
            for column in range(0, padded, LANES):
                whole = rows == 4 and columns - column >= LANES
                _add_tile(left, row, rows, right, column, 1, whole, first, end, sums, out)
            row += rows
        first = end
