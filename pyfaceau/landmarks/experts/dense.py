"""Dense layers whose weights are used where they lie: products of a large mapped matrix and a narrow one.

The weights of one view (11 to 49 MB) do not stay in the cache between frames, so that each of them is read from
memory once a frame. What matters is that this happens while the processor multiplies: weights are fetched ahead, and
all columns of the input meet a weight while it is in the first-level cache.
"""

from __future__ import annotations

from pyfaceau._gemm import block_end
from pyfaceau._jit import kernel
from pyfaceau._simd import LANES
from pyfaceau._simd_exp import exact_logistic
from pyfaceau._simd_layers import CHAINS, chained_rows, layer_tile

SIGMOID, RELU = 0, 2
_ITEM = 4  # bytes of a weight
_DEPTH = 128  # inputs at a time: 24 columns of them stay in the first-level cache
_GROUP = 12  # rows that all columns go through before the next rows' turn
_SMALL = 1_000_000  # products of so many terms, or fewer, have no blocks, but last columns of their own

# Twelve or ten sums at once keep the multipliers busy; the others are for what is left.
_tile_4x3, _tile_2x5, _tile_4x2, _tile_4x1, _tile_1x1 = (
    layer_tile(rows, vectors) for rows, vectors in ((4, 3), (2, 5), (4, 2), (4, 1), (1, 1))
)
_chained_2, _chained_1 = chained_rows(2), chained_rows(1)


@kernel
def _width(vectors):
    """Vectors of the next tile where so many columns are left: threes, and one or two fives where they do not fit."""
    if vectors % 3 == 0:
        return 3
    if vectors % 3 == 2:
        return 5 if vectors >= 5 else 2
    return 5 if vectors >= 10 else 2 if vectors >= 4 else 1


@kernel
def _tile(
    rows, width, address, inputs, depth, x, start, columns, part, out, to, bias, r, begin, earlier, end, ahead,
    ahead_inputs,
):  # fmt: skip
    """One of the tiles; see `pyfaceau._simd_layers.layer_tile`."""
    if width == 3:
        _tile_4x3(
            address, inputs, depth, x, start, columns, part, out, to, bias, r, begin, earlier, end, ahead, ahead_inputs
        )
    elif width == 5:
        _tile_2x5(
            address, inputs, depth, x, start, columns, part, out, to, bias, r, begin, earlier, end, ahead, ahead_inputs
        )
    elif width == 2:
        _tile_4x2(
            address, inputs, depth, x, start, columns, part, out, to, bias, r, begin, earlier, end, ahead, ahead_inputs
        )
    elif rows == 4:
        _tile_4x1(
            address, inputs, depth, x, start, columns, part, out, to, bias, r, begin, earlier, end, ahead, ahead_inputs
        )
    else:
        _tile_1x1(
            address, inputs, depth, x, start, columns, part, out, to, bias, r, begin, earlier, end, ahead, ahead_inputs
        )


@kernel
def _group(
    address, inputs, depth, x, start, columns, whole, part, out, bias, first, last, begin, earlier, end, ahead,
    ahead_inputs,
):  # fmt: skip
    """Rows ``first`` to ``last`` of a layer's output, the first ``whole`` columns."""
    column = 0
    while column < whole:
        width = _width((whole - column) // LANES)
        rows, r = 2 if width == 5 else 4, first
        while r < last:
            if r + rows > last:
                rows = 1
            below = r - first
            for vector in range(0, width, width if rows > 1 else 1):
                _tile(
                    rows, width if rows > 1 else 1, address + _ITEM * below * inputs, inputs, depth,
                    x, start + column + LANES * vector, columns, part, out, r * columns + column + LANES * vector,
                    bias, r, begin, earlier, end, ahead + _ITEM * below * ahead_inputs, ahead_inputs,
                )  # fmt: skip
            r += rows
        column += LANES * width


@kernel
def dense_layer(address, rows, inputs, bias, activation, x, columns, used, spare, out, following, following_inputs):
    """A dense layer: ``out`` [rows, columns] = activation(weights [rows, inputs] ``x`` [inputs, columns] + ``bias``).

    Rounded as in the reference's recorded responses, which OpenBLAS's AVX-512 kernels made. Inputs in blocks of at
    most 320 (see `pyfaceau._gemm.block_end`), each one chain of fused operations from 0, the blocks added up. Where
    rows x inputs x columns are a million or fewer, all inputs are one block, and up to eight columns that are over
    after a multiple of 16 are summed in sixteen chains (from 32 inputs on). Then the bias; then ReLU, or
    1 / (1 + exp(-z)) in float32 with the exponential of the C library.

    Parameters
    ----------
    address : int
        Of the weights, float32 row by row, in memory that the caller keeps alive.
    bias : np.ndarray [shape=(>= rows,), dtype=float32]
    activation : int
        0 sigmoid, 2 ReLU, any other none.
    x, spare, out : np.ndarray [dtype=float32]
        Flat. ``columns`` is a multiple of 8; ``spare`` is as large as ``out``.
    used : int
        Columns that count.
    following, following_inputs : int
        Address and inputs of the layer that comes next, which is fetched towards the end.
    """
    small, over = rows * inputs * used <= _SMALL, used % CHAINS
    if not small or over > LANES or inputs < 2 * CHAINS:
        over = 0
    whole = used - over if over > 0 else columns
    first_of_block, block = 0, inputs if small else block_end(0, inputs)
    low = 0
    while low < inputs:
        depth = min(_DEPTH, block - low)
        ends_block, ends = low + depth == block, low + depth == inputs
        begin, earlier = low == first_of_block, ends_block and first_of_block > 0
        end = 0 if not ends else 2 if activation == RELU else 1
        part = out if first_of_block == 0 else spare
        target = out if ends_block else part
        for first in range(0, rows, _GROUP):
            last = min(first + _GROUP, rows)
            ahead, ahead_inputs = address + _ITEM * (last * inputs + low), inputs
            if last == rows and not ends:
                ahead = address + _ITEM * (low + depth)
            elif last == rows:
                ahead, ahead_inputs = following, following_inputs
            _group(
                address + _ITEM * (first * inputs + low), inputs, depth, x, low * columns, columns, whole, part, target,
                bias, first, last, begin, earlier, end, ahead, ahead_inputs,
            )  # fmt: skip
        low += depth
        if ends_block:
            first_of_block, block = low, block_end(low, inputs)
    if over > 0:
        rectify, pairs, step = activation == RELU, rows // 2 * 2, _ITEM * inputs
        for r in range(0, pairs, 2):
            _chained_2(address + r * step, inputs, x, whole, columns, out, r * columns + whole, bias, r, rectify)
        for r in range(pairs, rows):
            _chained_1(address + r * step, inputs, x, whole, columns, out, r * columns + whole, bias, r, rectify)
    if activation == SIGMOID:
        for i in range(0, rows * columns, LANES):
            exact_logistic(out, i)
