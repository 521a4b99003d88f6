"""The vector intrinsics of the least-squares steps against NumPy, to the bit."""

from __future__ import annotations

import numpy as np
import pytest

from pyfaceau._jit import kernel
from pyfaceau._simd import LANES, WIDE
from pyfaceau._simd_jacobian import rigid_derivatives, turned_vectors
from pyfaceau._simd_shift import map_means
from pyfaceau._simd_solve import chain_tile, factor_row, subtract_multiple, transpose_block, wide_sums

_one_chain, _two_chains, _sums_2 = chain_tile(3, 3), chain_tile(3, 2, 2), wide_sums(2)
_row_2, _eight_maps, _wide_maps = factor_row(2), map_means(LANES), map_means(WIDE)


@kernel
def one_chain(a, first, a_step, b, start, b_step, depth, out, to, out_stride):
    _one_chain(a, first, a_step, b, start, b_step, depth, out, to, out_stride)


@kernel
def two_chains(a, first, a_step, b, start, b_step, depth, out, to, out_stride):
    _two_chains(a, first, a_step, b, start, b_step, depth, out, to, out_stride)


@kernel
def two_vectors_of_sums(matrix, start, step, weights, depth, out, to):
    _sums_2(matrix, start, step, weights, depth, out, to)


@kernel
def two_vectors_of_a_row(h, row, stride, at, inverse, pivots):
    _row_2(h, row, stride, at, inverse, pivots)


@kernel
def multiple(h, first, weight, sums, at, vectors):
    subtract_multiple(h, first, weight, sums, at, vectors)


@kernel
def transposed(matrix, start, to, stride):
    transpose_block(matrix, start, to, stride)


@kernel
def turned(vectors, points, count, r, scale, out, to, step):
    turned_vectors(vectors, points, count, r, scale, out, to, step)


@kernel
def rigid(shape, points, r, scale, out, step):
    rigid_derivatives(shape, points, r, scale, out, step)


@kernel
def means_of_eight(values, weights, starts, at, weights_at, cells_at, cells, means, to, pitch):
    _eight_maps(values, weights, starts, at, weights_at, cells_at, cells, means, to, pitch)


@kernel
def means_of_wide(values, weights, starts, at, weights_at, cells_at, cells, means, to, pitch):
    _wide_maps(values, weights, starts, at, weights_at, cells_at, cells, means, to, pitch)


