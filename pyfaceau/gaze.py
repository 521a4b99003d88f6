"""Gaze: from the eyeball's centre through the iris (OpenFace 2.2 specification, part 3 §9).

Camera space: mm, origin in the camera, x right, y down, z forward. f32 roundings follow the reference, because
the ray-sphere intersection loses digits: f64 throughout would change the fifth decimal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from pyfaceau._jit import kernel
from pyfaceau.landmarks.pdm import rotation
from pyfaceau.pose import _landmarks_3d

if TYPE_CHECKING:
    from pyfaceau.weights.models import PDM

IRIS = 8
"""Eye points 0..7 are the iris rim; their mean is taken as the pupil."""
EYE_CORNERS = ((36, 39), (42, 45))
"""Face landmarks whose middle is the eye's, image-left eye first."""

_CORNERS = np.array(EYE_CORNERS, dtype=np.int64)
_DOWN, _FORWARD = -3.5, 7.0  # from the middle of the corners to the eyeball's centre, mm, in the head's frame
_RADIUS = 12.0
_F0 = np.float32(0)
_F1 = np.float32(1)
_F2 = np.float32(2)
_F4 = np.float32(4)
_RADIUS_SQUARED = np.float32(_RADIUS * _RADIUS)


class Eye(Protocol):
    """A fitted eye: rigid parameters f32 (6,), shape parameters f32 (m,), landmarks f32 (2n,) px."""

    @property
    def g(self) -> NDArray[np.float32]: ...
    @property
    def p(self) -> NDArray[np.float32]: ...
    @property
    def landmarks(self) -> NDArray[np.float32]: ...


def eyes_in_space(
    eyes: Sequence[tuple[PDM, Eye]],
    face: NDArray[np.float32],
    pose: NDArray[np.float32],
    camera: NDArray[np.float32],
    looking: bool,
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Landmarks of both eyes, and their gaze.

    Parameters
    ----------
    eyes : left eye, right eye (in the image), each with its model.
    face : f32 (3n,), face landmarks in camera space.
    pose : f32 (6,), head pose; its angles turn the eyeballs' centres.
    camera : f32 (4,).
    looking : whether there is a gaze; otherwise vectors and angle are 0.

    Returns
    -------
    flat, deep : f32 (2, points of both eyes) px and f32 (3, points of both eyes) mm.
    vectors : f32 (2, 3), unit vectors, left eye first.
    angle : f32 (2,), rad: horizontal and vertical, of the mean vector.
    """
    (left_pdm, left), (right_pdm, right) = eyes
    points = left_pdm.n + right_pdm.n
    flat, deep = np.empty((2, points), np.float32), np.empty((3, points), np.float32)
    vectors, angle = np.zeros((2, 3), np.float32), np.zeros(2, np.float32)
    _eyes_in_space(
        face, pose, camera, left_pdm.mean, left_pdm.modes_t, left.g, left.p, left.landmarks,
        right_pdm.mean, right_pdm.modes_t, right.g, right.p, right.landmarks, looking, flat, deep, vectors, angle,
    )  # fmt: skip
    return flat, deep, vectors, angle


@kernel
def _eyes_in_space(
    face, pose, camera, mean_l, modes_l, g_l, p_l, landmarks_l, mean_r, modes_r, g_r, p_r, landmarks_r,
    looking, flat, deep, vectors, angle,
):  # fmt: skip
    """One kernel for both eyes: calls and small arrays would take longer than the arithmetic."""
    _eye(0, 0, face, pose[3:], camera, mean_l, modes_l, g_l, p_l, landmarks_l, looking, flat, deep, vectors[0])
    at = mean_l.shape[0] // 3
    _eye(1, at, face, pose[3:], camera, mean_r, modes_r, g_r, p_r, landmarks_r, looking, flat, deep, vectors[1])
    if looking:
        _gaze_angle(vectors, angle)


@kernel
def _eye(k, at, face, euler, camera, mean, modes_t, g, p, landmarks, looking, flat, deep, vector):
    n = mean.shape[0] // 3
    shape, points = np.empty(3 * n, np.float32), np.empty(3 * n, np.float32)
    _landmarks_3d(mean, modes_t, g, p, landmarks, camera, shape, points)
    for i in range(n):
        for axis in range(2):
            flat[axis, at + i] = landmarks[axis * n + i]
        for axis in range(3):
            deep[axis, at + i] = points[axis * n + i]
    if looking:
        _gaze(face, points, euler, k, vector)


@kernel
def _normalise(v, out):
    """Unit vector; norm and division in f64."""
    x, y, z = np.float64(v[0]), np.float64(v[1]), np.float64(v[2])
    norm = math.sqrt(x * x + y * y + z * z)
    out[0] = np.float32(x / norm)
    out[1] = np.float32(y / norm)
    out[2] = np.float32(z / norm)


@kernel
def _gaze(face, eye, euler, k, out):
    pupil = np.empty(3, np.float32)
    centre = np.empty(3, np.float32)
    ray = np.empty(3, np.float32)
    r = np.empty((3, 3), np.float32)
    rotation(euler, r)
    n, m = face.shape[0] // 3, eye.shape[0] // 3
    for axis in range(3):
        total = 0.0
        for i in range(IRIS):
            total += np.float64(eye[axis * m + i])
        pupil[axis] = np.float32(total / IRIS)
        middle = (face[axis * n + _CORNERS[k, 0]] + face[axis * n + _CORNERS[k, 1]]) / _F2
        offset = np.float64(r[axis, 1]) * _DOWN + np.float64(r[axis, 2]) * _FORWARD
        centre[axis] = middle + np.float32(offset)
    _normalise(pupil, ray)
    _meet_sphere(ray, centre, pupil)
    for axis in range(3):
        pupil[axis] -= centre[axis]
    _normalise(pupil, out)


@kernel
def _meet_sphere(ray, centre, hit):
    """Nearer intersection of a ray from the camera with the eyeball; (0, 0, -1) when it misses."""
    x, y, z = centre[0], centre[1], centre[2]
    a = (ray[0] * ray[0] + ray[1] * ray[1]) + ray[2] * ray[2]
    b = (_F2 * ray[0] * (_F0 - x) + _F2 * ray[1] * (_F0 - y)) + _F2 * ray[2] * (_F0 - z)
    c = ((x * x + y * y) + z * z) - _RADIUS_SQUARED
    discriminant = b * b - (_F4 * a) * c
    if discriminant < _F0:
        hit[0] = hit[1] = _F0
        hit[2] = -_F1
        return
    # Times a, not divided by it, as in the reference: a is 1 but for rounding.
    t = np.float32((-np.float64(b) - math.sqrt(np.float64(discriminant))) / 2.0 * np.float64(a))
    for axis in range(3):
        hit[axis] = t * ray[axis]


@kernel
def _gaze_angle(vectors, angle):
    x = (vectors[0, 0] + vectors[1, 0]) / _F2
    y = (vectors[0, 1] + vectors[1, 1]) / _F2
    z = (vectors[0, 2] + vectors[1, 2]) / _F2
    angle[0] = np.float32(math.atan2(np.float64(x), np.float64(-z)))
    angle[1] = np.float32(math.atan2(np.float64(y), np.float64(-z)))
