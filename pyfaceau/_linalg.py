"""Small dense linear algebra as compiled kernels, in OpenCV's order of operations.

OpenFace solves its least-squares steps with OpenCV's small-matrix routines. Where a step feeds back
into the next frame the order of roundings matters, so these kernels follow the published algorithms
(Cholesky with float64 accumulation, one-sided Jacobi SVD) as ``cv2.solve``, ``cv2.SVDecomp`` and
``cv2.Rodrigues`` evaluate them; the tests compare bit for bit.
"""

from __future__ import annotations

import math

import numpy as np

from pyfaceau._jit import kernel
from pyfaceau._simd import LANES
from pyfaceau._simd_solve import factor_row, subtract_multiple, transpose_block

#: OpenCV multiplies and inverts matrices of fewer rows itself, and hands larger ones to BLAS and LAPACK.
OPENCV_ROWS = 100
_F32_EPS = float(np.finfo(np.float32).eps)
_F32_MIN = float(np.finfo(np.float32).tiny)


_row_1, _row_2, _row_3 = factor_row(1), factor_row(2), factor_row(3)


@kernel
def _mirror(h, size, upwards):
    """Copy the lower triangle of ``h`` into the upper one, or the upper into the lower, by whole blocks of eight."""
    stride = h.shape[1]
    for i in range(0, size, LANES):
        for j in range(0, i + 1, LANES):
            lower, upper = i * stride + j, j * stride + i
            transpose_block(h, lower if upwards else upper, upper if upwards else lower, stride)


