"""Normal equations of a least-squares step, summed as the reference's BLAS sums them.

OpenFace 2.2 specification, part 2, section 6a.
"""

from __future__ import annotations

import numpy as np

from pyfaceau._jit import kernel
from pyfaceau._simd import LANES, WIDE
from pyfaceau._simd_solve import chain_tile, wide_sums

# The reference's matrix product works through bands of six rows, the last of four, in vectors of eight columns. Some
# vectors it sums in two chains, at the block edges of its BLAS: bit v of a band's number stands for columns 8 v to
# 8 v + 7 (part 2, section 6a, and found alike for the parts' sizes). Only the lower triangle is read, so vectors above
# it are left out.
_BAND = 6
_TWO_CHAINS_40 = np.array([0b1, 0, 0b1, 0, 0b1, 0b10000, 0b11111])
_TWO_CHAINS_38 = np.array([0b1, 0, 0b1, 0, 0b1001, 0, 0])
_TWO_CHAINS_16 = np.array([0b1, 0, 0b11])
_tile_6x1, _tile_6x2, _tile_6x1_in_two = chain_tile(6, 1), chain_tile(6, 2), chain_tile(6, 1, 2)
_tile_4x1, _tile_4x2, _tile_4x1_in_two = chain_tile(4, 1), chain_tile(4, 2), chain_tile(4, 1, 2)
# Vectors of sixteen are half as many, and have twice the registers: with smaller tiles every sum would wait for itself.
_LARGE = WIDE > LANES
_tile_6x3, _tile_6x4, _tile_4x5, _tile_4x2_in_two = (
    chain_tile(6, 3), chain_tile(6, 4), chain_tile(4, 5), chain_tile(4, 2, 2)
)  # fmt: skip
_sums_1, _sums_2, _sums_5 = wide_sums(1), wide_sums(2), wide_sums(5)


@kernel
def _two_chains(columns, band):
    """Which vectors of a band are summed in two chains; none of sizes that the models do not have."""
    if columns == 40:
        return _TWO_CHAINS_40[band]
    if columns == 38:
        return _TWO_CHAINS_38[band]
    return _TWO_CHAINS_16[band] if columns == 16 else 0


@kernel
def normal_matrix(jw, j, columns, h):
    """Lower triangle of ``jw^T j``: per cell one fused float32 chain over the rows, or the reference's two.

    Parameters
    ----------
    jw, j : np.ndarray [shape=(k, padded), dtype=float32]
        Columns padded to a multiple of eight.
    columns : int
        How many of them count.
    h : np.ndarray [shape=(padded, padded), dtype=float32], out
        Cells above the triangle and in the padding hold anything.
    """
    depth, padded = j.shape
    for band in range(-(-columns // _BAND)):
        whole = _BAND * (band + 1) <= padded
        row = _BAND * band if whole else padded - 4  # of other sizes may redo rows of the band before
        at, two, v = row * padded, _two_chains(columns, band), 0
        vectors = (row + (_BAND if whole else 4) - 1) // LANES + 1
        while v < vectors:
            c, single, alike = LANES * v, two >> v & 1 == 0, 1
            while v + alike < vectors and (two >> (v + alike) & 1 == 0) == single:
                alike += 1
            if whole and not single:
                _tile_6x1_in_two(jw, row, padded, j, c, padded, depth, h, at + c, padded)
                v += 1
            elif _LARGE and whole and alike >= 4:
                _tile_6x4(jw, row, padded, j, c, padded, depth, h, at + c, padded)
                v += 4
            elif _LARGE and whole and alike == 3:
                _tile_6x3(jw, row, padded, j, c, padded, depth, h, at + c, padded)
                v += 3
            elif whole and alike >= 2:
                _tile_6x2(jw, row, padded, j, c, padded, depth, h, at + c, padded)
                v += 2
            elif whole:
                _tile_6x1(jw, row, padded, j, c, padded, depth, h, at + c, padded)
                v += 1
            elif _LARGE and single and alike >= 5:
                _tile_4x5(jw, row, padded, j, c, padded, depth, h, at + c, padded)
                v += 5
            elif single and alike >= 2:
                _tile_4x2(jw, row, padded, j, c, padded, depth, h, at + c, padded)
                v += 2
            elif single:
                _tile_4x1(jw, row, padded, j, c, padded, depth, h, at + c, padded)
                v += 1
            elif _LARGE and alike >= 2:
                _tile_4x2_in_two(jw, row, padded, j, c, padded, depth, h, at + c, padded)
                v += 2
            else:
                _tile_4x1_in_two(jw, row, padded, j, c, padded, depth, h, at + c, padded)
                v += 1


@kernel
def padded_columns(columns):
    """``columns`` rounded up to whole vectors."""
    return -(-columns // LANES) * LANES


@kernel
def gradient(jw, residual, columns, total, b):
    """``b = jw^T residual``, summed in float64 (work space ``total``, padded), rounded to float32."""
    depth, padded, at = jw.shape[0], jw.shape[1], 0
    while at < columns:
        left = padded - at
        if left >= 5 * LANES:
            _sums_5(jw, at, padded, residual, depth, total, at)
            at += 5 * LANES
        elif left >= 2 * LANES:
            _sums_2(jw, at, padded, residual, depth, total, at)
            at += 2 * LANES
        else:
            _sums_1(jw, at, padded, residual, depth, total, at)
            at += LANES
    for a in range(columns):
        b[a] = np.float32(total[a])
