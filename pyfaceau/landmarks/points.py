"""Fitting the point distribution model to 2-D points ("CalcParams").

OpenFace 2.2 specification, part 2, section 6; roundings as in section 6a.
"""

from __future__ import annotations

import numpy as np

from pyfaceau._jit import kernel
from pyfaceau._linalg import OPENCV_ROWS, cholesky_solve, norm_of_difference
from pyfaceau.landmarks.normal import gradient, normal_matrix, padded_columns
from pyfaceau.landmarks.pdm import jacobian, points_2d, rotation, shape_3d_kernel, update_rigid
from pyfaceau.weights.models import PDM

_MAX_PASSES = 1000
_NO_ERRORS, _NOTHING = np.empty(0), np.empty(0, np.float32)


@kernel
def _project_double(g, r, shape, points):
    """As `project`, with the sum and the scale in float64: the fit's own residual."""
    n = shape.shape[0] // 3
    for row in range(2):
        r0, r1, r2 = np.float64(r[row, 0]), np.float64(r[row, 1]), np.float64(r[row, 2])
        s, t = np.float64(g[0]), g[4 + row]
        for i in range(n):
            v = r0 * np.float64(shape[i]) + r1 * np.float64(shape[n + i]) + r2 * np.float64(shape[2 * n + i])
            points[row * n + i] = np.float32(s * v) + t


@kernel
def _projected_shape(mean, modes_t, p, total, shape):
    """The shape [3n] that projections use, with the reference's two ways to sum it; ``total`` [3n] is work space.

    Of few points in float64, as OpenCV does; of others as BLAS does, and as the Jacobian's shape is always summed.

    An eye's fit to its six known points takes the first way: found by the recorded fits, in which `shape_3d_kernel`
    goes wrong by a bit in one pass of a hundred.
    """
    size = mean.shape[0]
    if size >= OPENCV_ROWS:
        shape_3d_kernel(mean, modes_t, p, shape)
        return
    for i in range(size):
        total[i] = 0.0
    for k in range(p.shape[0]):
        weight = np.float64(p[k])
        for i in range(size):
            total[i] += np.float64(modes_t[k, i]) * weight
    for i in range(size):
        shape[i] = np.float32(total[i] + np.float64(mean[i]))


@kernel
def _box(points, n):
    """Smallest and largest x and y of a shape vector."""
    low_x = high_x = points[0]
    low_y = high_y = points[n]
    for i in range(1, n):
        low_x, high_x = min(low_x, points[i]), max(high_x, points[i])
        low_y, high_y = min(low_y, points[n + i]), max(high_y, points[n + i])
    return low_x, high_x, low_y, high_y


@kernel
def calc_params(mean, modes, modes_t, prior, landmarks, g, p, errors):
    """Fit ``g`` [6] and ``p`` [m] to landmarks [2n] that are all known. See `fit_to_points`.

    ``prior`` [m] is 1 / eigenvalue. ``errors`` receives the residual norm before and after each
    pass as far as it is long enough. Returns the number of passes.
    """
    n, m = mean.shape[0] // 3, modes.shape[1]
    size = 6 + m
    half, step = np.float32(2), np.float32(0.75)
    lx0, lx1, ly0, ly1 = _box(landmarks, n)
    mx0, mx1, my0, my1 = _box(mean, n)
    g[0] = ((lx1 - lx0) / (mx1 - mx0) + (ly1 - ly0) / (my1 - my0)) / half
    g[1] = g[2] = g[3] = np.float32(0)
    g[4], g[5] = (lx0 + lx1) / half, (ly0 + ly1) / half
    p[:] = np.float32(0)

    precise, points = np.empty(3 * n, np.float32), np.empty(2 * n, np.float32)
    two_shapes = 3 * n < OPENCV_ROWS  # see `_projected_shape`
    shape = np.empty(3 * n, np.float32) if two_shapes else precise
    sums = np.empty(3 * n, np.float64)
    residual, r = np.empty(2 * n, np.float32), np.empty((3, 3), np.float32)
    padded = padded_columns(size)
    j, h = np.zeros((2 * n, padded), np.float32), np.zeros((padded, padded), np.float32)
    b, total = np.empty(size, np.float32), np.empty(3 * padded, np.float64)
    matrices = np.empty((4, 3, 3), np.float32)

    rotation(g[1:4], r)
    error, misses = np.inf, 0
    for passes in range(_MAX_PASSES + 1):
        # The error belongs to the newest rigid parameters and the shape from before the last pass ...
        if passes == 0:
            _projected_shape(mean, modes_t, p, sums, precise)
        _project_double(g, r, precise, points)
        new_error = norm_of_difference(points, landmarks)
        if passes < errors.shape[0]:
            errors[passes] = new_error
        if passes > 0:
            for k in range(m):
                p[k] += b[6 + k]
        if 0.999 * error < new_error:
            misses += 1
        if misses == 3 or passes == _MAX_PASSES:
            return passes
        error = new_error
        # ... the residual to the newest of both.
        if passes > 0:
            _projected_shape(mean, modes_t, p, sums, precise)
            _project_double(g, r, precise, points)
        for i in range(2 * n):
            residual[i] = landmarks[i] - points[i]
        if two_shapes:
            shape_3d_kernel(mean, modes_t, p, shape)
        jacobian(g, r, shape, modes, size, j)
        normal_matrix(j, j, size, h)
        gradient(j, residual, size, total, b)
        for k in range(m):
            h[6 + k, 6 + k] += prior[k]
            b[6 + k] = np.float32(np.float64(b[6 + k]) - np.float64(prior[k]) * np.float64(p[k]))
        cholesky_solve(h, b, total)
        for k in range(size):
            b[k] *= step
        update_rigid(g, r, b, matrices, total)
        rotation(g[1:4], r)
    return _MAX_PASSES


