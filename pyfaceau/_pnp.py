"""Perspective-n-point by Levenberg-Marquardt, iteration for iteration as OpenCV 4's ``SOLVEPNP_ITERATIVE``.

The reference's pose is where that iteration stops, not the exact minimum, so damping and stop rule are the same:
lambda starts at 1e-3, goes down tenfold with every step that does not raise the error and up tenfold with every one
that does; at most 20 steps, or until the parameters move by less than an f32 epsilon, relatively.
Everything is f64; results agree with ``cv2.solvePnP`` to about 1e-9 mm.
"""

from __future__ import annotations

import math

import numpy as np

from pyfaceau._jit import kernel

_MAX_STEPS = 20
_MAX_LOG_LAMBDA = 16
_EPSILON = 2.0**-23
_SMALLEST = 2.220446049250313e-16


@kernel
def solve_pnp(shape, landmarks, fx, fy, cx, cy, pose):
    """Minimise the reprojection error of f32 shape [3n] against landmarks [2n] from the start in `pose`.

    ``pose`` f64 (6,): rotation vector, then translation; holds the result on return. Returns False, with `pose`
    undefined, when the normal equations cannot be solved.
    """
    n = shape.shape[0] // 3
    jacobian = np.empty((2 * n, 6))
    residual = np.empty(2 * n)
    camera = np.empty((3, n))
    before = np.empty(6)
    normal, right = np.empty((6, 6)), np.empty(6)
    damped, step = np.empty((6, 6)), np.empty(6)
    log_lambda = -3
    error = _project(shape, landmarks, fx, fy, cx, cy, pose, camera, residual)
    for _ in range(_MAX_STEPS):
        _differentiate(shape, fx, fy, pose, camera, jacobian)
        _normal_equations(jacobian, residual, normal, right)
        for i in range(6):
            before[i] = pose[i]
        while True:
            if not _damped_step(normal, right, 10.0**log_lambda, damped, step):
                return False
            for i in range(6):
                pose[i] = before[i] - step[i]
            new_error = _project(shape, landmarks, fx, fy, cx, cy, pose, camera, residual)
            if not new_error > error or log_lambda >= _MAX_LOG_LAMBDA:
                break
            log_lambda += 1
        log_lambda = max(log_lambda - 1, -_MAX_LOG_LAMBDA)
        moved = 0.0
        length = 0.0
        for i in range(6):
            moved += step[i] * step[i]
            length += before[i] * before[i]
        if not math.sqrt(moved) / (math.sqrt(length) + _SMALLEST) >= _EPSILON:
            break
        error = new_error
    return math.isfinite(new_error)


@kernel
def _rotation_and_derivatives(turn, r, dr):
    """Rotation matrix r [3, 3] of a rotation vector, and its derivatives dr [3, 3, 3] by each component."""
    theta = math.sqrt(turn[0] * turn[0] + turn[1] * turn[1] + turn[2] * turn[2])
    small = theta < _SMALLEST
    c, s = math.cos(theta), math.sin(theta)
    inverse = 0.0 if small else 1.0 / theta
    x, y, z = turn[0] * inverse, turn[1] * inverse, turn[2] * inverse
    axis = (x, y, z)
    cross = ((0.0, -z, y), (z, 0.0, -x), (-y, x, 0.0))
    for i in range(3):
        for j in range(3):
            r[i, j] = (1.0 - c) * axis[i] * axis[j] + s * cross[i][j] + (c if i == j else 0.0)
    for k in range(3):
        a0 = -s * axis[k]
        a1 = (s - 2.0 * (1.0 - c) * inverse) * axis[k]
        a2 = (1.0 - c) * inverse
        a3 = (c - s * inverse) * axis[k]
        a4 = 1.0 if small else s * inverse
        for i in range(3):
            for j in range(3):
                outer = (axis[j] if i == k else 0.0) + (axis[i] if j == k else 0.0)
                d = a1 * axis[i] * axis[j] + a2 * outer + a3 * cross[i][j]
                dr[k, i, j] = d + a0 if i == j else d
        i = (k + 1) % 3
        j = (k + 2) % 3
        dr[k, i, j] -= a4
        dr[k, j, i] += a4


