"""From a shape in the picture to one upright grey area around every landmark.

OpenFace 2.2 specification, part 2, section 7. The areas are cut with the reference's own sampling
rule, source positions rounded to 1/32 pixel, because exact bilinear sampling differs by up to a grey level.
"""

from __future__ import annotations

import math

import numpy as np

from pyfaceau._jit import kernel
from pyfaceau._linalg import svd_square
from pyfaceau._simd import WIDE, sample_row
from pyfaceau.landmarks.pdm import project, rotation, shape_3d_kernel

_SUM_BLOCK = 16  # values that OpenCV's sum takes in vectors
_FEW = 3  # columns left by whole vectors that are cheaper to sample as columns
_TO_INTEGER = 6755399441055744.0  # 1.5 * 2^52: float64 numbers of this size have no fractions
SUPPORT = 11  # side of a patch expert's support, pixels: fixed in the format


@kernel
def nearest_view(centers, euler):
    """Index of the view centre [nv, 3] (radians) nearest to Euler angles [3]; the first wins ties."""
    best, best_distance = 0, np.float32(np.inf)
    for v in range(centers.shape[0]):
        distance = np.float32(0)
        for axis in range(3):
            d = np.float32(np.float64(euler[axis]) - centers[v, axis])
            distance += d * d
        if distance < best_distance:
            best, best_distance = v, distance
    return best


@kernel
def _sum_of_squares(centred):
    """Sum of the squares of a shape [2n], float32 products, added as OpenCV adds the n x 2 matrix: x0 y0 x1 y1 ...

    In float64, but after the last whole block of ``_SUM_BLOCK`` values four at a time in float32.
    """
    n = centred.shape[0] // 2
    whole, total = 2 * n // _SUM_BLOCK * _SUM_BLOCK // 2, 0.0
    for i in range(whole):
        x, y = centred[i], centred[n + i]
        total += np.float64(x * x) + np.float64(y * y)
    for i in range(whole, n - 1, 2):
        x0, y0, x1, y1 = centred[i], centred[n + i], centred[i + 1], centred[n + i + 1]
        total += np.float64(((x0 * x0 + y0 * y0) + x1 * x1) + y1 * y1)
    if (n - whole) % 2 == 1:
        x, y = centred[n - 1], centred[2 * n - 1]
        total += np.float64(x * x)
        total += np.float64(y * y)
    return total


@kernel
def _normalise(points, centred):
    """Centre a shape [2n] and divide it by its RMS radius, which is returned; float32 as in the reference."""
    n = points.shape[0] // 2
    for row in range(2):
        total = 0.0
        for i in range(n):
            total += np.float64(points[row * n + i])
        mean = np.float32(total / n)
        for i in range(n):
            centred[row * n + i] = points[row * n + i] - mean
    radius = np.float32(math.sqrt(_sum_of_squares(centred) / n))
    inverse = np.float32(1) / radius
    for i in range(2 * n):
        centred[i] *= inverse
    return radius


@kernel
def similarity(source, target, forward):
    """Scaled rotation [2, 2] that aligns shape ``source`` [2n] with ``target`` [2n] (float32).

    Kabsch's rotation over all points with the ratio of the RMS radii as scale, in the reference's roundings
    (part 3, section 2.2): a last bit here moves samples of the picture by 1/32 pixel.
    """
    n = source.shape[0] // 2
    a, b = np.empty(2 * n, np.float32), np.empty(2 * n, np.float32)
    source_radius, target_radius = _normalise(source, a), _normalise(target, b)
    ut, vt, singular = np.empty((2, 2), np.float32), np.empty((2, 2), np.float32), np.empty(2, np.float64)
    for row in range(2):
        for column in range(2):
            total = 0.0
            for i in range(n):
                total += np.float64(a[row * n + i]) * np.float64(b[column * n + i])
            ut[column, row] = np.float32(total)  # transposed: what svd_square takes
    svd_square(ut, singular, vt)
    determinant = (np.float64(vt[0, 0]) * vt[1, 1] - np.float64(vt[0, 1]) * vt[1, 0]) * (
        np.float64(ut[0, 0]) * ut[1, 1] - np.float64(ut[0, 1]) * ut[1, 0]
    )
    sign = 1.0 if determinant > 0 else -1.0
    scale = target_radius / source_radius
    for row in range(2):
        for column in range(2):
            first = np.float64(vt[0, row]) * np.float64(ut[0, column])
            second = np.float64(vt[1, row]) * np.float64(ut[1, column])
            forward[row, column] = np.float32(first + sign * second) * scale


