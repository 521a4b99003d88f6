"""The point distribution model: shape, projection, Jacobian, update, and the fit to 2-D points.

Conventions (OpenFace 2.2 specification, part 2, section 6): a shape is a float32 vector
``x0..xn-1 y0..yn-1`` (``z0..zn-1``); rigid parameters are ``g = [scale, rx, ry, rz, tx, ty]`` (pixels
per mm, radians, pixels), local parameters ``p`` are the coefficients of the m modes (mm); the rotation is
``Rx(rx) Ry(ry) Rz(rz)`` and an image point is ``scale * (R X)[:2] + t``.

Everything is float32, rounded in the reference's order (part 2, section 6a), because a bit that flips
here can move a histogram bin later.
"""

from __future__ import annotations

import math

import numpy as np

from pyfaceau._jit import kernel
from pyfaceau._linalg import (
    axis_angle_to_matrix,
    cholesky_solve,
    determinant3,
    matrix_to_axis_angle,
    multiply3,
    svd_square,
)
from pyfaceau._simd import LANES, tile_product
from pyfaceau.weights.models import PDM

_MAX_PASSES = 1000


@kernel
def rotation(euler, r):
    """Rotation matrix ``r`` [3, 3] of Euler angles [3] (radians), float32."""
    # Widened first: a float32 sine rounds otherwise.
    e1, e2, e3 = np.float64(euler[0]), np.float64(euler[1]), np.float64(euler[2])
    c1, c2, c3 = np.float32(math.cos(e1)), np.float32(math.cos(e2)), np.float32(math.cos(e3))
    s1, s2, s3 = np.float32(math.sin(e1)), np.float32(math.sin(e2)), np.float32(math.sin(e3))
    r[0, 0], r[0, 1], r[0, 2] = c2 * c3, -c2 * s3, s2
    r[1, 0], r[1, 1], r[1, 2] = c1 * s3 + c3 * s1 * s2, c1 * c3 - s1 * s2 * s3, -c2 * s1
    r[2, 0], r[2, 1], r[2, 2] = s1 * s3 - c1 * c3 * s2, c3 * s1 + c1 * s2 * s3, c1 * c2


@kernel
def euler_angles(r, euler):
    """Euler angles [3] (radians, float32) of a rotation matrix [3, 3], by way of a quaternion."""
    one, two, half, four = np.float32(1), np.float32(2), np.float32(0.5), np.float32(4)
    q0 = np.sqrt(((one + r[0, 0]) + r[1, 1]) + r[2, 2]) * half
    q1 = (r[2, 1] - r[1, 2]) / (four * q0)
    q2 = (r[0, 2] - r[2, 0]) / (four * q0)
    q3 = (r[1, 0] - r[0, 1]) / (four * q0)
    sine = max(np.float32(-1), min(one, two * (q0 * q2 + q1 * q3)))
    euler[0] = math.atan2(np.float64(two * (q0 * q1 - q2 * q3)), np.float64(q0 * q0 - q1 * q1 - q2 * q2 + q3 * q3))
    euler[1] = math.asin(np.float64(sine))
    euler[2] = math.atan2(np.float64(two * (q0 * q3 - q1 * q2)), np.float64(q0 * q0 + q1 * q1 - q2 * q2 - q3 * q3))


@kernel(fastmath={"contract"})
def shape_3d_kernel(mean, modes_t, p, shape):
    """``shape = mean + modes p``: one fused accumulator per coordinate, modes in order, mean last."""
    size = mean.shape[0]
    for i in range(size):
        shape[i] = np.float32(0)
    for j in range(p.shape[0]):
        weight = p[j]
        for i in range(size):
            shape[i] += modes_t[j, i] * weight
    for i in range(size):
        shape[i] += mean[i]


