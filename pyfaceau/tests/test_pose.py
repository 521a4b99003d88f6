"""Head pose and landmarks in space against NumPy twins, OpenCV's solver, and the recorded values."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from pyfaceau import pose
from pyfaceau._pnp import solve_pnp
from pyfaceau.tests import au_data as data
from pyfaceau.tests.shared import needs_shared, stage

F = np.float32
CAMERA = np.array([500, 500, 320, 240], F)


def opencv_pose(shape: np.ndarray, landmarks: np.ndarray, start: np.ndarray) -> np.ndarray:
    matrix = np.array([[CAMERA[0], 0, CAMERA[2]], [0, CAMERA[1], CAMERA[3]], [0, 0, 1]], float)
    _, turn, shift = cv2.solvePnP(
        data.vector(shape.reshape(3, -1).T).reshape(3, -1).T.copy(), landmarks.reshape(2, -1).T.copy(), matrix, None,
        start[:3].copy(), start[3:].copy(), useExtrinsicGuess=True, flags=cv2.SOLVEPNP_ITERATIVE,
    )  # fmt: skip
    return np.concatenate([turn.ravel(), shift.ravel()])


def project(shape: np.ndarray, turn: np.ndarray, shift: np.ndarray) -> np.ndarray:
    matrix = np.array([[CAMERA[0], 0, CAMERA[2]], [0, CAMERA[1], CAMERA[3]], [0, 0, 1]], float)
    points, _ = cv2.projectPoints(shape.reshape(3, -1).T.astype(float), turn, shift, matrix, None)
    return data.vector(points[:, 0]).astype(F)


def random_pose(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return rng.normal(0, 0.4, 3), rng.uniform([-150, -100, 400], [150, 100, 1200])


@pytest.mark.parametrize("noise", [0.0, 1.0, 20.0])
def test_solver_follows_opencv(noise: float):
    """Same iteration, so the same numbers, even where noise keeps it from converging within 20 steps."""
    rng = np.random.default_rng(1)
    shape = data.made_up_pdm().mean
    for _ in range(60):
        turn, shift = random_pose(rng)
        landmarks = project(shape, turn, shift) + rng.normal(0, noise, 136).astype(F)
        start = np.concatenate([turn + rng.normal(0, 0.2, 3), shift * rng.uniform(0.8, 1.2)])
        found = start.copy()
        assert solve_pnp(shape, landmarks, *CAMERA.astype(float).tolist(), found)
        np.testing.assert_allclose(found, opencv_pose(shape, landmarks, start), rtol=1e-7, atol=1e-7)


def test_solver_from_no_rotation_and_a_small_one():
    shape = data.made_up_pdm().mean
    landmarks = project(shape, np.array([0.1, -0.2, 0.05]), np.array([5.0, -8.0, 700.0]))
    for turn in (np.zeros(3), np.full(3, 1e-17), np.full(3, 1e-9)):
        found = np.concatenate([turn, [0.0, 0.0, 600.0]])
        assert solve_pnp(shape, landmarks, *CAMERA.astype(float).tolist(), found)
        np.testing.assert_allclose(found, [0.1, -0.2, 0.05, 5, -8, 700], rtol=1e-4, atol=1e-4)


def test_pose_of_a_known_head():
    shape = data.made_up_pdm().mean
    euler = np.array([0.2, -0.3, 0.1])
    (s1, s2, s3), (c1, c2, c3) = np.sin(euler), np.cos(euler)
    r = (
        np.array([[1, 0, 0], [0, c1, -s1], [0, s1, c1]])
        @ np.array([[c2, 0, s2], [0, 1, 0], [-s2, 0, c2]])
        @ np.array([[c3, -s3, 0], [s3, c3, 0], [0, 0, 1]])
    )
    turn, _ = cv2.Rodrigues(r)
    landmarks = project(shape, turn, np.array([30.0, -20.0, 650.0]))
    g = np.array([500 / 640, 0.1, -0.2, 0.05, 345, 225], F)
    _, found = pose.head_in_space(data.made_up_pdm(), g, np.zeros(5, F), landmarks, CAMERA)
    assert found.dtype == F
    np.testing.assert_allclose(found[:3], [30, -20, 650], atol=0.01)
    np.testing.assert_allclose(found[3:], euler, atol=1e-5)


def test_without_scale_there_is_no_pose():
    _, found = pose.head_in_space(data.made_up_pdm(), np.zeros(6, F), np.zeros(5, F), np.zeros(136, F), CAMERA)
    assert not found.any()


@pytest.mark.parametrize("place", [0.0, np.nan])
def test_landmarks_in_one_place_and_not_a_number_do_not_raise(place: float):
    g = np.array([1, 0, 0, 0, 0, 0], F)
    points, found = pose.head_in_space(data.made_up_pdm(), g, np.zeros(5, F), np.full(136, place, F), CAMERA)
    assert points.shape == (204,) and found.shape == (6,)


def test_landmarks_in_space_project_to_themselves():
    pdm = data.made_up_pdm()
    rng = np.random.default_rng(2)
    g, p = np.array([0.8, 0.1, -0.3, 0.2, 300, 250], F), rng.normal(0, 4, 5).astype(F)
    landmarks = rng.uniform(100, 400, 136).astype(F)
    x, y, z = pose.head_in_space(pdm, g, p, landmarks, CAMERA)[0].reshape(3, -1)
    np.testing.assert_allclose(x / z * 500 + 320, landmarks[:68], rtol=1e-5)
    np.testing.assert_allclose(y / z * 500 + 240, landmarks[68:], rtol=1e-5)
    assert z.mean() == pytest.approx(500 / 0.8, rel=0.05)


@needs_shared
@pytest.mark.parametrize("clip", list(data.CLIPS))
def test_recorded_poses_to_the_bit(clip: str):
    arrays, pdm = stage(clip, "light"), data.clnf().pdm
    first = int(np.argmax(arrays["returned_success"] > 0))  # before it the reference's pose is noise
    for i in range(len(arrays["frames"])):
        g, p, landmarks = arrays["params_global"][i], arrays["params_local"][i], data.landmarks(clip, i + 1)
        points, found = pose.head_in_space(pdm, g, p, landmarks, arrays["camera"])
        np.testing.assert_array_equal(points, data.vector(arrays["landmarks_3d"][i]))
        if i >= first:
            np.testing.assert_array_equal(found, arrays["pose"][i])
