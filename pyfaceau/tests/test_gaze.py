"""Gaze against a NumPy twin, the specification's example, geometry, and the recorded vectors."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from pyfaceau.gaze import eyes_in_space
from pyfaceau.tests import au_data as data
from pyfaceau.tests.shared import needs_shared, stage

F = np.float32


def head(corners: dict[int, tuple[float, float, float]]) -> np.ndarray:
    points = np.zeros((68, 3), F)
    for index, point in corners.items():
        points[index] = point
    return data.vector(points)


def eye_at(pupil: np.ndarray) -> np.ndarray:
    """28 points whose first eight, a circle, have their mean at `pupil`; the others are elsewhere."""
    turn = np.arange(8) * np.pi / 4
    points = np.full((28, 3), 1e3)
    points[:8] = pupil + 5 * np.column_stack([np.cos(turn), np.sin(turn), 0 * turn])
    return data.vector(points.astype(F))


CAMERA = np.array([500, 500, 320, 240], F)


def look(
    face: np.ndarray, left: np.ndarray, right: np.ndarray, pose: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gaze vectors and angle of eyes whose 28 points lie in space as given; and these points as they were found."""
    eyes = []
    for eye in (left, right):
        x, y, z = eye.reshape(3, -1)
        # A model of this shape whose scale puts it 1 mm further away.
        pdm = SimpleNamespace(n=28, mean=np.concatenate([x, y, z - 1]).astype(F), modes_t=np.zeros((1, 84), F))
        flat = np.concatenate([x / z * CAMERA[0] + CAMERA[2], y / z * CAMERA[1] + CAMERA[3]]).astype(F)
        g = np.array([CAMERA[0], 0, 0, 0, 0, 0], F)
        eyes.append((pdm, SimpleNamespace(g=g, p=np.zeros(1, F), landmarks=flat)))
    _, deep, vectors, angle = eyes_in_space(eyes, face, pose, CAMERA, True)
    np.testing.assert_allclose(deep, np.hstack([eye.reshape(3, -1) for eye in (left, right)]), rtol=1e-5, atol=1e-3)
    return vectors, angle, deep


def rotation_twin(euler: np.ndarray) -> np.ndarray:
    s1, s2, s3 = np.sin(euler.astype(float)).astype(F)
    c1, c2, c3 = np.cos(euler.astype(float)).astype(F)
    return np.array(
        [
            [c2 * c3, -c2 * s3, s2],
            [c1 * s3 + c3 * s1 * s2, c1 * c3 - s1 * s2 * s3, -c2 * s1],
            [s1 * s3 - c1 * c3 * s2, c3 * s1 + c1 * s2 * s3, c1 * c2],
        ],
        F,
    )


def gaze_twin(face: np.ndarray, eye: np.ndarray, euler: np.ndarray, corners: tuple[int, int]) -> np.ndarray:
    """Part 3 §9, steps 1 to 4, with its roundings."""
    unit = lambda v: (v.astype(float) / np.sqrt((v.astype(float) ** 2).sum())).astype(F)  # noqa: E731
    face, eye = face.reshape(3, -1), eye.reshape(3, -1)
    pupil = eye[:, :8].astype(float).mean(axis=1).astype(F)
    offset = (rotation_twin(euler).astype(float) @ [0, -3.5, 7.0]).astype(F)
    c = (face[:, corners[0]] + face[:, corners[1]]) * F(0.5) + offset
    d = unit(pupil)
    a = (d[0] * d[0] + d[1] * d[1]) + d[2] * d[2]
    zero, two, four = F(0), F(2), F(4)
    b = (two * d[0] * (zero - c[0]) + two * d[1] * (zero - c[1])) + two * d[2] * (zero - c[2])
    q = ((c[0] * c[0] + c[1] * c[1]) + c[2] * c[2]) - F(144)
    discriminant = b * b - (four * a) * q
    if discriminant < 0:
        return unit(np.array([0, 0, -1], F) - c)
    t = F((-float(b) - np.sqrt(float(discriminant))) / 2 * float(a))
    return unit(t * d - c)