@kernel
def project(g, r, shape, points):
    """Image points [2n] of a 3-D shape [3n] under rigid parameters ``g`` and their rotation ``r``."""
    n = shape.shape[0] // 3
    s, tx, ty = g[0], g[4], g[5]
    for i in range(n):
        x, y, z = shape[i], shape[n + i], shape[2 * n + i]
        points[i] = s * ((r[0, 0] * x + r[0, 1] * y) + r[0, 2] * z) + tx
        points[n + i] = s * ((r[1, 0] * x + r[1, 1] * y) + r[1, 2] * z) + ty


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
def jacobian(g, r, shape, modes, columns, j):
    """Derivatives of the image points: ``j`` [2n, >= columns]; ``columns`` is 6 (rigid) or 6 + m."""
    n = shape.shape[0] // 3
    s = g[0]
    for row in range(2):
        r0, r1, r2 = r[row, 0], r[row, 1], r[row, 2]
        for i in range(n):
            x, y, z = shape[i], shape[n + i], shape[2 * n + i]
            line = j[row * n + i]
            line[0] = (r0 * x + r1 * y) + r2 * z
            line[1] = s * (y * r2 - z * r1)
            line[2] = -s * (x * r2 - z * r0)
            line[3] = s * (x * r1 - y * r0)
            line[4] = np.float32(1 - row)
            line[5] = np.float32(row)
            vx, vy, vz = modes[i], modes[n + i], modes[2 * n + i]
            for k in range(columns - 6):
                line[6 + k] = s * ((r0 * vx[k] + r1 * vy[k]) + r2 * vz[k])


# Cells (first and last row, first and last column, ends excluded) that the reference's matrix product sums in
# two chains, by size: the block edges of its BLAS (part 2, section 6a, and found alike for the parts' sizes).
# Only the lower triangle is read, so blocks above it are left out.
_TWO_CHAINS_40 = np.array([(0, 6, 0, 8), (12, 18, 0, 8), (24, 30, 0, 8), (30, 36, 32, 40), (36, 40, 0, 40)])
_TWO_CHAINS_38 = np.array([(0, 6, 0, 8), (12, 18, 0, 8), (24, 30, 0, 8), (24, 30, 24, 32)])
_TWO_CHAINS_16 = np.array([(0, 6, 0, 8), (12, 16, 0, 16)])
_tile_4x1, _tile_4x2, _tile_4x3, _tile_6x1 = (
    tile_product(4, 1),
    tile_product(4, 2),
    tile_product(4, 3),
    tile_product(6, 1),
)


@kernel
def _add_products(jw, j, first, step, depth, row, rows, column, columns, out, to, stride):
    """``out[to + r stride + c] += sum of jw[k, row + r] j[k, column + c]``, ``depth`` terms from ``first`` by ``step``.

    ``rows`` is 4 or 6, ``columns`` a multiple of eight (8 for 6 rows).
    """
    width = j.shape[1]
    flat = j.reshape(-1)
    address = jw.ctypes.data + 4 * (first * width + row)
    start, weight_step = first * width + column, step * width
    if rows == 6:
        _tile_6x1(address, 1, weight_step, depth, flat, start, weight_step, out, to, stride)
        return
    c = 0
    while c < columns:
        if columns - c >= 24:
            _tile_4x3(address, 1, weight_step, depth, flat, start + c, weight_step, out, to + c, stride)
            c += 24
        elif columns - c == 16:
            _tile_4x2(address, 1, weight_step, depth, flat, start + c, weight_step, out, to + c, stride)
            c += 16
        else:
            _tile_4x1(address, 1, weight_step, depth, flat, start + c, weight_step, out, to + c, stride)
            c += 8