@kernel
def fit_points_kernel(mean, modes, modes_t, prior, landmarks, g, p, errors, fitted):
    """`calc_params` on those landmarks whose x is not exactly zero (zero marks a missing point).

    ``fitted`` receives the fitted landmarks, [2n] or [0].
    """
    n, m = mean.shape[0] // 3, modes.shape[1]
    known, passes = 0, 0
    for i in range(n):
        known += landmarks[i] != 0
    # Always copied, also where nothing is missing: cheap, and calc_params is compiled for one kind of array.
    some_mean, some_landmarks = np.empty(3 * known, np.float32), np.empty(2 * known, np.float32)
    some_modes, some_modes_t = np.empty((3 * known, m), np.float32), np.empty((m, 3 * known), np.float32)
    to = 0
    for i in range(n):
        if landmarks[i] == 0:
            continue
        some_landmarks[to], some_landmarks[known + to] = landmarks[i], landmarks[n + i]
        for axis in range(3):
            some_mean[axis * known + to] = mean[axis * n + i]
            for k in range(m):  # a row would be assigned with a text for its error, dear to compile
                some_modes[axis * known + to, k] = modes[axis * n + i, k]
        to += 1
    for k in range(m):
        for i in range(3 * known):
            some_modes_t[k, i] = some_modes[i, k]
    if known > 0:
        passes = calc_params(some_mean, some_modes, some_modes_t, prior, some_landmarks, g, p, errors)
    else:
        g[:], p[:] = np.float32(0), np.float32(0)
    if fitted.shape[0] > 0:
        points_2d(mean, modes_t, g, p, np.empty(3 * n, np.float32), fitted)
    return passes


def fit_into(pdm: PDM, landmarks: np.ndarray, g: np.ndarray, p: np.ndarray, fitted: np.ndarray = _NOTHING) -> None:
    """As `fit_to_points`, unchecked, into arrays of the caller: ``g`` [6], ``p`` [m] and the fitted landmarks [2n]."""
    fit_points_kernel(pdm.mean, pdm.modes, pdm.modes_t, pdm.prior, landmarks, g, p, _NO_ERRORS, fitted)


def fit_to_points(pdm: PDM, landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray, int, np.ndarray]:
    """Fit the model to 2-D landmarks ("CalcParams").

    Regularised Gauss-Newton from a frontal start, steps of 0.75, stopped at the third pass that improves
    the residual by less than 0.1 % (OpenFace 2.2 specification, part 2, section 6). Local parameters are
    not clamped. Landmarks whose x is exactly 0 are missing.

    Parameters
    ----------
    pdm : PDM
        Model of n points and m modes.
    landmarks : np.ndarray [shape=(2n,), dtype=float32]
        x0..xn-1 y0..yn-1, pixels.

    Returns
    -------
    g : np.ndarray [shape=(6,), dtype=float32]
    p : np.ndarray [shape=(m,), dtype=float32]
    passes : int
    errors : np.ndarray [shape=(passes + 1,), dtype=float64]
        Residual norm (pixels) before and after each pass.
    """
    landmarks = np.ascontiguousarray(landmarks, np.float32)
    if landmarks.shape != (2 * pdm.n,):
        raise ValueError(f"landmarks of shape {landmarks.shape}, expected ({2 * pdm.n},)")
    g, p = np.empty(6, np.float32), np.empty(pdm.m, np.float32)
    errors = np.empty(_MAX_PASSES + 1)
    passes = fit_points_kernel(pdm.mean, pdm.modes, pdm.modes_t, pdm.prior, landmarks, g, p, errors, _NOTHING)
    return g, p, passes, errors[: passes + 1]