def chain(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Products [r, c] of float32 columns [k, r] and [k, c], as fused operations: exact product, one rounding."""
    total = np.zeros((a.shape[1], b.shape[1]), np.float32)
    for left, right in zip(a.astype(float), b.astype(float), strict=True):
        total = (total + left[:, None] * right).astype(np.float32)
    return total


@pytest.mark.parametrize("depth", [1, 16, 102])
def test_chain_tile(depth: int) -> None:
    rng, rows, b_step = np.random.default_rng(depth), 3, 27
    a = rng.normal(size=(depth, 5)).astype(np.float32)
    b = rng.normal(size=(depth, b_step)).astype(np.float32)
    paired = depth - depth % 8
    for compiled, vectors, chains in ((one_chain, 3, 1), (two_chains, 2, 2)):
        width, stride = LANES * vectors, LANES * vectors + 3
        out = np.full(2 + rows * stride, 7, np.float32)
        compiled(a, 1, 5, b, 2, b_step, depth, out, 2, stride)
        left, right = a[:, 1:4], b[:, 2 : 2 + width]
        expected = chain(left, right)
        if chains == 2:
            even = np.r_[0:paired:2, paired:depth]
            expected = chain(left[even], right[even]) + chain(left[1:paired:2], right[1:paired:2])
        found = out[2:].reshape(rows, stride)
        np.testing.assert_array_equal(found[:, :width], expected)
        assert (found[:, width:] == 7).all()


def test_wide_sums() -> None:
    rng, depth, step = np.random.default_rng(3), 30, 18
    matrix, weights = rng.normal(size=(depth, step)).astype(np.float32), rng.normal(size=depth).astype(np.float32)
    out, expected = np.full(20, 7.0), np.zeros(16)
    two_vectors_of_sums(matrix, 1, step, weights, depth, out, 3)
    for row, weight in zip(matrix.astype(float), weights.astype(float), strict=True):
        expected += row[1:17] * weight
    np.testing.assert_array_equal(out[3:19], expected)
    assert (out[[0, 1, 2, 19]] == 7).all()


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


def test_transpose_block() -> None:
    """Elsewhere and in place."""
    matrix = np.random.default_rng(4).normal(size=(20, 19)).astype(np.float32)
    expected = matrix.copy()
    expected[9:17, 10:18] = matrix[1:9, 2:10].T
    transposed(matrix, 1 * 19 + 2, 9 * 19 + 10, 19)
    np.testing.assert_array_equal(matrix, expected)
    transposed(matrix, 1 * 19 + 2, 1 * 19 + 2, 19)
    expected[1:9, 2:10] = expected[1:9, 2:10].T.copy()
    np.testing.assert_array_equal(matrix, expected)


@pytest.mark.parametrize("count", [8, 10, 16, 34])
def test_turned_vectors(count: int) -> None:
    rng, points, step = np.random.default_rng(count), 3, 40
    vectors = rng.normal(size=(3 * points, count)).astype(np.float32)
    r, scale, out = rng.normal(size=(3, 3)).astype(np.float32), np.float32(1.3), np.full((6, step), 7, np.float32)
    turned(vectors, points, count, r, scale, out, 5, step)
    x, y, z = vectors.reshape(3, points, count)
    for row in range(2):
        expected = scale * ((r[row, 0] * x + r[row, 1] * y) + r[row, 2] * z)
        np.testing.assert_array_equal(out[3 * row : 3 * row + 3, 5 : 5 + count], expected)
    assert (out[:, :5] == 7).all() and (out[:, 5 + count :] == 7).all()


@pytest.mark.parametrize("points", [8, 9, 20])
def test_rigid_derivatives(points: int) -> None:
    rng, step = np.random.default_rng(points), 7
    shape, r = rng.normal(size=3 * points).astype(np.float32), rng.normal(size=(3, 3)).astype(np.float32)
    scale, out = np.float32(1.3), np.full((2 * points, step), 7, np.float32)
    rigid(shape, points, r, scale, out, step)
    x, y, z = shape.reshape(3, points)
    for row, (r0, r1, r2) in enumerate(r[:2]):
        found = out[row * points : (row + 1) * points].T
        np.testing.assert_array_equal(found[0], (r0 * x + r1 * y) + r2 * z)
        np.testing.assert_array_equal(found[1], scale * (y * r2 - z * r1))
        np.testing.assert_array_equal(found[2], -scale * (x * r2 - z * r0))
        np.testing.assert_array_equal(found[3], scale * (x * r1 - y * r0))
        assert (found[4] == 1 - row).all() and (found[5] == row).all() and (found[6] == 7).all()


@pytest.mark.parametrize("cells", [8, 9, 25, 81, 15])
def test_map_means(cells: int) -> None:
    """All maps at once, each summed in the order of its cells, every step rounded to float32."""
    rng = np.random.default_rng(cells)
    values, weights = (rng.random(5 * cells).astype(np.float32) for _ in range(2))
    cells_at, starts = rng.random((2, cells)).astype(np.float32), rng.integers(0, 4 * cells, (2, 20))
    for compiled, lanes in ((means_of_eight, LANES), (means_of_wide, WIDE)):
        means = np.full((2, 20), 7, np.float32)
        compiled(values, weights, starts, 1, 22, cells_at, cells, means, 3, 20)
        for i in range(lanes):
            at, weights_at = starts[0, 1 + i], starts[1, 2 + i]
            whole, moments = np.float32(0), np.zeros(2, np.float32)
            for k in range(cells):
                product = values[at + k] * weights[weights_at + k]
                whole, moments = whole + product, moments + product * cells_at[:, k]
            np.testing.assert_array_equal(means[:, 3 + i], moments / whole)
        assert (means[:, :3] == 7).all() and (means[:, 3 + lanes :] == 7).all()
