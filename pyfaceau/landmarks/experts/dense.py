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
from pyfaceau._simd_layers import layer_tile

SIGMOID, RELU = 0, 2
_ITEM = 4  # bytes of a weight
_HALF = 6  # rows of a tile
_GROUP = 2 * _HALF  # rows that all columns go through before the next rows' turn
_WIDE = 2 * LANES

# Twelve sums at once keep the multipliers busy; the others are for what is left.
_tile_6x2, _tile_6x1, _tile_4x1, _tile_1x4, _tile_1x1 = (
    layer_tile(rows, vectors) for rows, vectors in ((6, 2), (6, 1), (4, 1), (1, 4), (1, 1))
)
_paired_6, _paired_4 = (layer_tile(rows, 1, in_two_chains=True) for rows in (6, 4))


@kernel
def _tile(
    rows, width, paired, address, inputs, depth, x, start, columns, out, to, bias, r, earlier, end, ahead, ahead_inputs
):
    """One of the tiles; see `pyfaceau._simd_layers.layer_tile`."""
    if paired and rows == 6:
        _paired_6(address, inputs, depth, x, start, columns, out, to, bias, r, earlier, end, ahead, ahead_inputs)
    elif paired:
        _paired_4(address, inputs, depth, x, start, columns, out, to, bias, r, earlier, end, ahead, ahead_inputs)
    elif rows == 6 and width == 2:
        _tile_6x2(address, inputs, depth, x, start, columns, out, to, bias, r, earlier, end, ahead, ahead_inputs)
    elif rows == 6:
        _tile_6x1(address, inputs, depth, x, start, columns, out, to, bias, r, earlier, end, ahead, ahead_inputs)
    elif rows == 4:
        _tile_4x1(address, inputs, depth, x, start, columns, out, to, bias, r, earlier, end, ahead, ahead_inputs)
    elif width == 4:
        _tile_1x4(address, inputs, depth, x, start, columns, out, to, bias, r, earlier, end, ahead, ahead_inputs)
    else:
        _tile_1x1(address, inputs, depth, x, start, columns, out, to, bias, r, earlier, end, ahead, ahead_inputs)


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
    address, inputs, low, depth, x, columns, used, out, bias, first, last, rows, earlier, end, ahead, ahead_inputs
):
    """Rows ``first`` to ``last`` of a layer's output, all columns: ``depth`` inputs from ``low`` on."""
    r = first
    while r < last:
        high, column = _rows_at_once(r, rows), 0
        while column < used:
            width, paired = _next_tile(r, high, column, used)
            _tile(
                high, width, paired, address + _ITEM * (r * inputs + low), inputs, depth, x, low * columns + column,
                columns, out, r * columns + column, bias, r, earlier, end,
                ahead + _ITEM * (r - first) * ahead_inputs, ahead_inputs,
            )  # fmt: skip
            column += LANES * width
        r += high


@kernel
def dense_layer(address, rows, inputs, bias, activation, x, columns, used, out, following, following_inputs):
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
    x, out : np.ndarray [dtype=float32]
        Flat. ``columns`` is a multiple of 8.
    used : int
        Columns that count, on which the roundings depend; fewer than 8 more are ``columns``.
    following, following_inputs : int
        Address and inputs of the layer that comes next, which is fetched towards the end.
    """
    low = 0
    while low < inputs:
        high = block_end(low, inputs)
        end = 0 if high < inputs else 2 if activation == RELU else 1
        for first in range(0, rows, _GROUP):
            last = min(first + _GROUP, rows)
            ahead, ahead_inputs = address + _ITEM * (last * inputs + low), inputs
            if last == rows and high < inputs:
                ahead = address + _ITEM * high
            elif last == rows:
                ahead, ahead_inputs = following, following_inputs
            _group(
                address, inputs, low, high - low, x, columns, used, out, bias, first, last, rows, low > 0, end,
                ahead, ahead_inputs,
            )  # fmt: skip
        low = high
    if activation == SIGMOID:
        for i in range(0, rows * columns, LANES):
            exact_logistic(out, i)
