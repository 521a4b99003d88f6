"""A float32 matrix product with the roundings of the reference's BLAS (OpenBLAS' AVX2 kernels).

Every cell is summed over k in blocks; inside a block in one chain of fused multiply-adds, or, in some rectangles of
the result, in two chains (even and odd k) that are added at the end. Which cells are which follows from how the
library cuts a product into register tiles, and was found by comparing its results with both ways.

Source: OpenFace 2.2 specification, part 2 §6a, on the reference machine.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pyfaceau._jit import kernel
from pyfaceau._simd import LANES, WIDE, tile_product

DEPTH = 320  # longest block of k
ROWS = 6  # of a tile; twelve rows are cut alike
_PAIR = 2 * LANES
#: Columns that are worked on together where all of them are in one chain: as many as have their sums in registers.
_MOST, _SOME = (8 * LANES, 4 * LANES) if WIDE > LANES else (_PAIR, _PAIR)
_LINE = 8 * LANES  # the same of a single row
#: Floats of work space: two chains of the largest tile.
WORK = 2 * ROWS * _LINE
_tile_most, _tile_some, _tile_pair, _tile_6x1 = (
    tile_product(ROWS, columns // LANES) for columns in (_MOST, _SOME, _PAIR, LANES)
)
_tile_4x1, _tile_line, _tile_1x1 = tile_product(4, 1), tile_product(1, _LINE // LANES), tile_product(1, 1)


def cut(rows: int, columns: int) -> NDArray[np.int64]:
    """The tiles of a product of that size, i64 (n, 5): row, rows, column, columns, in two chains or not.

    ``columns`` are those that count; the last tiles cover them up to a multiple of eight. Tiles are 6 x 16, 6 x 8,
    4 x 8 or 1 x 8, or several of the first or the last in one.
    """
    padded, wide = -(-columns // LANES) * LANES, columns >= _PAIR
    tiles = []
    in_twelves = rows - rows % (2 * ROWS)
    for row in range(0, in_twelves, ROWS):
        column = 0
        if wide and row % (2 * ROWS) == 0:
            tiles.append((row, ROWS, 0, LANES, True))
            column = LANES
        for width in (_MOST, _SOME, _PAIR):
            while columns - column >= width:
                tiles.append((row, ROWS, column, width, False))
                column += width
        tiles += [(row, ROWS, at, LANES, wide and columns - at >= LANES) for at in range(column, padded, LANES)]
    in_fours = rows - (rows - in_twelves) % 4
    for row in range(in_twelves, in_fours, 4):
        tiles += [(row, 4, at, LANES, columns - at >= LANES) for at in range(0, padded, LANES)]
    lines = padded - padded % _LINE
    for row in range(in_fours, rows):
        tiles += [(row, 1, at, _LINE, False) for at in range(0, lines, _LINE)]
        tiles += [(row, 1, at, LANES, False) for at in range(lines, padded, LANES)]
    return np.array(tiles, np.int64)


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
def _chain(left, row, rows, right, column, width, first, step, count, sums, to):
    """Add ``left[k, row + r] * right[k, column + c]`` to ``sums[to + width r + c]``, k = first, first + step, ..."""
    address = left.ctypes.data + 4 * (first * left.shape[1] + row)
    left_step, right_step = step * left.shape[1], step * right.shape[1]
    flat, start = right.reshape(-1), first * right.shape[1] + column
    if rows == 1 and width == _LINE:
        _tile_line(address, 1, left_step, count, flat, start, right_step, sums, to, width)
    elif rows == 6 and width == _PAIR:
        _tile_pair(address, 1, left_step, count, flat, start, right_step, sums, to, width)
    elif rows == 6 and width == _SOME:
        _tile_some(address, 1, left_step, count, flat, start, right_step, sums, to, width)
    elif rows == 6 and width == _MOST:
        _tile_most(address, 1, left_step, count, flat, start, right_step, sums, to, width)
    elif rows == 6:
        _tile_6x1(address, 1, left_step, count, flat, start, right_step, sums, to, width)
    elif rows == 4:
        _tile_4x1(address, 1, left_step, count, flat, start, right_step, sums, to, width)
    else:
        _tile_1x1(address, 1, left_step, count, flat, start, right_step, sums, to, width)


@kernel
def add_product(left, right, tiles, sums, out):
    """``out += left^T right``, every cell rounded as the reference's BLAS rounds it.

    Parameters
    ----------
    left : np.ndarray [shape=(k, n), dtype=float32]
    right : np.ndarray [shape=(k, padded), dtype=float32]
        The columns padded to a multiple of eight.
    tiles : np.ndarray [shape=(t, 5), dtype=int64]
        See `cut`.
    sums : np.ndarray [shape=(WORK,), dtype=float32]
        Work space.
    out : np.ndarray [shape=(n, padded), dtype=float32]
    """
    depth = left.shape[0]
    odd = ROWS * _LINE
    first = 0
    while first < depth:
        end = block_end(first, depth)
        # What is over after a multiple of eight joins the even chain.
        pairs = (end - first) // 8 * 4
        for t in range(len(tiles)):
            row, rows, column, width, two_chains = tiles[t]
            sums[:] = np.float32(0)
            for part in range(3 if two_chains else 1):
                start, step, count, to = first, 1, end - first, 0
                if two_chains and part == 0:
                    step, count = 2, pairs
                elif part == 1:
                    start = first + 2 * pairs
                    count = end - start
                elif part == 2:
                    start, step, count, to = first + 1, 2, pairs, odd
                _chain(left, row, rows, right, column, width, start, step, count, sums, to)
            for r in range(rows):
                for c in range(width):
                    out[row + r, column + c] += sums[width * r + c] + sums[odd + width * r + c]
        first = end