@kernel
def cholesky_solve(h, b, work):
    """Solve ``h x = b`` in place for symmetric positive definite float32 ``h``: ``cv2.solve(..., DECOMP_CHOLESKY)``.

    Parameters
    ----------
    h : np.ndarray [shape=(w, w), dtype=float32]
        Lower triangle is read; w is k rounded up to a multiple of eight. Overwritten.
    b : np.ndarray [shape=(k,), dtype=float32]
        Right-hand side; holds ``x`` on return.
    work : np.ndarray [shape=(>= 3 w,), dtype=float64]
        Work space.

    Returns
    -------
    bool
        False, and ``b`` all zero, when ``h`` is not positive definite.
    """
    size, stride = b.shape[0], h.shape[1]
    sums, inverses = stride, 2 * stride  # the places behind the pivots
    # Row j of the upper triangle receives column j of the factor, so that what belongs to neighbouring rows lies side
    # by side; every element still sees its subtractions in the order k = 0, 1, ... Vectors start at a multiple of
    # eight, over elements of row j that nobody reads any more.
    _mirror(h, size, True)
    for i in range(size):
        work[i] = h[i, i]
        work[sums + i] = b[i]
    for j in range(size):
        if work[j] < _F32_EPS:
            b[:] = np.float32(0)
            return False
        inverse = np.float64(np.float32(1.0 / math.sqrt(work[j])))
        work[inverses + j] = inverse
        first = (j + 1) // LANES
        at, vectors = first * LANES, stride // LANES - first
        while vectors > 0:
            if vectors >= 3:
                _row_3(h, j, stride, at, inverse, work)
            elif vectors == 2:
                _row_2(h, j, stride, at, inverse, work)
            else:
                _row_1(h, j, stride, at, inverse, work)
            at += 3 * LANES
            vectors -= 3
        b[j] = np.float32(work[sums + j] * inverse)
        at = first * LANES
        subtract_multiple(h, j * stride + at, b[j], work, sums + at, stride // LANES - first)
    _mirror(h, size, False)
    for k in range(size):
        work[sums + k] = b[k]
    rest = work[sums + size - 1]
    for k in range(size - 1, -1, -1):
        x = np.float32(rest * work[inverses + k])
        b[k] = x
        if k > 0:  # what the next one waits for, by a shorter way than through vectors and memory
            rest = work[sums + k - 1] - np.float64(h[k, k - 1] * x)
        subtract_multiple(h, k * stride, x, work, sums, (k + LANES - 1) // LANES)
    return True


@kernel
def cholesky_inverse(a, inverse):
    """Inverse of a symmetric positive definite float32 matrix: ``cv2.invert(..., DECOMP_CHOLESKY)`` below 100 rows.

    Not quite symmetric, as that one's: each column is a solution of its own.

    Parameters
    ----------
    a : np.ndarray [shape=(k, k), dtype=float32]
        Lower triangle is read.
    inverse : np.ndarray [shape=(k, k), dtype=float32], out

    Returns
    -------
    bool
        False, with ``inverse`` undefined, when ``a`` is not positive definite.
    """
    size = a.shape[0]
    rest, factor = np.empty((size, size), np.float64), np.zeros((size, size), np.float32)  # both by columns
    diagonal, sums = np.empty(size, np.float32), np.empty(size, np.float64)
    for j in range(size):
        for i in range(j, size):
            rest[j, i] = a[i, j]
    for k in range(size):
        if rest[k, k] < _F32_EPS:
            return False
        diagonal[k] = np.float32(1.0 / math.sqrt(rest[k, k]))
        for i in range(k + 1, size):
            factor[k, i] = np.float32(rest[k, i] * np.float64(diagonal[k]))
        for j in range(k + 1, size):
            pivot = factor[k, j]
            rest[j, j] -= np.float64(pivot) * np.float64(pivot)
            for i in range(j + 1, size):
                rest[j, i] -= np.float64(factor[k, i] * pivot)
    # Both substitutions for all right-hand sides at once; every sum in the order of a single one.
    for i in range(size):
        sums[: i + 1] = 0.0
        sums[i] = 1.0
        for k in range(i):
            for j in range(k + 1):
                sums[j] -= np.float64(factor[k, i] * inverse[k, j])
        for j in range(size):
            inverse[i, j] = np.float32(sums[j] * np.float64(diagonal[i])) if j <= i else np.float32(0)
    for i in range(size - 1, -1, -1):
        for j in range(size):
            sums[j] = inverse[i, j]
        for k in range(size - 1, i, -1):
            for j in range(size):
                sums[j] -= np.float64(factor[i, k] * inverse[k, j])
        for j in range(size):
            inverse[i, j] = np.float32(sums[j] * np.float64(diagonal[i]))
    return True


@kernel
def svd_square(at, w, vt):
    """One-sided Jacobi SVD of a small square float32 matrix, as ``cv2.SVDecomp``.

    Parameters
    ----------
    at : np.ndarray [shape=(n, n), dtype=float32]
        The **transposed** matrix; holds ``u`` transposed on return.
    w : np.ndarray [shape=(n,), dtype=float64]
        Singular values, descending, on return.
    vt : np.ndarray [shape=(n, n), dtype=float32]
        Right singular vectors as rows on return.
    """
    n = at.shape[0]
    for i in range(n):
        w[i] = 0.0
        for k in range(n):
            w[i] += np.float64(at[i, k]) * np.float64(at[i, k])
            vt[i, k] = np.float32(1.0 if i == k else 0.0)
    for _ in range(max(n, 30)):
        changed = False
        for i in range(n - 1):
            for j in range(i + 1, n):
                a, b, p = w[i], w[j], 0.0
                for k in range(n):
                    p += np.float64(at[i, k]) * np.float64(at[j, k])
                if abs(p) <= 2.0 * _F32_EPS * math.sqrt(a * b):
                    continue
                p *= 2.0
                beta = a - b
                gamma = math.hypot(p, beta)
                if beta < 0:
                    s = np.float32(math.sqrt((gamma - beta) * 0.5 / gamma))
                    c = np.float32(p / (gamma * np.float64(s) * 2.0))
                else:
                    c = np.float32(math.sqrt((gamma + beta) / (gamma * 2.0)))
                    s = np.float32(p / (gamma * np.float64(c) * 2.0))
                w[i] = w[j] = 0.0
                for k in range(n):
                    t0 = c * at[i, k] + s * at[j, k]
                    t1 = -s * at[i, k] + c * at[j, k]
                    at[i, k], at[j, k] = t0, t1
                    w[i] += np.float64(t0) * np.float64(t0)
                    w[j] += np.float64(t1) * np.float64(t1)
                    t0 = c * vt[i, k] + s * vt[j, k]
                    t1 = -s * vt[i, k] + c * vt[j, k]
                    vt[i, k], vt[j, k] = t0, t1
                changed = True
        if not changed:
            break
    for i in range(n):
        total = 0.0
        for k in range(n):
            total += np.float64(at[i, k]) * np.float64(at[i, k])
        w[i] = math.sqrt(total)
    for i in range(n - 1):
        j = i
        for k in range(i + 1, n):
            if w[j] < w[k]:
                j = k
        if i != j:
            w[i], w[j] = w[j], w[i]
            for k in range(n):
                at[i, k], at[j, k] = at[j, k], at[i, k]
                vt[i, k], vt[j, k] = vt[j, k], vt[i, k]
    for i in range(n):
        inverse = np.float32(1.0 / w[i] if w[i] > _F32_MIN else 0.0)
        for k in range(n):
            at[i, k] *= inverse


@kernel
def multiply3(a, b, out):
    """``out = a b`` for 3x3 float32 matrices, products summed left to right in float32."""
    for i in range(3):
        for j in range(3):
            out[i, j] = (a[i, 0] * b[0, j] + a[i, 1] * b[1, j]) + a[i, 2] * b[2, j]


@kernel
def determinant3(m):
    """Determinant of a 3x3 float32 matrix in float64."""
    m00, m01, m02 = np.float64(m[0, 0]), np.float64(m[0, 1]), np.float64(m[0, 2])
    m10, m11, m12 = np.float64(m[1, 0]), np.float64(m[1, 1]), np.float64(m[1, 2])
    m20, m21, m22 = np.float64(m[2, 0]), np.float64(m[2, 1]), np.float64(m[2, 2])
    return m00 * (m11 * m22 - m12 * m21) - m01 * (m10 * m22 - m12 * m20) + m02 * (m10 * m21 - m11 * m20)


@kernel
def matrix_to_axis_angle(r, axis_angle):
    """Rotation matrix to axis-angle vector (float32 both), as ``cv2.Rodrigues``.

    The matrix is first replaced by its nearest rotation, in float64. Angles with a sine below 1e-5
    give exactly zero; NaN input gives zero.
    """
    x00, x01, x02 = np.float64(r[0, 0]), np.float64(r[0, 1]), np.float64(r[0, 2])
    x10, x11, x12 = np.float64(r[1, 0]), np.float64(r[1, 1]), np.float64(r[1, 2])
    x20, x21, x22 = np.float64(r[2, 0]), np.float64(r[2, 1]), np.float64(r[2, 2])
    # Newton's iteration for the polar factor, X <- (X + X^-T) / 2: r is orthonormal to float32
    # rounding already, so three steps reach float64 rounding.
    for _ in range(3):
        c00, c01, c02 = x11 * x22 - x12 * x21, x12 * x20 - x10 * x22, x10 * x21 - x11 * x20
        c10, c11, c12 = x21 * x02 - x22 * x01, x22 * x00 - x20 * x02, x20 * x01 - x21 * x00
        c20, c21, c22 = x01 * x12 - x02 * x11, x02 * x10 - x00 * x12, x00 * x11 - x01 * x10
        d = 1.0 / (x00 * c00 + x01 * c01 + x02 * c02)
        x00, x01, x02 = 0.5 * (x00 + c00 * d), 0.5 * (x01 + c01 * d), 0.5 * (x02 + c02 * d)
        x10, x11, x12 = 0.5 * (x10 + c10 * d), 0.5 * (x11 + c11 * d), 0.5 * (x12 + c12 * d)
        x20, x21, x22 = 0.5 * (x20 + c20 * d), 0.5 * (x21 + c21 * d), 0.5 * (x22 + c22 * d)
    vx, vy, vz = x21 - x12, x02 - x20, x10 - x01
    sine = math.sqrt((vx * vx + vy * vy + vz * vz) * 0.25)
    cosine = min(1.0, max(-1.0, (x00 + x11 + x22 - 1.0) * 0.5))
    if not sine >= 1e-5:  # NaN included
        axis_angle[0] = axis_angle[1] = axis_angle[2] = np.float32(0)
        if cosine < 0.0 and not np.isnan(sine):  # half a turn: the axis is in the diagonal
            vx = math.sqrt(max((x00 + 1.0) * 0.5, 0.0))
            vy = math.sqrt(max((x11 + 1.0) * 0.5, 0.0)) * (-1.0 if x01 < 0.0 else 1.0)
            vz = math.sqrt(max((x22 + 1.0) * 0.5, 0.0)) * (-1.0 if x02 < 0.0 else 1.0)
            if abs(vx) < abs(vy) and abs(vx) < abs(vz) and (x12 > 0.0) != (vy * vz > 0.0):
                vz = -vz
            scale = math.acos(cosine) / math.sqrt(vx * vx + vy * vy + vz * vz)
            axis_angle[0], axis_angle[1], axis_angle[2] = vx * scale, vy * scale, vz * scale
        return
    scale = 1.0 / (2.0 * sine) * math.acos(cosine)
    axis_angle[0], axis_angle[1], axis_angle[2] = vx * scale, vy * scale, vz * scale


@kernel
def axis_angle_to_matrix(axis_angle, r):
    """Axis-angle vector to rotation matrix (float32 both, float64 inside), as ``cv2.Rodrigues``."""
    x, y, z = np.float64(axis_angle[0]), np.float64(axis_angle[1]), np.float64(axis_angle[2])
    theta = math.sqrt(x * x + y * y + z * z)
    if theta < 2.220446049250313e-16:
        for i in range(3):
            for j in range(3):
                r[i, j] = np.float32(1.0 if i == j else 0.0)
        return
    c, s = math.cos(theta), math.sin(theta)
    c1, inverse = 1.0 - c, 1.0 / theta
    x, y, z = x * inverse, y * inverse, z * inverse
    r[0, 0], r[0, 1], r[0, 2] = c + c1 * x * x, c1 * x * y - s * z, c1 * x * z + s * y
    r[1, 0], r[1, 1], r[1, 2] = c1 * x * y + s * z, c + c1 * y * y, c1 * y * z - s * x
    r[2, 0], r[2, 1], r[2, 2] = c1 * x * z - s * y, c1 * y * z + s * x, c + c1 * z * z


@kernel
def norm_of_difference(a, b):
    """Euclidean norm of a float32 difference, summed in float64."""
    total = 0.0
    for i in range(a.shape[0]):
        d = np.float64(a[i] - b[i])
        total += d * d
    return math.sqrt(total)
