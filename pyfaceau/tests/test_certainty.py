from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import ArrayLike

from pyfaceau.errors import ModelError
from pyfaceau.landmarks import certainty as module
from pyfaceau.landmarks.certainty import Certainty, by_triangle, certainty, normalise, region, sample, triangle_maps
from pyfaceau.tests.cnn_twin import evaluate
from pyfaceau.tests.shared import OPENFACE, SHARED, needs_shared, stage
from pyfaceau.weights.models import CNN, Dense, Validator, ValidatorView
from pyfaceau.weights.networks import read_validator
from pyfaceau.weights.store import find_models, load_landmark_model

VIDEOS = {
    "video01": SHARED / "videos" / "torchopenface_video01.mp4",
    "2015-10-15-15-14": SHARED / "videos" / "openface_2015-10-15-15-14.avi",
    "lost": SHARED / "stages" / "lost" / "lost.mp4",
}
F0 = np.zeros(3, np.float32)


def f32(values: ArrayLike) -> np.ndarray:
    return np.array(values, np.float32)


# --- a validator small enough to follow by hand ---------------------------------------------------


def tiny_view(orientation: tuple[float, float, float] = (0, 0, 0), bins: int = 4, side: int = 5) -> ValidatorView:
    """One triangle (0,0) (4,0) (0,4) seen by a fully connected layer whose unit k looks at pixel k of row 0."""
    y, x = np.mgrid[:side, :side]
    inside = x + y <= 4
    weights = np.zeros((bins, side * side), np.float32)
    weights[np.arange(bins), np.arange(bins) * side] = 1  # inputs run down the columns
    return ValidatorView(
        orientation=np.array(orientation, float),
        mean=np.zeros(inside.sum()),
        std=np.ones(inside.sum()),
        cnn=CNN((Dense(weights, np.zeros(bins, np.float32)),)),
        min_x=0.0,
        min_y=0.0,
        destination=np.array([0, 4, 0, 0, 0, 4], float),
        triangles=np.array([[0, 1, 2]], np.int32),
        triangle_id=np.where(inside, 0, -1).astype(np.int32),
        alpha=np.array([[0, 0.25, 0]]),
        beta=np.array([[0, 0, 0.25]]),
    )


def tiny(bins: int = 4) -> Certainty:
    return Certainty(Validator((tiny_view(bins=bins),)))


def corner_landmarks(x: float, y: float, size: float) -> np.ndarray:
    return f32([x, x + size, x, y, y, y + size])


@pytest.mark.parametrize(("brightest", "expected"), [(0, 0.875), (1, 0.625), (2, 0.375), (3, 0.125)])
def test_certainty_is_the_centre_of_the_winning_bin(brightest: int, expected: float) -> None:
    gray = np.zeros((40, 40), np.uint8)
    gray[10, 10 + 2 * brightest] = 200  # the triangle lies at (10, 10) and is twice as large as its reference
    assert certainty(gray, corner_landmarks(10, 10, 8), F0, tiny()) == expected


def test_bin_five_of_twenty_is_exactly_the_bound() -> None:
    prepared = Certainty(Validator((tiny_view(bins=5),)))
    gray = np.zeros((40, 40), np.uint8)
    gray[10, 18] = 200
    assert np.float32(prepared(gray, corner_landmarks(10, 10, 8), F0)) == np.float32(0.1)
    bins, winner = 20, 5
    assert np.float32(0.5 * (1 - (-1 + 1 / bins + 2 * winner / bins))) == np.float32(0.725)


def test_of_equal_outputs_the_first_wins() -> None:
    assert tiny()(np.full((40, 40), 9, np.uint8), corner_landmarks(10, 10, 8), F0) == 0.875


def test_the_nearest_view_is_chosen_and_the_first_of_equals() -> None:
    angles = [(0, 0, 0), (0, -0.4, 0), (0, 0.4, 0), (0.3, 0.3, 0)]
    prepared = Certainty(Validator(tuple(tiny_view(orientation=angle) for angle in angles)))
    eulers = [(0, 0, 0), (0, -0.21, 0), (0, 0.19, 0), (0, 0.2, 0), (0, 5, 0), (0.2, 0.25, 0.1)]
    assert [prepared.nearest_view(f32(euler)) for euler in eulers] == [0, 1, 0, 2, 2, 3]


