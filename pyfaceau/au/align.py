"""Similarity alignment of a face to a fixed square picture, and its triangle mask.

Conventions: images are u8 [row, column, channel] in B, G, R order; integer coordinates are pixel
centres; landmark vectors are f32 ``x0 .. x67 y0 .. y67`` in px. A warp matrix W f32 (2, 3) takes
column vectors (x, y, 1) of the frame to the aligned picture. All rounding follows the OpenFace 2.2
specification, part 3 §2: with it the aligned faces of the reference program come out byte for byte.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pyfaceau._jit import kernel
from pyfaceau._linalg import svd_square
from pyfaceau.au._vectors import WARPED, warp_row
from pyfaceau.au.mask import _mask
from pyfaceau.errors import ModelError, PyfaceauError
from pyfaceau.gray import gray_picture

if TYPE_CHECKING:
    from pyfaceau.weights.models import PDM

POINTS = 68
RIGID = (1, 2, 3, 4, 12, 13, 14, 15, 27, 28, 29, 31, 32, 33, 34, 35, 36, 39, 40, 41, 42, 45, 46, 47)
"""Landmarks that expressions move least: jaw sides, nose, eye corners and lower lids."""
_RIGID = np.array(RIGID, dtype=np.int64)
_LIFT_PER_SCALE = 30 / 0.7  # px of the aligned picture per unit of its scale

_F1 = np.float32(1)
_HALF_STEP = np.int32(16)  # 1/64 px in 1/1024 px


@dataclass(frozen=True)
class Canonical:
    """Where aligned faces go: the rigid landmarks of the mean shape, centred and scaled to RMS size 1.

    Attributes
    ----------
    size : side of the square picture, px.
    rigid : f32 (24, 2).
    rms : RMS size of the rigid landmarks in the aligned picture, px (an f32 value).
    lift : px by which `pyfaceau.au.mask.LIFTED` landmarks go up for the mask (an f32 value).
    triangles : i32 (T, 3), landmark indices whose union is the mask.
    """

    size: int
    rigid: NDArray[np.float32]
    rms: np.float32
    lift: np.float32
    triangles: NDArray[np.int32]


def canonical_face(pdm: PDM, triangles: NDArray[np.int32], size: int = 112, scale: float = 0.7) -> Canonical:
    """Prepare alignment to ``size`` x ``size`` px at ``scale`` px per model unit (mm).

    Raises `ModelError` when the PDM has not the 68 landmarks that alignment names by number.
    """
    if pdm.n != POINTS:
        raise ModelError(f"alignment needs a face model of {POINTS} landmarks, this one has {pdm.n}")
    if size < 1 or not scale > 0:
        raise PyfaceauError(f"aligned faces need a positive size and scale, not {size} px and {scale}")
    target = (pdm.mean.astype(np.float32).reshape(3, -1)[:2] * np.float32(scale)).T[_RIGID]
    points = np.ascontiguousarray(target)
    rms = _centre_and_normalise(points)
    lift = np.float32(_LIFT_PER_SCALE * scale)
    return Canonical(int(size), points, np.float32(rms), lift, np.array(triangles, dtype=np.int32))


def aligned_face(
    bgr: NDArray[np.uint8],
    landmarks: NDArray[np.float32],
    g: NDArray[np.float32],
    pdm: PDM,
    triangles: NDArray[np.int32],
    size: int = 112,
    scale: float = 0.7,
    mask: bool = True,
    gray: bool = False,
) -> NDArray[np.uint8]:
    """Cut one aligned face out of a frame (OpenFace 2.2 specification, part 3 §2.5).

    Parameters
    ----------
    bgr : u8 (H, W, 3).
    landmarks : f32 (136,), px.
    g : f32 (6,), rigid parameters of `pdm` fitted to the landmarks; their translation becomes the centre.
    triangles : i32 (T, 3); what lies in none of them becomes black unless `mask` is False.
    gray : convert the result to one channel.

    Returns
    -------
    u8 (size, size, 3), or (size, size) if `gray`.
    """
    canonical = canonical_face(pdm, triangles, size, scale)
    face = np.empty((canonical.size, canonical.size, 3), np.uint8)
    scratch = AlignScratch(canonical.size)
    _align(
        *_frame(bgr), np.ascontiguousarray(landmarks, dtype=np.float32), np.float32(g[4]), np.float32(g[5]),
        canonical.rigid, canonical.rms, canonical.lift, canonical.triangles, mask,
        scratch.warp, scratch.mask, scratch.first, scratch.last, face.reshape(canonical.size, -1),
    )  # fmt: skip
    return gray_picture(face) if gray else face


class AlignScratch:
    """Intermediate arrays of one alignment, kept from frame to frame.

    ``warp`` f32 (2, 3); ``mask`` u8 (size, size), 1 inside; ``first`` and ``last`` i32 (size,), ends of
    the masked part of each row (first > last: nothing in it).
    """

    def __init__(self, size: int) -> None:
        self.warp = np.zeros((2, 3), np.float32)
        self.mask = np.zeros((size, size), np.uint8)
        self.first = np.zeros(size, np.int32)
        self.last = np.zeros(size, np.int32)


def _frame(bgr: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], int, int]:
    """A frame as kernels take it: all bytes in one row, height, width."""
    if bgr.dtype != np.uint8 or bgr.ndim != 3 or bgr.shape[2] != 3:
        raise PyfaceauError(f"frames must be 8-bit B, G, R pictures, not {bgr.dtype} {bgr.shape}")
    return np.ascontiguousarray(bgr).reshape(-1), bgr.shape[0], bgr.shape[1]


@kernel
def _align(
    pixels, height, width, landmarks, tx, ty, rigid, rms, lift, triangles, masked, warp, mask, first, last, face
):  # fmt: skip
    """Warp and mask; ``pixels`` u8 (3 height width,), ``face`` u8 (size, 3 size)."""
    _warp_matrix(landmarks, tx, ty, rigid, rms, face.shape[0] // 2, warp)
    if masked:
        _mask(landmarks, warp, lift, triangles, mask, first, last)
    else:
        for y in range(mask.shape[0]):
            first[y] = 0
            last[y] = mask.shape[1] - 1
            for x in range(mask.shape[1]):
                mask[y, x] = 1
    _warp(pixels, height, width, warp, mask, first, last, face)


@kernel
def _centre_and_normalise(points):
    """Shift f32 points (k, 2) to mean 0 and scale them to RMS size 1, in place; returns the RMS size."""
    count = points.shape[0]
    mean_x = 0.0
    mean_y = 0.0
    for i in range(count):
        mean_x += points[i, 0]
        mean_y += points[i, 1]
    centre_x = np.float32(mean_x / count)
    centre_y = np.float32(mean_y / count)
    squares = 0.0
    for i in range(count):
        points[i, 0] -= centre_x
        points[i, 1] -= centre_y
        squares += np.float64(points[i, 0] * points[i, 0]) + np.float64(points[i, 1] * points[i, 1])
    size = np.float32(math.sqrt(squares / count))
    factor = _F1 / size
    for i in range(count):
        points[i, 0] *= factor
        points[i, 1] *= factor
    return size


@kernel
def _warp_matrix(landmarks, tx, ty, rigid, rms, centre, warp):
    """Similarity of the rigid landmarks to their canonical places; (tx, ty) goes to (centre, centre)."""
    n = landmarks.shape[0] // 2
    points = np.empty((_RIGID.shape[0], 2), np.float32)
    for i in range(_RIGID.shape[0]):
        points[i, 0] = landmarks[_RIGID[i]]
        points[i, 1] = landmarks[n + _RIGID[i]]
    size = _centre_and_normalise(points)
    ut = np.empty((2, 2), np.float32)  # the correlation matrix, transposed; then U transposed
    for r in range(2):
        for c in range(2):
            total = 0.0
            for i in range(points.shape[0]):
                total += np.float64(points[i, r]) * np.float64(rigid[i, c])
            ut[c, r] = np.float32(total)
    vt = np.empty((2, 2), np.float32)
    svd_square(ut, np.empty(2, np.float64), vt)
    # V is vt transposed; det(V U') > 0 unless the best map mirrors the face.
    det = np.float64(vt[0, 0] * vt[1, 1] - vt[0, 1] * vt[1, 0]) * np.float64(ut[0, 0] * ut[1, 1] - ut[0, 1] * ut[1, 0])
    d = _F1 if det > 0.0 else -_F1
    ratio = rms / size
    for r in range(2):
        for c in range(2):
            turn = np.float64(vt[0, r]) * np.float64(ut[0, c]) + np.float64(vt[1, r]) * np.float64(d * ut[1, c])
            warp[r, c] = np.float32(turn) * ratio
    for r in range(2):
        warp[r, 2] = np.float32(centre) - (warp[r, 0] * tx + warp[r, 1] * ty)


@kernel
def _warp(pixels, height, width, warp, mask, first, last, face):
    """Bilinear warp in 1/32 px steps with black outside the frame: OpenCV 4's integer rule (part 3 §2.3)."""
    size = face.shape[0]
    colours, inside = face.reshape(-1), mask.reshape(-1)
    for i in range(colours.shape[0]):
        colours[i] = 0
    m11, m12, m13 = np.float64(warp[0, 0]), np.float64(warp[0, 1]), np.float64(warp[0, 2])
    m21, m22, m23 = np.float64(warp[1, 0]), np.float64(warp[1, 1]), np.float64(warp[1, 2])
    det = m11 * m22 - m12 * m21
    scale = 1.0 / det if det != 0.0 else 0.0
    i11, i12, i21, i22 = m22 * scale, -m12 * scale, -m21 * scale, m11 * scale
    i13 = -i11 * m13 - i12 * m23
    i23 = -i21 * m13 - i22 * m23
    # Beyond 2**20 px every tap is outside any frame, and the sums below stay in the range of 32 bits.
    reach = abs(i11) + abs(i12) + abs(i21) + abs(i22)
    if not (reach * size + abs(i13) + abs(i23) < 2.0**20):
        return
    steps = np.empty((2, size), np.int32)
    for x in range(size):
        steps[0, x] = np.int32(np.rint(i11 * x * 1024.0))
        steps[1, x] = np.int32(np.rint(i21 * x * 1024.0))
    places, right, down = np.empty(size, np.int32), np.empty(size, np.int32), np.empty(size, np.int32)
    for y in range(size):
        row_x = np.int32(np.rint((i12 * y + i13) * 1024.0)) + _HALF_STEP
        row_y = np.int32(np.rint((i22 * y + i23) * 1024.0)) + _HALF_STEP
        begin, end = np.int64(first[y]), np.int64(last[y]) + 1
        if end - begin >= WARPED and _within(row_x, row_y, steps, begin, end - 1, height, width):
            _places(row_x, row_y, steps, np.int32(3 * width), places, right, down)
            warp_row(pixels, 3 * width, places, right, down, inside, y * size, begin, end, colours, 3 * y * size)
            begin = end
        for x in range(begin, end):
            if mask[y, x]:
                fx, fy = np.int64(row_x + steps[0, x]) >> 5, np.int64(row_y + steps[1, x]) >> 5
                _sample(pixels, height, width, fx, fy, face[y, 3 * x : 3 * x + 3])