@kernel
def _sum_in_two_chains(jw, j, blocks, even, h):
    """Redo blocks of a normal matrix: a chain of even rows plus one of odd rows.

    Rows beyond a multiple of eight join the even chain.
    """
    k = j.shape[0]
    paired = k - k % 8
    for block in range(blocks.shape[0]):
        row, column = blocks[block, 0], blocks[block, 2]
        rows, columns = blocks[block, 1] - row, blocks[block, 3] - column
        for r in range(rows):
            for c in range(columns):
                h[row + r, column + c] = np.float32(0)
                even[r * columns + c] = np.float32(0)
        to = row * h.shape[1] + column
        _add_products(jw, j, 0, 2, paired // 2, row, rows, column, columns, even, 0, columns)
        _add_products(jw, j, paired, 1, k - paired, row, rows, column, columns, even, 0, columns)
        _add_products(jw, j, 1, 2, paired // 2, row, rows, column, columns, h.reshape(-1), to, h.shape[1])
        for r in range(rows):
            for c in range(columns):
                h[row + r, column + c] = even[r * columns + c] + h[row + r, column + c]


@kernel
def normal_matrix(jw, j, columns, even, h):
    """Lower triangle of ``jw^T j``: per cell one fused float32 chain over the rows, or the reference's two.

    Parameters
    ----------
    jw, j : np.ndarray [shape=(k, padded), dtype=float32]
        Columns padded to a multiple of eight.
    columns : int
        How many of them count.
    even : np.ndarray [shape=(>= 160,), dtype=float32]
        Work space.
    h : np.ndarray [shape=(padded, stride), dtype=float32], out
        Cells above the triangle and in the padding hold anything; see `system_stride`.
    """
    padded, stride = j.shape[1], h.shape[1]
    h[:] = np.float32(0)
    for row in range(0, padded, 4):
        _add_products(jw, j, 0, 1, j.shape[0], row, 4, 0, (row // 8 + 1) * 8, h.reshape(-1), row * stride, stride)
    if columns == 40:
        _sum_in_two_chains(jw, j, _TWO_CHAINS_40, even, h)
    elif columns == 38:
        _sum_in_two_chains(jw, j, _TWO_CHAINS_38, even, h)
    elif columns == 16:
        _sum_in_two_chains(jw, j, _TWO_CHAINS_16, even, h)


@kernel
def padded_columns(columns):
    """``columns`` rounded up to whole vectors."""
    return -(-columns // LANES) * LANES


@kernel
def system_stride(columns):
    """Row length of a normal matrix: whole vectors, with room for the right-hand side."""
    return (columns // LANES + 1) * LANES


@kernel
def gradient(jw, residual, columns, total, b):
    """``b = jw^T residual``, summed in float64 (work space ``total``), rounded to float32."""
    for a in range(columns):
        total[a] = 0.0
    for k in range(residual.shape[0]):
        weight = np.float64(residual[k])
        for a in range(columns):
            total[a] += np.float64(jw[k, a]) * weight
    for a in range(columns):
        b[a] = np.float32(total[a])


@kernel
def update_rigid(g, r, delta):
    """Add the six rigid components of ``delta`` to ``g``; the rotation composes on the right.

    ``r`` must be the rotation of ``g`` and is overwritten. The small rotation is made orthonormal
    by an SVD and the product goes through an axis-angle vector to Euler angles; NaN gives no rotation.
    """
    g[0] += delta[0]
    g[4] += delta[4]
    g[5] += delta[5]
    w1, w2, w3 = delta[1], delta[2], delta[3]
    one = np.float32(1)
    small = np.empty((3, 3), np.float32)  # transposed: what svd_square takes
    small[0, 0], small[0, 1], small[0, 2] = one, w3, -w2
    small[1, 0], small[1, 1], small[1, 2] = -w3, one, w1
    small[2, 0], small[2, 1], small[2, 2] = w2, -w1, one
    singular = np.empty(3, np.float64)
    vt = np.empty((3, 3), np.float32)
    svd_square(small, singular, vt)
    u = np.empty((3, 3), np.float32)
    for i in range(3):
        for k in range(3):
            u[i, k] = small[k, i]
    product = np.empty((3, 3), np.float32)
    multiply3(u, vt, product)
    # The reference multiplies by the computed determinant, not by its sign.
    determinant = np.float32(determinant3(product))
    for i in range(3):
        u[i, 2] *= determinant
    multiply3(u, vt, product)
    multiply3(r, product, small)
    axis_angle = np.empty(3, np.float32)
    matrix_to_axis_angle(small, axis_angle)
    axis_angle_to_matrix(axis_angle, r)
    euler_angles(r, g[1:4])
    if np.isnan(g[1]) or np.isnan(g[2]) or np.isnan(g[3]):
        g[1] = g[2] = g[3] = np.float32(0)


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
def _norm_of_difference(a, b):
    """Euclidean norm of a float32 difference, summed in float64."""
    total = 0.0
    for i in range(a.shape[0]):
        d = np.float64(a[i] - b[i])
        total += d * d
    return math.sqrt(total)


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

    shape, points = np.empty(3 * n, np.float32), np.empty(2 * n, np.float32)
    residual, r = np.empty(2 * n, np.float32), np.empty((3, 3), np.float32)
    padded = padded_columns(size)
    j, h, even = (
        np.zeros((2 * n, padded), np.float32),
        np.empty((padded, system_stride(size)), np.float32),
        np.empty(160, np.float32),
    )
    b, total = np.empty(size, np.float32), np.empty(padded + 8, np.float64)

    rotation(g[1:4], r)
    error, misses = np.inf, 0
    for passes in range(_MAX_PASSES + 1):
        # The error belongs to the newest rigid parameters and the shape from before the last pass ...
        if passes == 0:
            shape_3d_kernel(mean, modes_t, p, shape)
        _project_double(g, r, shape, points)
        new_error = _norm_of_difference(points, landmarks)
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
            shape_3d_kernel(mean, modes_t, p, shape)
            _project_double(g, r, shape, points)
        for i in range(2 * n):
            residual[i] = landmarks[i] - points[i]
        jacobian(g, r, shape, modes, size, j)
        normal_matrix(j, j, size, even, h)
        gradient(j, residual, size, total, b)
        for k in range(m):
            h[6 + k, 6 + k] += prior[k]
            b[6 + k] = np.float32(np.float64(b[6 + k]) - np.float64(prior[k]) * np.float64(p[k]))
        cholesky_solve(h, b, total)
        for k in range(size):
            b[k] *= step
        update_rigid(g, r, b)
        rotation(g[1:4], r)
    return _MAX_PASSES


@kernel
def fit_points_kernel(mean, modes, prior, landmarks, g, p, errors):
    """`calc_params` on those landmarks whose x is not exactly zero (zero marks a missing point)."""
    n, m = mean.shape[0] // 3, modes.shape[1]
    known = 0
    for i in range(n):
        known += landmarks[i] != 0
    if known == 0:
        g[:], p[:] = np.float32(0), np.float32(0)
        return 0
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
            some_modes[axis * known + to] = modes[axis * n + i]
        to += 1
    for k in range(m):
        for i in range(3 * known):
            some_modes_t[k, i] = some_modes[i, k]
    return calc_params(some_mean, some_modes, some_modes_t, prior, some_landmarks, g, p, errors)


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
    prior = np.float32(1) / pdm.eigenvalues
    passes = fit_points_kernel(pdm.mean, pdm.modes, prior, landmarks, g, p, errors)
    return g, p, passes, errors[: passes + 1]


@kernel
def _points_2d(mean, modes_t, g, p, shape, points):
    r = np.empty((3, 3), np.float32)
    rotation(g[1:4], r)
    shape_3d_kernel(mean, modes_t, p, shape)
    project(g, r, shape, points)


def shape_3d(pdm: PDM, p: np.ndarray) -> np.ndarray:
    """Shape in the model's frame: float32 [3n], mm, unrotated."""
    shape = np.empty(3 * pdm.n, np.float32)
    shape_3d_kernel(pdm.mean, pdm.modes_t, p, shape)
    return shape


def shape_2d(pdm: PDM, g: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Image landmarks of a model: float32 [2n], pixels."""
    points = np.empty(2 * pdm.n, np.float32)
    _points_2d(pdm.mean, pdm.modes_t, g, p, np.empty(3 * pdm.n, np.float32), points)
    return points


def rotation_matrix(euler: np.ndarray) -> np.ndarray:
    """Rotation matrix [3, 3] of Euler angles [3] (radians), float32."""
    r = np.empty((3, 3), np.float32)
    rotation(np.ascontiguousarray(euler, np.float32), r)
    return r
