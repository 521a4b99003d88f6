"""Dense layers whose weights are used where they lie: products of a large mapped matrix and a narrow one.

The weights of one view (11 to 49 MB) do not stay in the cache between frames, so that each of them is read from
memory once a frame. What matters is that this happens while the processor multiplies: weights are fetched ahead, and
all columns of the input meet a weight while it is in the first-level cache.

Every cell is summed as the reference's BLAS sums it; see `pyfaceau._gemm`.
"""

from __future__ import annotations

from pyfaceau._gemm import block_end
from pyfaceau._jit import kernel
from pyfaceau._simd import LANES, WIDE
from pyfaceau._simd_exp import exact_logistic
from pyfaceau._simd_layers import floats_at, layer_tile

SIGMOID, RELU = 0, 2
_ITEM = 4  # bytes of a weight
_HALF = 6  # rows of a tile
_GROUP = 2 * _HALF  # rows that all columns go through before the next rows' turn
_SIXTEEN = 2 * LANES
_TURNS = 8  # rows that a tile may fetch
#: Sixteens of columns of the widest tile: 12 sums in 16 registers, or 24 in 32 of twice the size.
_MOST = 4 if WIDE == _SIXTEEN else 1
#: Eights that are summed in two chains at once: 12 vectors of sums, too.
_TWINS = WIDE // LANES

_tile_6x64, _tile_6x48, _tile_6x32, _tile_6x16, _tile_6x8 = (layer_tile(_HALF, eights) for eights in (8, 6, 4, 2, 1))
_tile_4x8, _tile_1x32, _tile_1x8 = (layer_tile(rows, eights) for rows, eights in ((4, 1), (1, 4), (1, 1)))
_paired_6x2, _paired_6, _paired_4x2, _paired_4 = (
    layer_tile(rows, eights, in_two_chains=True) for rows in (6, 4) for eights in (2, 1)
)


@kernel
def _tile(
    rows, eights, gap, address, inputs, depth, x, columns, out, bias, earlier, end, ahead, ahead_inputs, ahead_rows
):
    """One of the tiles, in two chains where there is a ``gap``; see `pyfaceau._simd_layers.layer_tile`."""
    if _TWINS == 2 and gap > 0 and eights == 2 and rows == 6:
        _paired_6x2(address, inputs, depth, x, columns, out, gap, bias, earlier, end, ahead, ahead_inputs, ahead_rows)
    elif _TWINS == 2 and gap > 0 and eights == 2:
        _paired_4x2(address, inputs, depth, x, columns, out, gap, bias, earlier, end, ahead, ahead_inputs, ahead_rows)
    elif gap > 0 and rows == 6:
        _paired_6(address, inputs, depth, x, columns, out, gap, bias, earlier, end, ahead, ahead_inputs, ahead_rows)
    elif gap > 0:
        _paired_4(address, inputs, depth, x, columns, out, gap, bias, earlier, end, ahead, ahead_inputs, ahead_rows)
    elif _MOST == 4 and rows == 6 and eights == 8:
        _tile_6x64(address, inputs, depth, x, columns, out, gap, bias, earlier, end, ahead, ahead_inputs, ahead_rows)
    elif _MOST == 4 and rows == 6 and eights == 6:
        _tile_6x48(address, inputs, depth, x, columns, out, gap, bias, earlier, end, ahead, ahead_inputs, ahead_rows)
    elif _MOST == 4 and rows == 6 and eights == 4:
        _tile_6x32(address, inputs, depth, x, columns, out, gap, bias, earlier, end, ahead, ahead_inputs, ahead_rows)
    elif rows == 6 and eights == 2:
        _tile_6x16(address, inputs, depth, x, columns, out, gap, bias, earlier, end, ahead, ahead_inputs, ahead_rows)
    elif rows == 6:
        _tile_6x8(address, inputs, depth, x, columns, out, gap, bias, earlier, end, ahead, ahead_inputs, ahead_rows)
    elif rows == 4:
        _tile_4x8(address, inputs, depth, x, columns, out, gap, bias, earlier, end, ahead, ahead_inputs, ahead_rows)
    elif eights == 4:
        _tile_1x32(address, inputs, depth, x, columns, out, gap, bias, earlier, end, ahead, ahead_inputs, ahead_rows)
    else:
        _tile_1x8(address, inputs, depth, x, columns, out, gap, bias, earlier, end, ahead, ahead_inputs, ahead_rows)


@kernel
def _rows_at_once(row, rows):
    """Rows of the tiles at ``row``: halves of twelves, then fours, then single rows."""
    if row < rows - rows % _GROUP:
        return _HALF
    return 4 if row < rows - rows % 4 else 1


@kernel
def _next_tile(row, high, column, used):
    """Eights of a row's next tile, and the gap between them where its sums are in two chains, else 0."""
    left = used - column
    if high == 4:
        twins = _TWINS if left >= _SIXTEEN else 1
        return twins, LANES if left >= LANES else 0
    if high == 1:
        return 4 if left > 3 * LANES else 1, 0
    if used >= _SIXTEEN and row % _GROUP == 0 and column == 0:
        last = (left - LANES) // _SIXTEEN * _SIXTEEN + LANES  # where the whole eight is that sixteens leave over
        return (2, last) if _TWINS == 2 and used - last >= LANES else (1, LANES)
    if left >= _SIXTEEN:
        sixteens = left // _SIXTEEN
        tiles = -(-sixteens // _MOST)
        return 2 * -(-sixteens // tiles), 0
    return 1, LANES if used >= _SIXTEEN and left >= LANES else 0


@kernel
def _group(address, inputs, depth, x, columns, used, out, bias, first, last, rows, earlier, end, ahead, ahead_inputs):
    """Rows ``first`` to ``last`` of a layer's output, all columns; addresses as in `layer_tile`, of row 0."""
    r, done, all_eights = first, 0, (last - first) * -(-used // LANES)
    while r < last:
        high, column, apart = _rows_at_once(r, rows), 0, 0
        while column < used:
            if column == apart > 0:  # this eight has been dealt with along with the first
                column += LANES
                continue
            eights, gap = _next_tile(r, high, column, used)
            # Each tile fetches the share of the next rows that is its share of the work.
            fetched, done = done * _GROUP // all_eights, done + high * eights
            ahead_rows = min(max(done * _GROUP // all_eights - fetched, 1), _TURNS)
            _tile(
                high, eights, gap, address + _ITEM * r * inputs, inputs, depth, x + _ITEM * column, columns,
                out + _ITEM * (r * columns + column), bias + _ITEM * r, earlier, end,
                ahead + _ITEM * fetched * ahead_inputs, ahead_inputs, ahead_rows,
            )  # fmt: skip
            apart = gap if gap > LANES else apart
            column += LANES if gap > LANES else LANES * eights
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
                address + _ITEM * low, inputs, high - low, floats_at(x, low * columns), columns, used,
                floats_at(out, 0), floats_at(bias, 0), first, last, rows, low > 0, end, ahead, ahead_inputs,
            )  # fmt: skip
        low = high
    if activation == SIGMOID:
        for i in range(0, rows * columns, LANES):
            exact_logistic(out, i)