def test_degenerate_regions_and_impossible_landmarks_give_zero() -> None:
    gray = np.full((40, 50), 7, np.uint8)
    far_away = [corner_landmarks(-500, 10, 8), corner_landmarks(500, 10, 8), corner_landmarks(10, -1e30, 8)]
    no_numbers = [f32([1, np.nan, 3, 4, 5, 6]), f32([1, 2, 3, 4, np.inf, 6])]
    for landmarks in far_away + no_numbers:
        assert tiny()(gray, landmarks, F0) == 0
    assert tiny()(np.zeros((2, 2), np.uint8), corner_landmarks(0, 0, 2), F0) == 0
    assert tiny()(gray, corner_landmarks(10, 10, 8), F0) > 0


def test_region_is_truncated_then_clipped() -> None:
    landmarks = f32([10.9, 20.2, 15, 3.5, 30.9, 12])
    assert region(landmarks, 100, 100) == (7, 0, 23, 33)
    assert region(landmarks, 30, 20) == (7, 0, 19, 29)
    assert region(f32([1, 2, 5.9, 6.9]), 100, 100) == (0, 2, 5, 9)


def test_triangle_maps_carry_reference_corners_to_the_landmarks() -> None:
    view = module.PreparedView.prepare(tiny_view())
    landmarks = f32([11, 19, 12, 13, 14, 25])
    triangle_maps(landmarks, 5, 6, view.triangles, view.weights, view.coefficients)
    x, y = view.coefficients[0, :3], view.coefficients[0, 3:]
    for corner, (column, row) in enumerate([(0, 0), (4, 0), (0, 4)]):
        position = x @ [1, column, row] + 5, y @ [1, column, row] + 6
        assert position == (landmarks[corner], landmarks[3 + corner])