@kernel
def _invert(m, inverse):
    """Inverse of a 2x2 float32 matrix: adjugate times float32(1 / determinant), all float32 as in the reference."""
    factor = np.float32(1) / (m[0, 0] * m[1, 1] - m[0, 1] * m[1, 0])
    inverse[0, 0], inverse[0, 1] = m[1, 1] * factor, -m[0, 1] * factor
    inverse[1, 0], inverse[1, 1] = -m[1, 0] * factor, m[0, 0] * factor


@kernel
def _nearest(x):
    """The nearest int32, the even one of two: ``np.rint`` would be a call of the C library."""
    return np.int32((x + _TO_INTEGER) - _TO_INTEGER)


@kernel
def _clipped(gray, row, column):
    """A pixel as int32, 0 outside the picture."""
    if 0 <= row < gray.shape[0] and 0 <= column < gray.shape[1]:
        return np.int32(gray[row, column])
    return np.int32(0)


@kernel
def _sample_inside(gray, starts_x, starts_y, along_x, along_y, column, area):
    """Sample an area that lies inside the frame: line by line, but a few columns left by whole vectors as columns."""
    width, side = gray.shape[1], area.shape[0]
    flat, out = gray.reshape(-1), area.reshape(-1)
    left = side % WIDE
    across = side - left if left <= _FEW else side
    for y in range(side - 1):  # whole vectors may spoil the beginning of the next line
        sample_row(flat, width, starts_x[y], starts_y[y], along_x, along_y, max(across, WIDE), out, y * side)
    y = side - 1
    sample_row(flat, width, starts_x[y], starts_y[y], along_x, along_y, across, out, y * side)
    for x in range(across, side):
        sample_row(flat, width, along_x[x], along_y[x], starts_x, starts_y, side, column, 0)
        for y in range(side):
            area[y, x] = column[y]


@kernel
def _sample_anywhere(gray, starts_x, starts_y, along_x, along_y, area):
    """Sample an area; 0 outside the frame."""
    side, to_grey, whole = area.shape[0], np.float32(1.0 / 1024.0), np.int32(32)
    for y in range(side):
        for x in range(side):
            sx, sy = (starts_x[y] + along_x[x]) >> np.int32(5), (starts_y[y] + along_y[x]) >> np.int32(5)
            fx, fy = sx & np.int32(31), sy & np.int32(31)
            column, row = sx >> np.int32(5), sy >> np.int32(5)
            p00, p01 = _clipped(gray, row, column), _clipped(gray, row, column + 1)
            p10, p11 = _clipped(gray, row + 1, column), _clipped(gray, row + 1, column + 1)
            # Weights are multiples of 1/1024 and pixels are bytes: this integer sum is the float32 one, exactly.
            above, below = (whole - fx) * p00 + fx * p01, (whole - fx) * p10 + fx * p11
            area[y, x] = np.float32((whole - fy) * above + fy * below) * to_grey


