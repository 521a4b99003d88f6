"""The vector intrinsics against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from numba.core.errors import TypingError

from pyfaceau._jit import kernel
from pyfaceau._simd import LANES, factor_row, paired_moments, sample_row, subtract_multiple, tile_product

_tile_1x1, _tile_4x3, _tile_3x2 = tile_product(1, 1), tile_product(4, 3), tile_product(3, 2)


@kernel
def tile_1x1(address, weight_stride, weight_step, depth, x, start, stride, out, to, out_stride):
    _tile_1x1(address, weight_stride, weight_step, depth, x, start, stride, out, to, out_stride)


@kernel
def tile_4x3(address, weight_stride, weight_step, depth, x, start, stride, out, to, out_stride):
    _tile_4x3(address, weight_stride, weight_step, depth, x, start, stride, out, to, out_stride)


@kernel
def tile_3x2(address, weight_stride, weight_step, depth, x, start, stride, out, to, out_stride):
    _tile_3x2(address, weight_stride, weight_step, depth, x, start, stride, out, to, out_stride)


_row_2 = factor_row(2)


@kernel
def two_vectors_of_a_row(h, row, stride, at, inverse, pivots):
    _row_2(h, row, stride, at, inverse, pivots)


@kernel
def multiple(h, first, weight, sums, at, vectors):
    subtract_multiple(h, first, weight, sums, at, vectors)


@kernel
def sampled(image, pitch, x, y, along_x, along_y, count, out, to):
    sample_row(image, pitch, np.int32(x), np.int32(y), along_x, along_y, count, out, to)


@kernel
def moments_of_two(values, first, second, weights, first_weight, second_weight, moments, cells, out):
    paired_moments(values, first, second, weights, first_weight, second_weight, moments, cells, out)


@pytest.mark.parametrize(("compiled", "rows", "vectors"), [(tile_1x1, 1, 1), (tile_4x3, 4, 3), (tile_3x2, 3, 2)])
@pytest.mark.parametrize("depth", [1, 7, 122])
@pytest.mark.parametrize("transposed", [False, True])
def test_tile_product(compiled: object, rows: int, vectors: int, depth: int, transposed: bool) -> None:
    """Adds to what is there; 3e-5 for 122 float32 terms; whole numbers are exact."""
    rng = np.random.default_rng(rows)
    width, stride, out_stride = LANES * vectors, LANES * vectors + 3, LANES * vectors + 5
    for whole in (False, True):
        weights = rng.normal(size=(rows + 2, depth + 4)).astype(np.float32)
        x = rng.normal(size=2 + depth * stride).astype(np.float32)
        before = rng.normal(size=1 + rows * out_stride).astype(np.float32)
        if whole:
            weights, x, before = np.rint(weights * 9), np.rint(x * 9), np.rint(before * 9)
        out = before.copy()
        stored = np.ascontiguousarray(weights.T) if transposed else weights
        steps = (1, stored.shape[1]) if transposed else (stored.shape[1], 1)  # to the next row, to the next term
        address = stored.ctypes.data + 4 * (steps[0] + 2 * steps[1])  # of row 1, term 2
        compiled(address, *steps, depth, x, 2, stride, out, 1, out_stride)  # type: ignore[operator]
        inputs = x[2:].reshape(depth, stride)[:, :width].astype(float)
        expected = before.astype(float)
        expected[1:].reshape(rows, out_stride)[:, :width] += weights[1 : 1 + rows, 2 : 2 + depth].astype(float) @ inputs
        np.testing.assert_allclose(out, expected, rtol=0, atol=0 if whole else 3e-5)


def test_factor_row() -> None:
    """Products are rounded to float32 before they are subtracted in float64, in order."""
    rng, stride, row, at, inverse = np.random.default_rng(0), 24, 5, 8, float(np.float32(0.3))
    h, pivots = rng.normal(size=(8, stride)).astype(np.float32), rng.normal(size=stride)
    expected, left = h.copy(), pivots.copy()
    for i in range(at, at + 16):
        total = float(h[row, i])
        for k in range(row):
            total -= float(h[k, i] * h[k, row])
        expected[row, i] = np.float32(total * inverse)
        left[i] -= float(expected[row, i]) ** 2
    two_vectors_of_a_row(h.reshape(-1), row, stride, at, inverse, pivots)
    np.testing.assert_array_equal(h, expected)
    np.testing.assert_array_equal(pivots, left)


def test_subtract_multiple() -> None:
    rng, weight = np.random.default_rng(1), np.float32(0.7)
    h, sums = rng.normal(size=30).astype(np.float32), rng.normal(size=20)
    expected = sums.copy()
    expected[3:19] -= (h[5:21] * weight).astype(float)
    multiple(h, 5, weight, sums, 3, 2)
    np.testing.assert_array_equal(sums, expected)


@pytest.mark.parametrize("count", [8, 13, 16, 21])
def test_sample_row(count: int) -> None:
    """Bilinear with 1/32 px steps: what the four taps give, exactly."""
    rng = np.random.default_rng(count)
    image = rng.integers(0, 256, (40, 50), np.uint8)
    along_x, along_y = (rng.integers(0, 30 * 1024, count).astype(np.int32) for _ in range(2))
    x, y, out = 3 * 1024 + 777, 2 * 1024 + 5, np.full(count + 4, -1, np.float32)
    fixed_x, fixed_y = (x + along_x) >> 5, (y + along_y) >> 5
    column, row, fx, fy = fixed_x >> 5, fixed_y >> 5, (fixed_x & 31) / 32, (fixed_y & 31) / 32
    taps = image.astype(float)
    upper = (1 - fx) * taps[row, column] + fx * taps[row, column + 1]
    lower = (1 - fx) * taps[row + 1, column] + fx * taps[row + 1, column + 1]
    sampled(image.reshape(-1), 50, x, y, along_x, along_y, count, out, 2)
    np.testing.assert_array_equal(out[2 : 2 + count], ((1 - fy) * upper + fy * lower).astype(np.float32))
    assert (out[[0, 1, -2, -1]] == -1).all()


@pytest.mark.parametrize("cells", [9, 25, 81, 4, 7])
def test_paired_moments(cells: int) -> None:
    """Two rows at once, each summed in the order of its cells, every step rounded to float32."""
    rng = np.random.default_rng(cells)
    values, weights = (rng.random(3 * cells + 5).astype(np.float32) for _ in range(2))
    moments, out = rng.random((cells, 4)).astype(np.float32), np.empty(8, np.float32)
    starts = ((2, 1), (cells + 3, 2 * cells))
    moments_of_two(values, 2, cells + 3, weights, 1, 2 * cells, moments.reshape(-1), cells, out)
    for which, (at, weight_at) in enumerate(starts):
        expected = np.zeros(4, np.float32)
        for k in range(cells):
            expected = expected + values[at + k] * weights[weight_at + k] * moments[k]
        np.testing.assert_array_equal(out[4 * which : 4 * which + 4], expected)


def test_other_types_do_not_compile() -> None:
    """Nothing is checked at run time, so a wrong dtype must not get that far."""
    out = np.zeros(8, np.float32)
    with pytest.raises(TypingError):
        tile_1x1(0, 1, 1, 1, np.zeros(8), 0, 8, out, 0, 8)


def test_intrinsics_are_made_once() -> None:
    assert tile_product(4, 3) is _tile_4x3
