"""The point distribution model: shape, projection, Jacobian, update.

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
    determinant3,
    matrix_to_axis_angle,
    multiply3,
    svd_square,
)
from pyfaceau._simd import LANES
from pyfaceau._simd_jacobian import rigid_derivatives, turned_vectors
from pyfaceau._simd_solve import chain_tile
from pyfaceau.weights.models import PDM

_TILE = 8 * LANES
_shape_tile = chain_tile(1, _TILE // LANES)


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
    size, modes = mean.shape[0], p.shape[0]
    if size >= _TILE:
        for at in range(0, size, _TILE):
            start = min(at, size - _TILE)  # may redo some of the tile before
            _shape_tile(p, 0, 1, modes_t, start, size, modes, shape, start, 0)
    else:
        for i in range(size):
            shape[i] = np.float32(0)
        for j in range(modes):
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
def _rigid_derivatives(s, r, shape, j):
    """As `rigid_derivatives`, of fewer points than a vector has."""
    n = shape.shape[0] // 3
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


@kernel
def jacobian(g, r, shape, modes, columns, j):
    """Derivatives of the image points: ``j`` [2n, >= columns]; ``columns`` is 6 (rigid) or 6 + m."""
    n, m, width, s = shape.shape[0] // 3, columns - 6, j.shape[1], g[0]
    if n >= LANES:
        rigid_derivatives(shape, n, r, s, j, width)
    else:
        _rigid_derivatives(s, r, shape, j)
    if m >= LANES:
        turned_vectors(modes, n, m, r, s, j, 6, width)
        return
    for k in range(m):
        for i in range(n):
            x, y, z = modes[i, k], modes[n + i, k], modes[2 * n + i, k]
            for row in range(2):
                j[row * n + i, 6 + k] = s * ((r[row, 0] * x + r[row, 1] * y) + r[row, 2] * z)


@kernel
def update_rigid(g, r, delta, matrices, singular):
    """Add the six rigid components of ``delta`` to ``g``; the rotation composes on the right.

    ``r`` must be the rotation of ``g`` and is overwritten. The small rotation is made orthonormal
    by an SVD and the product goes through an axis-angle vector to Euler angles; NaN gives no rotation.
    ``matrices`` (float32 [4, 3, 3]) and ``singular`` (float64 [>= 3]) are work space.
    """
    g[0] += delta[0]
    g[4] += delta[4]
    g[5] += delta[5]
    w1, w2, w3 = delta[1], delta[2], delta[3]
    one = np.float32(1)
    small, vt, u, product = matrices[0], matrices[1], matrices[2], matrices[3]
    small[0, 0], small[0, 1], small[0, 2] = one, w3, -w2  # transposed: what svd_square takes
    small[1, 0], small[1, 1], small[1, 2] = -w3, one, w1
    small[2, 0], small[2, 1], small[2, 2] = w2, -w1, one
    svd_square(small, singular, vt)
    for i in range(3):
        for k in range(3):
            u[i, k] = small[k, i]
    multiply3(u, vt, product)
    # The reference multiplies by the computed determinant, not by its sign.
    determinant = np.float32(determinant3(product))
    for i in range(3):
        u[i, 2] *= determinant
    multiply3(u, vt, product)
    multiply3(r, product, small)
    axis_angle = vt[0]
    matrix_to_axis_angle(small, axis_angle)
    axis_angle_to_matrix(axis_angle, r)
    euler_angles(r, g[1:4])
    if np.isnan(g[1]) or np.isnan(g[2]) or np.isnan(g[3]):
        g[1] = g[2] = g[3] = np.float32(0)


@kernel
def points_2d(mean, modes_t, g, p, shape, points):
    """Image landmarks [2n] of ``g`` [6] and ``p`` [m]; ``shape`` [3n] receives the shape in the model's frame."""
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
    points_2d(pdm.mean, pdm.modes_t, g, p, np.empty(3 * pdm.n, np.float32), points)
    return points


def rotation_matrix(euler: np.ndarray) -> np.ndarray:
    """Rotation matrix [3, 3] of Euler angles [3] (radians), float32."""
    r = np.empty((3, 3), np.float32)
    rotation(np.ascontiguousarray(euler, np.float32), r)
    return r