@kernel
def _cut_area(gray, m, along, starts, column, area):
    """Sample one area [a, a] through the destination-to-source map ``m`` [2, 3] (float32); 0 outside ``gray``.

    ``along`` [2, a or more] holds what a column adds to a source position (x, y), in 1/1024 pixel; up to `WIDE` there
    are copies of the last one. ``starts`` [2, a] (int32) and ``column`` [a] (float32) are work space.
    """
    height, width = gray.shape
    side = area.shape[0]
    m00, m01, m02 = np.float64(m[0, 0]), np.float64(m[0, 1]), np.float64(m[0, 2])
    m10, m11, m12 = np.float64(m[1, 0]), np.float64(m[1, 1]), np.float64(m[1, 2])
    last = side - 1
    # An affine image of a square lies inside the frame when its corners do (one pixel to spare for rounding).
    low_x = m02 + min(0.0, m00 * last) + min(0.0, m01 * last)
    high_x = m02 + max(0.0, m00 * last) + max(0.0, m01 * last)
    low_y = m12 + min(0.0, m10 * last) + min(0.0, m11 * last)
    high_y = m12 + max(0.0, m10 * last) + max(0.0, m11 * last)
    # A lost face may sit anywhere, even at NaN: nothing of it can be sampled.
    if not (low_x > -1e6 and low_y > -1e6 and high_x < 1e6 and high_y < 1e6):
        area[:] = np.float32(0)
        return
    starts_x, starts_y = starts[0], starts[1]
    for y in range(side):
        starts_x[y] = _nearest((m01 * y + m02) * 1024.0) + np.int32(16)
        starts_y[y] = _nearest((m11 * y + m12) * 1024.0) + np.int32(16)
    if low_x >= 1.0 and low_y >= 1.0 and high_x < width - 2.0 and high_y < height - 2.0:
        _sample_inside(gray, starts_x, starts_y, along[0], along[1], column, area)
    else:
        _sample_anywhere(gray, starts_x, starts_y, along[0], along[1], area)


@kernel
def area_warp(backward, x, y, side, m):
    """Map [2, 3] from area pixels to picture pixels with landmark (x, y) at the area's centre, float32."""
    a, b = backward[0, 0], -backward[0, 1]
    h = np.float32((side - 1) * 0.5)
    m[0, 0], m[0, 1], m[0, 2] = a, -b, x - a * h + b * h
    m[1, 0], m[1, 1], m[1, 2] = b, a, y - a * h - b * h


@kernel
def cut_areas(gray, mean, modes_t, centers, visible, scale, g, p, base, forward, backward, areas):
    """Prepare one scale of a fit: view, alignment and areas at the shape of ``g`` and ``p``.

    Parameters
    ----------
    gray : np.ndarray [shape=(H, W), dtype=uint8]
    mean, modes_t : the PDM
    centers : np.ndarray [shape=(nv, 3), dtype=float64]
    visible : np.ndarray [shape=(nv, n), dtype=bool]
    scale : float
        Pixels per mm of the patch experts.
    base : np.ndarray [shape=(2n,), dtype=float32], out
        The shape, at which areas are cut.
    forward, backward : np.ndarray [shape=(2, 2), dtype=float32], out
        Picture to reference frame, and back.
    areas : np.ndarray [shape=(n, a, a), dtype=float32], out
        Grey values; those of invisible landmarks are left alone.

    Returns
    -------
    int
        The view.
    """
    n = mean.shape[0] // 3
    side = areas.shape[1]
    shape, reference = np.empty(3 * n, np.float32), np.empty(2 * n, np.float32)
    r, upright = np.empty((3, 3), np.float32), np.zeros(6, np.float32)
    m = np.empty((2, 3), np.float32)
    shape_3d_kernel(mean, modes_t, p, shape)
    rotation(g[1:4], r)
    project(g, r, shape, base)
    upright[0] = np.float32(scale)
    rotation(upright[1:4], r)
    project(upright, r, shape, reference)
    similarity(base, reference, forward)
    _invert(forward, backward)
    view = nearest_view(centers, g[1:4])
    columns = max(side, WIDE)
    along, starts, column = np.empty((2, columns), np.int32), np.empty((2, side), np.int32), np.empty(side, np.float32)
    area_warp(backward, base[0], base[n], side, m)
    for i in range(columns):  # the same for all landmarks
        x = min(i, side - 1)
        along[0, i] = _nearest(np.float64(m[0, 0]) * x * 1024.0)
        along[1, i] = _nearest(np.float64(m[1, 0]) * x * 1024.0)
    for i in range(n):
        if visible[view, i]:
            area_warp(backward, base[i], base[n + i], side, m)
            _cut_area(gray, m, along, starts, column, areas[i])
    return view
