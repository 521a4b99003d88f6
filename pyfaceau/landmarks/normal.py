"""Normal equations of a least-squares step, summed as the reference's BLAS sums them.

OpenFace 2.2 specification, part 2, section 6a.
"""

from __future__ import annotations

import numpy as np

from pyfaceau._jit import kernel
from pyfaceau._simd import LANES, tile_product

# Cells (first and last row, first and last column, ends excluded) that the reference's matrix product sums in
# two chains, by size: the block edges of its BLAS (part 2, section 6a, and found alike for the parts' sizes).
# Only the lower triangle is read, so blocks above it are left out.
_TWO_CHAINS_40 = np.array([(0, 6, 0, 8), (12, 18, 0, 8), (24, 30, 0, 8), (30, 36, 32, 40), (36, 40, 0, 40)])
_TWO_CHAINS_38 = np.array([(0, 6, 0, 8), (12, 18, 0, 8), (24, 30, 0, 8), (24, 30, 24, 32)])
_TWO_CHAINS_16 = np.array([(0, 6, 0, 8), (12, 16, 0, 16)])
_tile_4x1, _tile_4x2, _tile_4x3, _tile_6x1 = (
    tile_product(4, 1),
    tile_product(4, 2),
    tile_product(4, 3),
    tile_product(6, 1),
)


@kernel
def _add_products(jw, j, first, step, depth, row, rows, column, columns, out, to, stride):
    """``out[to + r stride + c] += sum of jw[k, row + r] j[k, column + c]``, ``depth`` terms from ``first`` by ``step``.

    ``rows`` is 4 or 6, ``columns`` a multiple of eight (8 for 6 rows).
    """
    width = j.shape[1]
    flat = j.reshape(-1)
    address = jw.ctypes.data + 4 * (first * width + row)
    start, weight_step = first * width + column, step * width
    if rows == 6:
        _tile_6x1(address, 1, weight_step, depth, flat, start, weight_step, out, to, stride)
        return
    c = 0
    while c < columns:
        if columns - c >= 24:
            _tile_4x3(address, 1, weight_step, depth, flat, start + c, weight_step, out, to + c, stride)
            c += 24
        elif columns - c == 16:
            _tile_4x2(address, 1, weight_step, depth, flat, start + c, weight_step, out, to + c, stride)
            c += 16
        else:
            _tile_4x1(address, 1, weight_step, depth, flat, start + c, weight_step, out, to + c, stride)
            c += 8


@kernel
def _sum_in_two_chains(jw, j, blocks, even, h):
    """Redo blocks of a normal matrix: a chain of even rows plus one of odd rows.

    Rows beyond a multiple of eight join the even chain.
    """
    k = j.shape[0]
    paired = k - k % 8
    for block in range(blocks.shape[0]):
        row, column = blocks[block, 0], blocks[block, 2]
        rows, columns = blocks[block, 1] - row, blocks[block, 3] - column
        for r in range(rows):
            for c in range(columns):
                h[row + r, column + c] = np.float32(0)
                even[r * columns + c] = np.float32(0)
        to = row * h.shape[1] + column
        _add_products(jw, j, 0, 2, paired // 2, row, rows, column, columns, even, 0, columns)
        _add_products(jw, j, paired, 1, k - paired, row, rows, column, columns, even, 0, columns)
        _add_products(jw, j, 1, 2, paired // 2, row, rows, column, columns, h.reshape(-1), to, h.shape[1])
        for r in range(rows):
            for c in range(columns):
                h[row + r, column + c] = even[r * columns + c] + h[row + r, column + c]


@kernel
def normal_matrix(jw, j, columns, even, h):
    """Lower triangle of ``jw^T j``: per cell one fused float32 chain over the rows, or the reference's two.

    Parameters
    ----------
    jw, j : np.ndarray [shape=(k, padded), dtype=float32]
        Columns padded to a multiple of eight.
    columns : int
        How many of them count.
    even : np.ndarray [shape=(>= 160,), dtype=float32]
        Work space.
    h : np.ndarray [shape=(padded, stride), dtype=float32], out
        Cells above the triangle and in the padding hold anything; see `system_stride`.
    """
    padded, stride = j.shape[1], h.shape[1]
    h[:] = np.float32(0)
    for row in range(0, padded, 4):
        _add_products(jw, j, 0, 1, j.shape[0], row, 4, 0, (row // 8 + 1) * 8, h.reshape(-1), row * stride, stride)
    if columns == 40:
        _sum_in_two_chains(jw, j, _TWO_CHAINS_40, even, h)
    elif columns == 38:
        _sum_in_two_chains(jw, j, _TWO_CHAINS_38, even, h)
    elif columns == 16:
        _sum_in_two_chains(jw, j, _TWO_CHAINS_16, even, h)


@kernel
def padded_columns(columns):
    """``columns`` rounded up to whole vectors."""
    return -(-columns // LANES) * LANES


@kernel
def system_stride(columns):
    """Row length of a normal matrix: whole vectors, with room for the right-hand side."""
    return (columns // LANES + 1) * LANES


@kernel
def weighted_rows(rows, weights, columns, total):
    """``total[a] = sum of weights[k] rows[k, a]`` in float64, row by row."""
    for a in range(columns):
        total[a] = 0.0
    for k in range(weights.shape[0]):
        weight = np.float64(weights[k])
        for a in range(columns):
            total[a] += np.float64(rows[k, a]) * weight


@kernel
def gradient(jw, residual, columns, total, b):
    """``b = jw^T residual``, summed in float64 (work space ``total``), rounded to float32."""
    weighted_rows(jw, residual, columns, total)
    for a in range(columns):
        b[a] = np.float32(total[a])
