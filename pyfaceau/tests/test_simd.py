"""The vector intrinsics against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from numba.core.errors import TypingError

from pyfaceau._jit import kernel
from pyfaceau._simd import LANES, sample_row, tile_product

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


@kernel
def sampled(image, pitch, x, y, along_x, along_y, count, out, to):
    sample_row(image, pitch, np.int32(x), np.int32(y), along_x, along_y, count, out, to)


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


def test_other_types_do_not_compile() -> None:
    """Nothing is checked at run time, so a wrong dtype must not get that far."""
    out = np.zeros(8, np.float32)
    with pytest.raises(TypingError):
        tile_1x1(0, 1, 1, 1, np.zeros(8), 0, 8, out, 0, 8)


def test_intrinsics_are_made_once() -> None:
    assert tile_product(4, 3) is _tile_4x3