@kernel
def _project(shape, landmarks, fx, fy, cx, cy, pose, camera, residual):
    """Residuals [2n] as x0 y0 x1 y1 .. (px); returns their norm.

    ``camera`` [3, n] receives of each point x / z, y / z and 1 / z in camera space.
    """
    n = shape.shape[0] // 3
    r, dr = np.empty((3, 3)), np.empty((3, 3, 3))
    _rotation_and_derivatives(pose, r, dr)
    total = 0.0
    for i in range(n):
        px, py, pz = np.float64(shape[i]), np.float64(shape[n + i]), np.float64(shape[2 * n + i])
        depth = r[2, 0] * px + r[2, 1] * py + r[2, 2] * pz + pose[5]
        z = 1.0 / depth if depth != 0.0 else 1.0
        x = (r[0, 0] * px + r[0, 1] * py + r[0, 2] * pz + pose[3]) * z
        y = (r[1, 0] * px + r[1, 1] * py + r[1, 2] * pz + pose[4]) * z
        camera[0, i], camera[1, i], camera[2, i] = x, y, z
        ex = x * fx + cx - np.float64(landmarks[i])
        ey = y * fy + cy - np.float64(landmarks[n + i])
        residual[2 * i] = ex
        residual[2 * i + 1] = ey
        total += ex * ex + ey * ey
    return math.sqrt(total)


@kernel
def _differentiate(shape, fx, fy, pose, camera, jacobian):
    """Jacobian [2n, 6] of the residuals at the pose that `_project` was called with last."""
    n = shape.shape[0] // 3
    r, dr = np.empty((3, 3)), np.empty((3, 3, 3))
    _rotation_and_derivatives(pose, r, dr)
    for i in range(n):
        px, py, pz = np.float64(shape[i]), np.float64(shape[n + i]), np.float64(shape[2 * n + i])
        x, y, z = camera[0, i], camera[1, i], camera[2, i]
        jx, jy = jacobian[2 * i], jacobian[2 * i + 1]
        for k in range(3):
            dx = dr[k, 0, 0] * px + dr[k, 0, 1] * py + dr[k, 0, 2] * pz
            dy = dr[k, 1, 0] * px + dr[k, 1, 1] * py + dr[k, 1, 2] * pz
            dz = dr[k, 2, 0] * px + dr[k, 2, 1] * py + dr[k, 2, 2] * pz
            jx[k] = fx * z * (dx - x * dz)
            jy[k] = fy * z * (dy - y * dz)
        jx[3], jx[4], jx[5] = fx * z, 0.0, -fx * x * z
        jy[3], jy[4], jy[5] = 0.0, fy * z, -fy * y * z


@kernel(fastmath={"contract"})
def _normal_equations(jacobian, residual, normal, right):
    for a in range(6):
        right[a] = 0.0
        for b in range(6):
            normal[a, b] = 0.0
    for i in range(jacobian.shape[0]):
        row = jacobian[i]
        for a in range(6):
            for b in range(6):
                normal[a, b] += row[a] * row[b]
            right[a] += row[a] * residual[i]


@kernel
def _damped_step(normal, right, damping, factor, step):
    """Solve (normal + damping diag(normal)) step = right by Cholesky; False if not positive definite."""
    for i in range(6):
        for j in range(i + 1):
            total = normal[i, j] * (1.0 + damping) if i == j else normal[i, j]
            largest = total
            for k in range(j):
                total -= factor[i, k] * factor[j, k]
            if i != j:
                factor[i, j] = total / factor[j, j]
            elif total > 1e-13 * largest:
                factor[i, i] = math.sqrt(total)
            else:
                return False
    for i in range(6):
        total = right[i]
        for k in range(i):
            total -= factor[i, k] * step[k]
        step[i] = total / factor[i, i]
    for i in range(5, -1, -1):
        total = step[i]
        for k in range(i + 1, 6):
            total -= factor[k, i] * step[k]
        step[i] = total / factor[i, i]
    return True
