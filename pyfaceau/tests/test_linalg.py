"""Small matrices: bit for bit what OpenCV computes, where OpenFace lets OpenCV compute."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from pyfaceau import _linalg
from pyfaceau.tests import landmark_twin as twin

F32_EPS = np.finfo(np.float32).eps


def solve(h: np.ndarray, b: np.ndarray) -> tuple[bool, np.ndarray]:
    size, x = len(b), b.copy()
    width = -(-size // 8) * 8  # whole vectors
    work = np.full((width, width), np.nan, np.float32)
    work[:size, :size] = np.tril(h)
    solved = _linalg.cholesky_solve(work, x, np.empty(3 * width))
    return bool(solved), x


def svd(a: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """w, u, vt as ``cv2.SVDecomp`` gives them."""
    ut, vt, w = np.ascontiguousarray(a.T), np.empty_like(a), np.empty(len(a))
    _linalg.svd_square(ut, w, vt)
    return w, ut.T, vt


def to_vector(r: np.ndarray) -> np.ndarray:
    vector = np.empty(3, np.float32)
    _linalg.matrix_to_axis_angle(r, vector)
    return vector


def to_matrix(vector: np.ndarray) -> np.ndarray:
    r = np.empty((3, 3), np.float32)
    _linalg.axis_angle_to_matrix(vector, r)
    return r


def normal_equations(size: int, rng: np.random.Generator) -> np.ndarray:
    """A symmetric matrix, positive definite but for rounding, of any magnitude."""
    a = rng.normal(size=(size + rng.integers(0, 5), size)) * 10.0 ** rng.integers(-3, 3)
    h = (a.T @ a).astype(np.float32)
    return (h + h.T) / np.float32(2)


# --- Cholesky -------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [4, 6, 16, 34, 38, 40])  # OpenCV solves up to 3 unknowns by Cramer's rule
def test_cholesky_is_opencvs_to_the_bit(size: int) -> None:
    rng = np.random.default_rng(size)
    indefinite = 0
    for trial in range(250):
        h = normal_equations(size, rng)
        if trial % 5 == 0:
            h -= np.float32(rng.uniform(0, 2) * np.trace(h) / size) * np.eye(size, dtype=np.float32)
        b = rng.normal(size=size).astype(np.float32)
        expected, x = cv2.solve(h, b[:, None], flags=cv2.DECOMP_CHOLESKY)
        solved, mine = solve(h, b)
        assert solved == expected
        np.testing.assert_array_equal(mine, x.ravel() if expected else np.zeros(size, np.float32))
        indefinite += not expected
    assert 10 < indefinite < 60


def test_cholesky_reads_the_lower_triangle_only() -> None:
    h = normal_equations(6, np.random.default_rng(0))
    b = np.arange(6, dtype=np.float32)
    _, expected = solve(h, b)
    h[np.triu_indices(6, 1)] = np.nan
    solved, x = solve(h, b)
    assert solved
    np.testing.assert_array_equal(x, expected)


def test_cholesky_agrees_with_its_twin() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        h = normal_equations(6, rng) + np.float32(1e-3) * np.eye(6, dtype=np.float32)
        b = rng.normal(size=6).astype(np.float32)
        _, x = solve(h, b)
        np.testing.assert_allclose(x, twin.solve(h, b), rtol=1e-4 * np.linalg.cond(h.astype(float)))
    assert not twin.solve(-np.eye(6), np.ones(6)).any()


@pytest.mark.parametrize("h", [np.zeros((6, 6)), -np.eye(6), np.diag([1, 1, 1, 1, 1, F32_EPS / 2])])
def test_a_matrix_that_is_not_positive_definite_gives_a_zero_step(h: np.ndarray) -> None:
    solved, x = solve(h.astype(np.float32), np.ones(6, np.float32))
    assert not solved
    assert not x.any()


def test_nan_in_the_matrix_does_not_look_like_a_solution() -> None:
    h = np.eye(6, dtype=np.float32)
    h[2, 2] = np.nan
    _, x = solve(h, np.ones(6, np.float32))
    assert np.isnan(x).any()


# --- singular values ------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [2, 3, 4])
def test_svd_is_opencvs_to_the_bit(size: int) -> None:
    rng = np.random.default_rng(size)
    for trial in range(1500):
        a = rng.normal(size=(size, size))
        if trial % 4 == 1:  # the small rotations of an update
            a = np.eye(size) + (a - a.T) * 10.0 ** rng.uniform(-5, 0)
        if trial % 4 == 2:
            a = np.diag(rng.choice([-1.0, 1.0, 2.0], size))  # equal singular values
        if trial % 4 == 3:
            a *= 10.0 ** rng.uniform(-12, 12)
        a = a.astype(np.float32)
        for mine, expected in zip(svd(a), cv2.SVDecomp(a), strict=True):
            np.testing.assert_array_equal(mine.astype(np.float32), expected.reshape(mine.shape))


def test_svd_of_a_singular_matrix_has_zero_singular_value_and_vector() -> None:
    a = np.outer([1, 2, 3], [3, 1, 2]).astype(np.float32)
    w, u, vt = svd(a)
    np.testing.assert_allclose(w, np.linalg.svd(a.astype(float))[1], atol=1e-5)
    np.testing.assert_allclose((u * w) @ vt, a, atol=1e-5)
    w, u, _ = svd(np.zeros((3, 3), np.float32))
    assert not w.any()
    assert not u.any()


# --- products and determinants --------------------------------------------------------------------


def test_products_and_determinants() -> None:
    rng = np.random.default_rng(5)
    for _ in range(200):
        a, b = rng.normal(size=(2, 3, 3)).astype(np.float32)
        out = np.empty((3, 3), np.float32)
        _linalg.multiply3(a, b, out)
        for i in range(3):
            for j in range(3):
                assert out[i, j] == (a[i, 0] * b[0, j] + a[i, 1] * b[1, j]) + a[i, 2] * b[2, j]
        assert _linalg.determinant3(a) == pytest.approx(np.linalg.det(a.astype(float)), rel=1e-9, abs=1e-12)
        assert np.float32(_linalg.determinant3(a)) == np.float32(cv2.determinant(a))


# --- Rodrigues ------------------------------------------------------------------------------------


def random_vector(rng: np.random.Generator, low: float, high: float) -> np.ndarray:
    """An axis-angle vector of an angle between ``low`` and ``high``, evenly distributed in its logarithm."""
    v = rng.normal(size=3)
    return (v / np.linalg.norm(v) * np.exp(rng.uniform(np.log(low), np.log(high)))).astype(np.float32)


def test_vector_to_matrix_is_opencvs_to_the_bit() -> None:
    rng = np.random.default_rng(0)
    vectors = [random_vector(rng, 1e-9, 10) for _ in range(4000)]
    vectors += [np.zeros(3, np.float32), np.full(3, 1e-17, np.float32), np.array([np.pi, 0, 0], np.float32)]
    for v in vectors:
        np.testing.assert_array_equal(to_matrix(v), cv2.Rodrigues(v[:, None])[0])
        np.testing.assert_allclose(to_matrix(v), twin.axis_angle_to_matrix(v), atol=1e-7)


def test_matrix_to_vector_is_opencvs_to_the_bit() -> None:
    rng = np.random.default_rng(1)
    for _ in range(4000):
        r = to_matrix(random_vector(rng, 5e-3, 3.14))
        np.testing.assert_array_equal(to_vector(r), cv2.Rodrigues(r)[0].ravel())
        np.testing.assert_allclose(to_vector(r), twin.matrix_to_axis_angle(r), atol=2e-4)


def test_matrix_to_vector_of_small_angles() -> None:
    """Between 1e-5 and 1e-3 rad the arc cosine turns the last bit of float64 into 1e-10 rad."""
    rng = np.random.default_rng(2)
    zero = 0
    for _ in range(3000):
        r = to_matrix(random_vector(rng, 1e-6, 5e-3))
        expected = cv2.Rodrigues(r)[0].ravel()
        np.testing.assert_allclose(to_vector(r), expected, rtol=0, atol=2e-10)
        assert to_vector(r).any() == expected.any()
        zero += not expected.any()
    assert 500 < zero < 1500  # angles below 1e-5 become exactly zero


def test_matrix_to_vector_tidies_matrices_that_are_not_quite_rotations() -> None:
    rng = np.random.default_rng(3)
    for _ in range(1000):
        r = to_matrix(random_vector(rng, 0.05, 3)) + rng.normal(size=(3, 3)).astype(np.float32) * np.float32(1e-6)
        np.testing.assert_allclose(to_vector(r), cv2.Rodrigues(r)[0].ravel(), rtol=0, atol=3e-7)


@pytest.mark.parametrize("diagonal", [(1, -1, -1), (-1, 1, -1), (-1, -1, 1), (1, 1, 1)])
def test_half_turns_around_the_axes(diagonal: tuple[int, int, int]) -> None:
    r = np.diag(diagonal).astype(np.float32)
    np.testing.assert_array_equal(to_vector(r), cv2.Rodrigues(r)[0].ravel())


def test_half_turns_around_any_axis() -> None:
    rng = np.random.default_rng(4)
    equal = 0
    for trial in range(2000):
        axis = rng.normal(size=3)
        if trial % 3 == 0:
            axis[rng.integers(3)] = 0
        axis /= np.linalg.norm(axis)
        r = (2 * np.outer(axis, axis) - np.eye(3)).astype(np.float32)
        expected = cv2.Rodrigues(r)[0].ravel()
        np.testing.assert_allclose(to_vector(r), expected, rtol=0, atol=5e-7)
        equal += np.array_equal(to_vector(r), expected)
    assert equal > 1800


def test_matrix_with_nan_is_no_rotation() -> None:
    for r in (np.full((3, 3), np.nan, np.float32), np.eye(3, dtype=np.float32)):
        r[1, 2] = np.nan
        assert not to_vector(r).any()
        assert not cv2.Rodrigues(r)[0].any()


# --- Cholesky inverse -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [4, 7, 8, 9, 49, 81])
def test_cholesky_inverse(size: int) -> None:
    rng = np.random.default_rng(size)
    factor = rng.normal(size=(size, size)).astype(np.float32)
    a = factor @ factor.T + np.eye(size, dtype=np.float32) * size
    found = np.empty_like(a)
    assert _linalg.cholesky_inverse(a, found)
    _, expected = cv2.invert(a, flags=cv2.DECOMP_CHOLESKY)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(a @ found, np.eye(size), atol=1e-4)


def test_cholesky_inverse_of_what_has_none() -> None:
    assert not _linalg.cholesky_inverse(np.diag([1, -1, 2]).astype(np.float32), np.empty((3, 3), np.float32))
