"""Dense layers whose weights are used where they lie: products of a large mapped matrix and a narrow one.

The weights of one view (11 to 49 MB) do not stay in the cache between frames, so that each of them is read from
memory once a frame. What matters is that this happens while the processor multiplies: weights are fetched ahead, and
all columns of the input meet a weight while it is in the first-level cache.

Every cell is summed as the reference's BLAS sums it; see `pyfaceau._gemm`.
"""

from __future__ import annotations

from pyfaceau._gemm import block_end
from pyfaceau._jit import kernel
from pyfaceau._simd import LANES
from pyfaceau._simd_exp import exact_logistic
from pyfaceau._simd_layers import layer_tile, paired_tile

SIGMOID, RELU = 0, 2
_ITEM = 4  # bytes of a weight
_DEPTH = 128  # inputs at a time: 16 columns of them stay in the first-level cache
_HALF = 6  # rows of a tile
_GROUP = 2 * _HALF  # rows that all columns go through before the next rows' turn
_WIDE = 2 * LANES

# Twelve sums at once keep the multipliers busy; the others are for what is left.
_tile_6x2, _tile_6x1, _tile_4x1, _tile_1x4, _tile_1x1 = (
    layer_tile(rows, vectors) for rows, vectors in ((6, 2), (6, 1), (4, 1), (1, 4), (1, 1))
)
_paired_6, _paired_4 = paired_tile(6), paired_tile(4)


@kernel
def _tile(
    rows, width, address, inputs, depth, x, start, columns, part, out, to, bias, r, begin, earlier, end, ahead,
    ahead_inputs,
):  # fmt: skip
    """One of the tiles; see `pyfaceau._simd_layers.layer_tile`."""
    if rows == 6 and width == 2:
        _tile_6x2(
            address, inputs, depth, x, start, columns, part, out, to, bias, r, begin, earlier, end, ahead, ahead_inputs
        )
    elif rows == 6:
        _tile_6x1(
            address, inputs, depth, x, start, columns, part, out, to, bias, r, begin, earlier, end, ahead, ahead_inputs
        )
    elif rows == 4:
        _tile_4x1(
            address, inputs, depth, x, start, columns, part, out, to, bias, r, begin, earlier, end, ahead, ahead_inputs
        )
    elif width == 4:
        _tile_1x4(
            address, inputs, depth, x, start, columns, part, out, to, bias, r, begin, earlier, end, ahead, ahead_inputs
        )
    else:
        _tile_1x1(
            address, inputs, depth, x, start, columns, part, out, to, bias, r, begin, earlier, end, ahead, ahead_inputs
        )


@kernel
def _rows_at_once(row, rows):
    """Rows of the tiles at ``row``: halves of twelves, then fours, then single rows."""
    if row < rows - rows % _GROUP:
        return _HALF
    return 4 if row < rows - rows % 4 else 1


@kernel
def _next_tile(row, high, column, used):
    """Vectors of a row's next tile, and whether its sums are in two chains."""
    whole = used - column >= LANES
    if high == 4:
        return 1, whole
    if high == 1:
        return 4 if used - column > 3 * LANES else 1, False
    upper = row % _GROUP == 0
    if used >= _WIDE and upper and column == 0:
        return 1, True
    if used - column >= _WIDE:
        return 2, False
    return 1, used >= _WIDE and whole


@kernel
def _group(
    address, inputs, low, depth, block, x, columns, used, part, out, bias, first, last, rows, end, ahead, ahead_inputs
):
    """Rows ``first`` to ``last`` of a layer's output, all columns: ``depth`` inputs from ``low`` on.

    They belong to the block of inputs from ``block`` on. Two chains are summed at the end of a block, for all of it.
    """
    begin, ends_block = low == block, end >= 0
    earlier, how = ends_block and block > 0, max(end, 0)
    r = first
    while r < last:
        high, column = _rows_at_once(r, rows), 0
        weights, fetched = address + _ITEM * r * inputs, ahead + _ITEM * (r - first) * ahead_inputs
        while column < used:
            width, paired = _next_tile(r, high, column, used)
            to = r * columns + column
            if not paired:
                _tile(
                    high, width, weights + _ITEM * low, inputs, depth, x, low * columns + column, columns, part, out,
                    to, bias, r, begin, earlier, how, fetched, ahead_inputs,
                )  # fmt: skip
            elif ends_block and high == 6:
                _paired_6(
                    weights + _ITEM * block, inputs, low + depth - block, x, block * columns + column, columns, out,
                    to, bias, r, earlier, how, fetched, ahead_inputs,
                )  # fmt: skip
            elif ends_block:
                _paired_4(
                    weights + _ITEM * block, inputs, low + depth - block, x, block * columns + column, columns, out,
                    to, bias, r, earlier, how, fetched, ahead_inputs,
                )  # fmt: skip
            column += LANES * width
        r += high


@kernel
def dense_layer(address, rows, inputs, bias, activation, x, columns, used, spare, out, following, following_inputs):
    """A dense layer: ``out`` [rows, columns] = activation(weights [rows, inputs] ``x`` [inputs, columns] + ``bias``).

    Rounded as the reference does: the product by OpenBLAS's AVX2 kernels (blocks of inputs, one or two chains of fused
    operations from 0 for each, the blocks added up; see `pyfaceau._gemm`); then the bias; then ReLU, or
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
        Columns that count, on which the roundings depend; fewer than 8 more are ``columns``.
    following, following_inputs : int
        Address and inputs of the layer that comes next, which is fetched towards the end.
    """
    block, block_ends, low = 0, block_end(0, inputs), 0
    while low < inputs:
        depth = min(_DEPTH, block_ends - low)
        ends = low + depth == inputs
        end = -1 if low + depth < block_ends else 0 if not ends else 2 if activation == RELU else 1
        part = out if block == 0 else spare
        target = part if end < 0 else out
        for first in range(0, rows, _GROUP):
            last = min(first + _GROUP, rows)
            ahead, ahead_inputs = address + _ITEM * (last * inputs + low), inputs
            if last == rows and not ends:
                ahead = address + _ITEM * (low + depth)
            elif last == rows:
                ahead, ahead_inputs = following, following_inputs
            _group(
                address, inputs, low, depth, block, x, columns, used, part, target, bias, first, last, rows, end,
                ahead, ahead_inputs,
            )  # fmt: skip
        low += depth
        if end >= 0:
            block, block_ends = low, block_end(low, inputs)
    if activation == SIGMOID:
        for i in range(0, rows * columns, LANES):
            exact_logistic(out, i)
