"""Head pose and landmarks in space (OpenFace 2.2 specification, part 3 §9 and §10).

Camera space: mm, origin in the camera, x right, y down, z forward. A camera is f32 (4,): fx, fy, cx, cy in px.
Rotations are Euler angles in radians, R = Rx Ry Rz. Shape vectors are f32, all x, all y (, all z).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pyfaceau._jit import kernel
from pyfaceau._linalg import axis_angle_to_matrix
from pyfaceau._pnp import solve_pnp
from pyfaceau.landmarks.pdm import euler_angles, rotation, shape_3d_kernel
from pyfaceau.weights.models import PDM


def head_in_space(
    pdm: PDM,
    g: NDArray[np.float32],
    p: NDArray[np.float32],
    landmarks: NDArray[np.float32],
    camera: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Landmarks of a face in camera space, and position and orientation of the head.

    Depth is that of the model, ``fx / scale + z`` of the rotated shape; x and y follow from the landmarks. The head's
    pose is found by perspective-n-point from the unrotated shape, the iteration starting at ``g``.

    Parameters
    ----------
    g, p : f32 (6,), (m,): the face model fitted to the picture.
    landmarks : f32 (2n,), px.
    camera : f32 (4,).

    Returns
    -------
    f32 (3n,), mm; and f32 (6,): Tx, Ty, Tz (mm), Rx, Ry, Rz (rad), zeros when the scale in `g` is 0 or nothing
    determines a pose.
    """
    points, shape = np.empty(3 * pdm.n, np.float32), np.empty(3 * pdm.n, np.float32)
    pose = np.zeros(6, np.float32)
    if not _head_in_space(pdm.mean, pdm.modes_t, g, p, landmarks, camera, shape, points, pose):
        _degenerate_pose(shape, landmarks, g, camera, pose)
    return points, pose


def _degenerate_pose(
    shape: NDArray[np.float32],
    landmarks: NDArray[np.float32],
    g: NDArray[np.float32],
    camera: NDArray[np.float32],
    pose: NDArray[np.float32],
) -> None:
    start = np.empty(6)
    _start(g, camera, start)
    solution = _solve_pnp_degenerate(shape, landmarks, camera, start)
    pose[:3] = solution[3:]
    _euler_of_axis_angle(solution[:3].astype(np.float32), pose[3:])


def _solve_pnp_degenerate(
    shape: NDArray[np.float32], landmarks: NDArray[np.float32], camera: NDArray[np.float32], start: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The same by OpenCV, whose pseudo-inverse copes with points that do not determine a pose; zeros if nothing does.

    Such are the landmarks before the first detection, all in one place.
    """
    import cv2

    fx, fy, cx, cy = camera
    matrix = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], np.float64)
    try:
        _, turn, shift = cv2.solvePnP(
            np.ascontiguousarray(shape.reshape(3, -1).T), np.ascontiguousarray(landmarks.reshape(2, -1).T), matrix,
            np.zeros(4), start[:3].copy(), start[3:].copy(), useExtrinsicGuess=True, flags=cv2.SOLVEPNP_ITERATIVE,
        )  # fmt: skip
    except cv2.error:  # fewer than four points, or values that are not finite
        return np.zeros(6)
    return np.concatenate([turn.ravel(), shift.ravel()])


@kernel
def _start(g, camera, start):
    """Where the iteration starts: the reference takes the Euler angles as a rotation vector."""
    fx, fy, cx, cy = camera[0], camera[1], camera[2], camera[3]
    z = fx / g[0]
    start[0], start[1], start[2] = g[1], g[2], g[3]
    start[3], start[4], start[5] = (g[4] - cx) / fx * z, (g[5] - cy) / fy * z, z


@kernel
def _head_pose(shape, landmarks, g, camera, pose):
    """Fill ``pose`` [6], which is 0; False if the points do not determine it."""
    if g[0] == np.float32(0):
        return True
    solution = np.empty(6)
    _start(g, camera, solution)
    fx, fy, cx, cy = np.float64(camera[0]), np.float64(camera[1]), np.float64(camera[2]), np.float64(camera[3])
    if not solve_pnp(shape, landmarks, fx, fy, cx, cy, solution):
        return False
    turn = np.empty(3, np.float32)
    for i in range(3):
        pose[i], turn[i] = solution[3 + i], solution[i]
    _euler_of_axis_angle(turn, pose[3:])
    return True


@kernel
def _head_in_space(mean, modes_t, g, p, landmarks, camera, shape, points, pose):
    _landmarks_3d(mean, modes_t, g, p, landmarks, camera, shape, points)
    return _head_pose(shape, landmarks, g, camera, pose)


@kernel
def _euler_of_axis_angle(axis_angle, euler):
    r = np.empty((3, 3), np.float32)
    axis_angle_to_matrix(axis_angle, r)
    euler_angles(r, euler)


@kernel
def _landmarks_3d(mean, modes_t, g, p, landmarks, camera, shape, points):
    n = mean.shape[0] // 3
    r = np.empty((3, 3), np.float32)
    rotation(g[1:4], r)
    shape_3d_kernel(mean, modes_t, p, shape)
    fx, fy, cx, cy = camera[0], camera[1], camera[2], camera[3]
    r0, r1, r2 = np.float64(r[2, 0]), np.float64(r[2, 1]), np.float64(r[2, 2])
    distance = fx / g[0]
    for i in range(n):
        depth = r0 * np.float64(shape[i]) + r1 * np.float64(shape[n + i]) + r2 * np.float64(shape[2 * n + i])
        z = distance + np.float32(depth)
        points[i] = z * ((landmarks[i] - cx) / fx)
        points[n + i] = z * ((landmarks[n + i] - cy) / fy)
        points[2 * n + i] = z