def remap_twin(patch: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Bilinear sampling at positions rounded to 1/32 px; each tap outside counts as 0."""
    fixed_x, fixed_y = np.rint(32 * x).astype(int), np.rint(32 * y).astype(int)
    padded = np.zeros((patch.shape[0] + 200, patch.shape[1] + 200))
    padded[100:-100, 100:-100] = patch
    column, row = (fixed_x >> 5) + 100, (fixed_y >> 5) + 100
    fx, fy = (fixed_x & 31) / 32, (fixed_y & 31) / 32
    return (1 - fy) * ((1 - fx) * padded[row, column] + fx * padded[row, column + 1]) + fy * (
        (1 - fx) * padded[row + 1, column] + fx * padded[row + 1, column + 1]
    )


def test_sampling_equals_its_twin_inside_at_the_edge_and_outside() -> None:
    rng = np.random.default_rng(0)
    gray = rng.integers(0, 256, (60, 70)).astype(np.uint8)
    x0, y0, x1, y1 = 11, 7, 47, 39
    points = rng.uniform(-30, 60, (3000, 2)).astype(np.float32)
    points[:40] = np.mgrid[-1:1, 30:50].reshape(2, -1).T  # whole pixels around the edges
    identity = f32([[0, 1, 0, 0, 0, 1]])
    identities = np.repeat(identity, 3, axis=0)
    pixels = by_triangle(rng.integers(0, 3, len(points)).astype(np.int32), points, 3)
    values = np.zeros(len(points))
    sample(gray, x0, y0, x1, y1, *pixels, identities, np.zeros((2, len(points)), np.int32), values)
    expected = remap_twin(gray[y0:y1, x0:x1], points[:, 0], points[:, 1])
    assert np.array_equal(values, expected)
    assert (values == 0).any()
    map_x, map_y = points.T[..., None].copy()
    opencv = cv2.remap(gray[y0:y1, x0:x1].astype(np.float32), map_x, map_y, interpolation=cv2.INTER_LINEAR)
    assert np.array_equal(values, opencv.ravel())


def test_normalisation_equals_its_formula() -> None:
    rng = np.random.default_rng(1)
    values, mean, deviation = rng.uniform(0, 255, 300), rng.normal(size=300), rng.uniform(0.01, 2, 300)
    expected = ((values - values.mean()) / values.std() - mean) / deviation
    normalise(values, mean, deviation)
    np.testing.assert_allclose(values, expected, rtol=1e-10, atol=1e-10)
    flat = np.full(300, 9.0)
    normalise(flat, mean, deviation)
    np.testing.assert_allclose(flat, -mean / deviation, rtol=1e-12)


def test_a_validator_that_contradicts_itself_is_refused() -> None:
    view = tiny_view()
    short = ValidatorView(**{**vars(view), "mean": view.mean[1:]})
    with pytest.raises(ModelError, match="face pixels"):
        Certainty(Validator((short,)))
    with pytest.raises(ModelError, match="no views"):
        Certainty(Validator(()))


# --- recorded values ------------------------------------------------------------------------------


@cache
def validator(models: Path = OPENFACE, name: str = "main_clnf_general") -> Validator:
    found = load_landmark_model(find_models(models), name).validator
    assert found is not None
    return found


def vector(points: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(points.T.ravel())


each_frame = pytest.mark.parametrize(
    ("clip", "frame"), [(clip, frame) for clip in ("video01", "2015-10-15-15-14") for frame in (1, 2, 30, 31)]
)


@needs_shared
@each_frame
def test_every_step_equals_the_recorded_one(clip: str, frame: int) -> None:
    arrays = stage(clip, f"frame_{frame}")
    name = "hyp00." if frame == 1 else "track."
    recorded = {key[len(name) :]: arrays[key] for key in arrays if key.startswith(name)}
    gray, landmarks = arrays["gray"], vector(recorded["main.final_landmarks"])
    prepared = Certainty(validator())
    index = prepared.nearest_view(recorded["main.final_global"][1:4])
    assert index == recorded["validator.view"]
    view = prepared.views[index]
    x0, y0, x1, y1 = region(landmarks, *gray.shape)
    assert (x0, y0, x1, y1) == tuple(recorded["validator.roi"])

    triangle_maps(landmarks, x0, y0, view.triangles, view.weights, view.coefficients)
    face = recorded["validator.mask"].T > 0  # column by column
    c, (x, y) = view.coefficients[view.triangle_of], view.points.T
    assert np.array_equal((c[:, 0] + c[:, 1] * x) + c[:, 2] * y, recorded["validator.map_x"].T[face])
    assert np.array_equal((c[:, 3] + c[:, 4] * x) + c[:, 5] * y, recorded["validator.map_y"].T[face])
    sample(gray, x0, y0, x1, y1, *view.sorted_, view.coefficients, view.positions, view.values)
    assert np.array_equal(view.values, recorded["validator.warped"].T[face])
    normalise(view.values, view.mean, view.deviation)
    np.testing.assert_allclose(view.values, recorded["validator.vector"], rtol=1e-6, atol=2e-4)

    result = prepared(gray, landmarks, recorded["main.final_global"][1:4])
    np.testing.assert_allclose(
        view.network.output_buffer().ravel(), recorded["validator.raw_output"].ravel(), rtol=0, atol=3e-5
    )
    assert np.float32(result) == recorded["main.certainty"]


@needs_shared
def test_every_hypothesis_has_its_recorded_certainty() -> None:
    for clip in ("video01", "2015-10-15-15-14"):
        arrays, prepared = stage(clip, "frame_1"), Certainty(validator())
        landmarks, parameters = arrays["hyps.main.final_landmarks"], arrays["hyps.main.final_global"]
        recorded = arrays["hyps.main.certainty"]
        assert len(recorded) == 11
        found = [
            certainty(arrays["gray"], vector(points), g[1:4], prepared)
            for points, g in zip(landmarks, parameters, strict=True)
        ]
        assert f32(found).tolist() == recorded.tolist()


def frames(clip: str) -> Iterator[np.ndarray]:
    capture = cv2.VideoCapture(str(VIDEOS[clip]))
    while (frame := capture.read()[1]) is not None:
        yield np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), np.uint8)


@needs_shared
@pytest.mark.parametrize(("clip", "n_frames"), [("video01", 300), ("2015-10-15-15-14", 842), ("lost", 290)])
def test_every_frame_with_a_fit_has_its_recorded_certainty(clip: str, n_frames: int) -> None:
    light, prepared = stage(clip, "light"), Certainty(validator())
    fitted = (light["path_bits"] & (1 | 8)) != 0
    differing, count = [], 0
    for i, gray in enumerate(frames(clip)):
        count += 1
        found = prepared(gray, vector(light["landmarks_2d"][i]), light["params_global"][i, 1:4])
        if fitted[i] and np.float32(found) != light["certainty"][i]:
            differing.append(i + 1)
    assert count == n_frames
    assert fitted.sum() >= 245
    assert differing == []


def check_picture(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return (17 * x + 31 * y + x * y) % 256


@needs_shared
@pytest.mark.parametrize(("index", "total", "first"), [(0, -7202.3, [113.946, 200.04]), (5, -6967.8, [35.1099])])
def test_features_reproduce_the_check_vectors(index: int, total: float, first: list[float]) -> None:
    view = Certainty(validator()).views[index]
    features = check_picture(60, 60).ravel()[view.pixels].astype(float)
    normalise(features, view.mean, view.deviation)
    assert features.sum() == pytest.approx(total, abs=0.06)
    assert features[: len(first)] == pytest.approx(first, rel=1e-5)
    if index == 0:
        assert features[-1] == pytest.approx(-131.04, rel=1e-5)


@needs_shared
@pytest.mark.parametrize(
    ("name", "bins", "first", "last"),
    [("validator_cnn", 30, -3.35494, 20.1461), ("validator_cnn_68", 20, 3.54346, 9.72443)],
)
def test_networks_reproduce_the_check_vectors(name: str, bins: int, first: float, last: float) -> None:
    prepared = Certainty(read_validator(OPENFACE / "model" / "detection_validation" / f"{name}.txt"))
    assert len(prepared.views) == 7
    for index, view in enumerate(prepared.views):
        features = check_picture(60, 60).ravel()[view.pixels].astype(float)
        normalise(features, view.mean, view.deviation)
        image = np.zeros(60 * 60, np.float32)
        image[view.pixels] = features
        logits = view.network(image.reshape(1, 1, 60, 60)).ravel()
        assert logits.shape == (bins,)
        assert logits.argmax() == bins - 1
        if index == 0:
            assert (logits[0], logits[-1]) == pytest.approx((first, last), rel=1e-5)


@needs_shared
def test_sizes_and_bins_come_from_the_file() -> None:
    pack = validator(SHARED / "demo" / "pack", "main_ceclm_general")
    prepared = Certainty(pack)
    assert [view.network.input_shape for view in prepared.views] == [(1, 34, 35), (1, 34, 33), (1, 34, 33)]
    rng = np.random.default_rng(2)
    for view, source in zip(prepared.views, pack.views, strict=True):
        image = rng.standard_normal(view.network.input_shape).astype(np.float32)
        expected = evaluate(source.cnn, image)
        assert view.network.output_shape == expected.shape == (20, 1, 1)
        np.testing.assert_allclose(view.network(image[None])[0], expected, atol=1e-4 * np.abs(expected).max())


@needs_shared
def test_demo_clip_has_its_golden_confidence() -> None:
    prepared = Certainty(validator(SHARED / "demo" / "pack", "main_ceclm_general"))
    golden = np.genfromtxt(SHARED / "demo" / "golden" / "astronaut.csv", delimiter=",", names=True, autostrip=True)
    capture = cv2.VideoCapture(str(SHARED / "demo" / "clips" / "astronaut.mp4"))
    assert len(golden) == 270
    for row in golden:
        gray = np.asarray(cv2.cvtColor(capture.read()[1], cv2.COLOR_BGR2GRAY), np.uint8)
        landmarks = f32([row[f"{axis}_{i}"] for axis in "xy" for i in range(68)])
        euler = f32([row["p_rx"], row["p_ry"], row["p_rz"]])
        assert round(prepared(gray, landmarks, euler), 2) == row["confidence"]  # the CSV has two decimals