def test_specification_example():
    face = head({36: (-12.930218, -85.120926, 597.2178), 39: (11.081235, -84.36163, 590.8697)})
    pupil = eye_at(np.array([0.00070357, -79.994301, 541.29663]))
    pose = np.array([0, 0, 0, -0.054040845, 0.08590024, 0.0086990800], F)
    vectors, _, _ = look(face, pupil, pupil, pose)
    np.testing.assert_allclose(vectors[0], [0.024529, 0.065206, -0.997570], atol=1e-5)


def test_equals_its_twin():
    rng = np.random.default_rng(1)
    missed = 0
    for _ in range(300):
        middle, between = rng.normal([0, 0, 600], [80, 60, 100]), np.array([60.0, 0, 0])
        places = {36: middle, 39: middle, 42: middle + between, 45: middle + between}
        face = head({k: place + rng.normal(0, 3, 3) for k, place in places.items()})
        left = eye_at(middle + rng.normal(0, 6, 3) + [0, 0, -5])
        right = eye_at(middle + between + rng.normal(0, 6, 3) + [0, 0, -5])
        pose = np.concatenate([np.zeros(3), rng.normal(0, 0.3, 3)]).astype(F)
        vectors, angle, deep = look(face, left, right, pose)
        expected = [
            gaze_twin(face, deep[:, :28], pose[3:], (36, 39)), gaze_twin(face, deep[:, 28:], pose[3:], (42, 45)),
        ]  # fmt: skip
        np.testing.assert_array_equal(vectors, expected)
        mean = np.mean(expected, axis=0, dtype=float)
        np.testing.assert_allclose(angle, np.arctan2(mean[:2], -mean[2]), atol=1e-6)
        missed += float(np.linalg.norm(expected[0] * 12 + middle)) < 580 and expected[0][2] < -0.999
    assert missed < 300


def test_an_eye_that_looks_at_the_camera():
    """Corners, head and pupil on the optical axis: the eyeball's centre is 3.5 mm above it, so gaze goes down."""
    face = head({36: (-12, 0, 600), 39: (12, 0, 600), 42: (-12, 0, 600), 45: (12, 0, 600)})
    points = eye_at(np.array([0.0, 0.0, 595.0]))
    vectors, angle, _ = look(face, points, points, np.zeros(6, F))
    sine = 3.5 / 12
    np.testing.assert_allclose(vectors[0], [0, sine, -np.sqrt(1 - sine**2)], atol=1e-5)
    np.testing.assert_array_equal(vectors[0], vectors[1])
    np.testing.assert_allclose(angle, [0, np.arcsin(sine)], atol=1e-5)


def test_a_ray_that_misses_the_eyeball():
    face = head({36: (-12, 0, 600), 39: (12, 0, 600)})
    points = eye_at(np.array([100.0, 0.0, 600.0]))
    vectors, _, _ = look(face, points, points, np.zeros(6, F))
    centre = np.array([0, -3.5, 607.0])
    np.testing.assert_allclose(vectors[0], ([0, 0, -1] - centre) / np.linalg.norm([0, 0, -1] - centre), atol=1e-6)


@needs_shared
@pytest.mark.parametrize("clip", list(data.CLIPS))
def test_recorded_eyes_and_gaze_to_the_bit(clip: str):
    arrays, parts = stage(clip, "light"), {part.name: part.model.pdm for part in data.clnf().parts}
    assert arrays["returned_success"].sum() > 100
    for i in range(len(arrays["frames"])):
        flat = arrays["eye_landmarks_2d"][i]
        eyes = [
            (
                parts[f"{name}_28"],
                SimpleNamespace(
                    g=arrays[f"{name}_params_global"][i], p=arrays[f"{name}_params_local"][i],
                    landmarks=data.vector(flat[28 * k : 28 * k + 28]),
                ),
            )
            for k, name in enumerate(("left_eye", "right_eye"))
        ]  # fmt: skip
        face, looking = data.vector(arrays["landmarks_3d"][i]), bool(arrays["returned_success"][i])
        found = eyes_in_space(eyes, face, arrays["pose"][i], arrays["camera"], looking)
        np.testing.assert_array_equal(found[0].T, flat)
        np.testing.assert_array_equal(found[1].T, arrays["eye_landmarks_3d"][i])
        if looking:
            np.testing.assert_array_equal(found[2], [arrays["gaze_left"][i], arrays["gaze_right"][i]])
            np.testing.assert_array_equal(found[3], arrays["gaze_angle"][i])
        else:
            assert not found[2].any() and not found[3].any()
