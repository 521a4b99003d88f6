"""Alignment, warp and mask against plain NumPy twins, OpenCV, and the reference's recorded bytes."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from pyfaceau._linalg import svd_square
from pyfaceau.au import align
from pyfaceau.au.mask import LIFTED, _mask
from pyfaceau.errors import ModelError, PyfaceauError
from pyfaceau.landmarks.points import fit_to_points
from pyfaceau.tests import au_data as data
from pyfaceau.tests.shared import needs_shared, stage

F = np.float32


def similarity_twin(landmarks: np.ndarray, tx: F, ty: F, pdm: object, size: int, scale: float) -> np.ndarray:
    """Part 3 §2.2 and §2.3, written out with cv2's SVD."""

    def normalised(points: np.ndarray) -> tuple[np.ndarray, F]:
        points = points - points.mean(axis=0, dtype=np.float64).astype(F)
        rms = F(np.sqrt((points * points).sum(dtype=np.float64) / len(points)))
        return points * (F(1) / rms), rms

    rigid = list(align.RIGID)
    source, source_size = normalised(landmarks.reshape(2, -1).T[rigid])
    target, target_size = normalised((pdm.mean.reshape(3, -1)[:2] * F(scale)).T[rigid])
    product = lambda a, b: (a.astype(np.float64) @ b.astype(np.float64)).astype(F)  # noqa: E731
    _, u, vt = cv2.SVDecomp(product(source.T, target))
    d = F(1) if np.linalg.det(vt.T.astype(float) @ u.T.astype(float)) > 0 else F(-1)
    a = product(vt.T, product(np.diag([F(1), d]), u.T)) * (target_size / source_size)
    t = np.array([a[i, 0] * tx + a[i, 1] * ty for i in range(2)], F)
    return np.column_stack([a, F(size // 2) - t])


def mask_twin(landmarks: np.ndarray, warp: np.ndarray, lift: F, triangles: np.ndarray, size: int) -> np.ndarray:
    """Part 3 §2.4: every pixel against every triangle."""
    points = landmarks.reshape(2, -1).T.astype(np.float64) @ warp[:, :2].T.astype(np.float64)
    points = points.astype(F) + warp[:, 2]
    points[list(LIFTED), 1] -= lift
    y, x = np.mgrid[:size, :size].astype(F)
    mask = np.zeros((size, size), bool)
    for triangle in triangles:
        corners = points[triangle]
        low, high = corners.min(axis=0), corners.max(axis=0)
        inside = (x >= low[0]) & (x <= high[0]) & (y >= low[1]) & (y <= high[1])
        for k, (i, j) in enumerate(((1, 2), (0, 2), (0, 1))):
            (ax, ay), (bx, by) = corners[i], corners[j]
            side = lambda zx, zy, ax=ax, ay=ay, bx=bx, by=by: (bx - ax) * (zy - ay) - (zx - ax) * (by - ay)  # noqa: E731
            inside &= side(x, y) * side(*corners[k]) >= 0
        mask |= inside
    return mask


def run_mask(landmarks: np.ndarray, warp: np.ndarray, lift: F, triangles: np.ndarray, size: int) -> align.AlignScratch:
    scratch = align.AlignScratch(size)
    _mask(landmarks, warp, lift, triangles, scratch.mask, scratch.first, scratch.last)
    return scratch


def run_warp(image: np.ndarray, warp: np.ndarray, size: int = 112) -> np.ndarray:
    out = np.empty((size, size, 3), np.uint8)
    scratch = align.AlignScratch(size)
    scratch.mask[:], scratch.last[:] = 1, size - 1
    align._warp(*align._frame(image), warp, scratch.mask, scratch.first, scratch.last, out.reshape(size, -1))
    return out


def random_warp(rng: np.random.Generator, size: int, spread: float) -> np.ndarray:
    turn, zoom = rng.uniform(-3.2, 3.2), 2.0 ** rng.uniform(-2, 1.5)
    a = zoom * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    centre = rng.uniform([0, 0], [160, 120]) + rng.normal(0, spread, 2)
    return np.column_stack([a, size / 2 - a @ centre]).astype(F)


def test_svd_of_correlation_matrices_equals_opencv():
    rng = np.random.default_rng(11)
    for i in range(4000):
        turn = rng.uniform(-3.2, 3.2) * (0.01 if i % 2 else 1)
        c, s = np.cos(turn), np.sin(turn)
        matrix = rng.normal(size=(2, 2)) if i % 3 == 0 else np.array([[c, -s], [s, c]]) @ np.diag(rng.uniform(5, 20, 2))
        matrix = matrix.astype(F)
        ut, vt, w = matrix.T.copy(), np.empty((2, 2), F), np.empty(2)
        svd_square(ut, w, vt)
        expected_w, expected_u, expected_vt = cv2.SVDecomp(matrix)
        np.testing.assert_array_equal(w.astype(F), expected_w.ravel())
        np.testing.assert_array_equal(ut.T, expected_u)
        np.testing.assert_array_equal(vt, expected_vt)


def test_warp_matrix_equals_its_twin_on_random_faces():
    pdm = data.made_up_pdm()
    rng = np.random.default_rng(1)
    for size, scale in ((112, 0.7), (200, 1.3), (65, 0.4)):
        canonical = align.canonical_face(pdm, data.made_up_triangles(), size, scale)
        warp = np.empty((2, 3), F)
        for seed in range(100):
            _, landmarks = data.made_up_face(seed)
            landmarks += rng.normal(0, 3, 136).astype(F)
            tx, ty = rng.uniform(50, 250, 2).astype(F)
            align._warp_matrix(landmarks, tx, ty, canonical.rigid, canonical.rms, size // 2, warp)
            np.testing.assert_array_equal(warp, similarity_twin(landmarks, tx, ty, pdm, size, scale))


def test_a_mirrored_face_is_turned_not_mirrored():
    pdm = data.made_up_pdm()
    canonical = align.canonical_face(pdm, data.made_up_triangles())
    landmarks = np.concatenate([-pdm.mean[:68], pdm.mean[68:136]])
    warp = np.empty((2, 3), F)
    align._warp_matrix(landmarks, F(0), F(0), canonical.rigid, canonical.rms, 56, warp)
    assert np.linalg.det(warp[:, :2]) > 0
    np.testing.assert_array_equal(warp, similarity_twin(landmarks, F(0), F(0), pdm, 112, 0.7))


@pytest.mark.parametrize("spread", [0.0, 5.0, 100.0])
def test_mask_equals_brute_force(spread: float):
    # Large spread: folded triangles and ones outside the picture. Rounding to 1/4 px: edges through pixel centres.
    rng = np.random.default_rng(2)
    triangles = data.made_up_triangles()
    for seed in range(15):
        _, landmarks = data.made_up_face(seed)
        landmarks = landmarks + rng.normal(0, spread, 136).astype(F)
        warp = random_warp(rng, 112, 0)
        if seed % 3 == 0:
            landmarks = np.round(landmarks * 4) / F(4)
            warp = np.array([[1, 0, -100], [0, 1, -70]], F)
        scratch = run_mask(landmarks, warp, F(30), triangles, 112)
        expected = mask_twin(landmarks, warp, F(30), triangles, 112)
        np.testing.assert_array_equal(scratch.mask > 0, expected)
        for row in range(112):
            columns = np.flatnonzero(expected[row])
            ends = (columns[0], columns[-1]) if columns.size else (112, -1)
            assert (scratch.first[row], scratch.last[row]) == ends


def test_mask_of_degenerate_triangles_equals_brute_force():
    warp = np.array([[1, 0, 0], [0, 1, 0]], F)
    shapes = {
        "flat": [(10, 20), (40, 20), (25, 20)],
        "upright": [(30, 10), (30, 50), (30, 20)],
        "slanted": [(10, 10), (30, 30), (20, 20)],
        "point": [(33, 44)] * 3,
        "almost flat": [(5, 60), (105, 60.00001), (50, 59.99999)],
        "between pixels": [(5.2, 60.3), (5.7, 60.3), (5.5, 60.6)],
        "half outside": [(-30, -20), (60, 150), (130, 40)],
    }
    triangles = np.array([[1, 2, 3]], np.int32)
    for name, corners in shapes.items():
        landmarks = np.zeros((68, 2), F)
        landmarks[1:4] = corners
        landmarks = data.vector(landmarks)
        found = run_mask(landmarks, warp, F(30), triangles, 112).mask > 0
        np.testing.assert_array_equal(found, mask_twin(landmarks, warp, F(30), triangles, 112), err_msg=name)


def test_mask_of_landmarks_that_are_not_finite_is_empty():
    warp = np.array([[1, 0, 0], [0, 1, 0]], F)
    landmarks = np.full(136, np.nan, F)
    assert not run_mask(landmarks, warp, F(30), data.made_up_triangles(), 112).mask.any()


@pytest.mark.parametrize("spread", [0.0, 80.0])
def test_warp_equals_opencv(spread: float):
    assert cv2.__version__ < "5", "OpenCV 5 warps by another rule"
    rng = np.random.default_rng(3)
    image = rng.integers(0, 256, (120, 160, 3), dtype=np.uint8)
    for _ in range(40):
        warp = random_warp(rng, 112, spread)
        expected = cv2.warpAffine(image, warp, (112, 112), flags=cv2.INTER_LINEAR)
        np.testing.assert_array_equal(run_warp(image, warp), expected)


def test_degenerate_warps():
    image = np.full((50, 50, 3), 200, np.uint8)
    image[0, 0] = 7
    singular = np.zeros((2, 3), F)
    np.testing.assert_array_equal(run_warp(image, singular), cv2.warpAffine(image, singular, (112, 112)))
    for warp in (np.full((2, 3), np.nan), np.full((2, 3), np.inf), np.eye(2, 3) * 1e-12):
        assert not run_warp(image, warp.astype(F)).any()


def test_output_face_in_other_sizes():
    image, landmarks = data.made_up_face(4)
    pdm, triangles = data.made_up_pdm(), data.made_up_triangles()
    g, _, _, _ = fit_to_points(pdm, landmarks)
    for size, scale in ((112, 0.7), (160, 1.0), (51, 0.3)):
        warp = similarity_twin(landmarks, g[4], g[5], pdm, size, scale)
        plain = cv2.warpAffine(image, warp, (size, size), flags=cv2.INTER_LINEAR)
        mask = mask_twin(landmarks, warp, F(30 / 0.7 * scale), triangles, size)
        masked = align.aligned_face(image, landmarks, g, pdm, triangles, size, scale)
        np.testing.assert_array_equal(masked, plain * mask[..., None])
        unmasked = align.aligned_face(image, landmarks, g, pdm, triangles, size, scale, mask=False)
        np.testing.assert_array_equal(unmasked, plain)
        gray = align.aligned_face(image, landmarks, g, pdm, triangles, size, scale, mask=False, gray=True)
        np.testing.assert_array_equal(gray, cv2.cvtColor(plain, cv2.COLOR_BGR2GRAY))


def test_arguments_are_checked():
    image, landmarks = data.made_up_face()
    pdm, triangles, g = data.made_up_pdm(), data.made_up_triangles(), np.zeros(6, F)
    with pytest.raises(PyfaceauError, match="8-bit"):
        align.aligned_face(image[..., 0], landmarks, g, pdm, triangles)
    with pytest.raises(PyfaceauError, match="positive size"):
        align.aligned_face(image, landmarks, g, pdm, triangles, size=0)
    with pytest.raises(ModelError, match="68 landmarks"):
        align.canonical_face(data.made_up_eye_pdm(), triangles)


@needs_shared
@pytest.mark.parametrize(("clip", "frame"), data.DETAILED)
def test_recorded_alignment_to_the_byte(clip: str, frame: int):
    recorded = stage(clip, f"frame_{frame}")
    models = data.predictors()
    canonical = align.canonical_face(models.pdm, models.triangles)
    g = stage(clip, "light")["fa_params_global"][frame - 1]
    scratch = align.AlignScratch(112)
    face = np.empty((112, 112, 3), np.uint8)
    align._align(
        *align._frame(recorded["bgr"]), data.landmarks(clip, frame), g[4], g[5],
        canonical.rigid, canonical.rms, canonical.lift, canonical.triangles, True,
        scratch.warp, scratch.mask, scratch.first, scratch.last, face.reshape(112, -1),
    )  # fmt: skip
    np.testing.assert_array_equal(scratch.warp, recorded["align.warp_matrix"])
    np.testing.assert_array_equal(scratch.mask > 0, recorded["align.mask"] > 0)
    np.testing.assert_array_equal(face, recorded["fhog.input"])
    unmasked = align.aligned_face(
        recorded["bgr"], data.landmarks(clip, frame), g, models.pdm, models.triangles, mask=False
    )
    np.testing.assert_array_equal(unmasked, recorded["align.face_unmasked"])