@kernel
def _within(row_x, row_y, steps, begin, end, height, width):
    """Whether the columns begin .. end of a row, ends included, fall inside the frame, and not on its last two rows."""
    x0, x1 = (row_x + steps[0, begin]) >> 10, (row_x + steps[0, end]) >> 10
    y0, y1 = (row_y + steps[1, begin]) >> 10, (row_y + steps[1, end]) >> 10
    small = 3 * height * width < 2**31
    return small and min(x0, x1) >= 0 and max(x0, x1) + 1 < width and min(y0, y1) >= 0 and max(y0, y1) + 2 < height


@kernel
def _places(row_x, row_y, steps, pitch, places, right, down):
    """Of every column of a row the flat index of its pixel and the distances from it in 1/32 px."""
    five, low = np.int32(5), np.int32(31)
    for x in range(places.shape[0]):
        fx, fy = np.int32(row_x + steps[0, x]) >> five, np.int32(row_y + steps[1, x]) >> five
        right[x], down[x] = fx & low, fy & low
        places[x] = (fy >> five) * pitch + (fx >> five) * np.int32(3)


@kernel
def _sample(pixels, height, width, fx, fy, out):
    """One bilinear sample at (fx, fy), 1/32 px; taps outside the frame count 0."""
    sx, sy, a, b = fx >> 5, fy >> 5, fx & 31, fy & 31
    for c in range(3):
        total = 512
        for dy in range(2):
            for dx in range(2):
                if 0 <= sx + dx < width and 0 <= sy + dy < height:
                    weight = (a if dx else 32 - a) * (b if dy else 32 - b)
                    total += weight * pixels[3 * ((sy + dy) * width + sx + dx) + c]
        out[c] = total >> 10
