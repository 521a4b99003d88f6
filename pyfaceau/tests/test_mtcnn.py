from __future__ import annotations

from functools import cache

import cv2
import numpy as np
import pytest

from pyfaceau.detect import boxes as box
from pyfaceau.detect import mtcnn
from pyfaceau.detect.mtcnn import MTCNN, Candidates, crop_and_resize, detect_faces, pyramid_scales
from pyfaceau.errors import ModelError
from pyfaceau.tests.shared import OPENFACE, SHARED, needs_shared, stage
from pyfaceau.weights.models import CNN, Conv, MTCNNWeights
from pyfaceau.weights.store import find_models, load_mtcnn

CLIPS = ["video01", "2015-10-15-15-14"]
FRAMES = [1, 2, 30, 31]
PX = 1e-4  # px; the stated goal is 1e-3
SCORE = 5e-6


def rows(*values: tuple[float, ...]) -> np.ndarray:
    return np.array(values, np.float32).reshape(-1, 4)


def f32(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def suppress_twin(boxes: np.ndarray, scores: np.ndarray, threshold: float, minimum: bool) -> list[int]:
    """Greedy suppression as the specification words it."""
    left = sorted(range(len(scores)), key=lambda i: (scores[i], i))
    kept = []
    while left:
        best = left.pop()
        kept.append(best)
        x, y, w, h = np.rint(boxes[best])
        survivors = []
        for i in left:
            a, b, c, d = np.rint(boxes[i])
            inter = max(0.0, min(x + w, a + c) - max(x, a)) * max(0.0, min(y + h, b + d) - max(y, b))
            whole = min(w * h, c * d) if minimum else w * h + c * d - inter
            if not np.float32(inter) / np.float32(whole) > np.float32(threshold):
                survivors.append(i)
        left = survivors
    return kept


# --- boxes ---------------------------------------------------------------------------------------


def test_suppression_keeps_the_best_and_goes_in_descending_order() -> None:
    boxes = rows((0, 0, 10, 10), (0, 0, 10, 9), (50, 0, 10, 10), (0, 0, 9, 10))
    assert box.suppress(boxes, f32(0.7, 0.9, 0.95, 0.8), 0.5).tolist() == [2, 1]


def test_of_equal_scores_the_later_box_stays() -> None:
    boxes = rows((0, 0, 10, 10), (1, 0, 10, 10), (40, 0, 10, 10), (41, 0, 10, 10))
    assert box.suppress(boxes, f32(0.9, 0.9, 0.9, 0.9), 0.5).tolist() == [3, 1]


def test_an_overlap_equal_to_the_threshold_is_allowed() -> None:
    half = rows((0, 0, 10, 10), (0, 0, 10, 5))  # intersection 50, union 100
    assert box.suppress(half, f32(0.9, 0.8), 0.5).tolist() == [0, 1]
    assert box.suppress(half, f32(0.9, 0.8), 0.49).tolist() == [0]


def test_minimum_divides_by_the_smaller_box() -> None:
    nested = rows((0, 0, 20, 20), (5, 5, 10, 10))  # union overlap 1/4, minimum overlap 1
    assert box.suppress(nested, f32(0.9, 0.8), 0.7).tolist() == [0, 1]
    assert box.suppress(nested, f32(0.9, 0.8), 0.7, minimum=True).tolist() == [0]


def test_suppression_measures_rounded_boxes() -> None:
    # 3.5 rounds to 4 and 2.5 to 2 (half to even): 2x4 of 4x4 is 1/2; unrounded it would be 2.5/3.5.
    boxes = rows((0, 0, 3.5, 3.5), (0, 0, 2.5, 3.5))
    assert box.suppress(boxes, f32(0.9, 0.8), 0.5).tolist() == [0, 1]


@pytest.mark.parametrize("minimum", [False, True])
@pytest.mark.parametrize("threshold", [0.3, 0.7])
def test_suppression_equals_its_twin(threshold: float, minimum: bool) -> None:
    rng = np.random.default_rng(0)
    boxes = np.hstack([rng.uniform(0, 40, (150, 2)), rng.uniform(20, 40, (150, 2))]).astype(np.float32)
    scores = rng.integers(0, 20, 150).astype(np.float32)  # many ties
    kept = box.suppress(boxes, scores, threshold, minimum)
    assert kept.tolist() == suppress_twin(boxes, scores, threshold, minimum)
    assert 1 < len(kept) < 149


def test_suppression_of_nothing_is_nothing() -> None:
    assert box.suppress(rows(), f32(), 0.5).tolist() == []


def test_corrections_move_the_edges_of_the_rounded_box() -> None:
    boxes, corrections = rows((10.5, 20.4, 9.6, 20)), rows((0.1, -0.1, 0.2, 0.3))
    np.testing.assert_allclose(box.correct(boxes, corrections), rows((11, 18, 11, 28)), rtol=1e-6)
    np.testing.assert_allclose(box.correct(boxes, corrections, margin=1), rows((11.1, 17.9, 12.1, 29.4)), rtol=1e-6)


def test_squares_have_the_longer_side_and_whole_numbers() -> None:
    # 10.2 + (10.9 - 30.7) / 2 = 0.3; -4.9 and 0.9 + (4 - 8) / 2 = -1.1 are cut towards zero.
    squares = box.square(rows((10.2, 20, 10.9, 30.7), (-4.9, 0.9, 8, 4)))
    assert squares.tolist() == [[0, 20, 30, 30], [-4, -1, 8, 8]]


def test_landmark_box_uses_the_width_and_height_before_their_change() -> None:
    np.testing.assert_allclose(
        box.landmark_tight(rows((100, 200, 100, 200))), rows((99.25, 249.18, 103.23, 155.02)), rtol=1e-6
    )


def test_boxes_that_miss_the_picture_are_dropped() -> None:
    squares = rows(
        (0, 0, 5, 5), (3, 3, 0, 0), (-5, 0, 5, 5), (-4, 0, 5, 5), (20, 0, 5, 5), (21, 0, 5, 5), (0, 10, 5, 5),
        (0, 11, 5, 5), (0, -5, 5, 5),
    )  # fmt: skip
    assert box.touches(squares, height=10, width=20).tolist() == [1, 0, 0, 1, 1, 0, 1, 0, 0]


def test_the_widest_box_wins_and_the_first_of_equals() -> None:
    boxes = rows((0, 0, 10, 90), (50, 50, 30, 10), (80, 80, 30, 40))
    assert box.widest(boxes) == 1
    assert box.choose(boxes) == 1
    assert box.choose(boxes, preference=(90, 95)) == 2
    assert box.choose(boxes, preference=(4, 40)) == 0
    assert box.widest(rows()) is None
    assert box.choose(rows(), preference=(1, 1)) is None


# --- pictures ------------------------------------------------------------------------------------


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3)).astype(np.uint8)


@pytest.mark.parametrize("size", [(13, 17), (24, 24), (96, 61)])
def test_resizing_equals_opencv(size: tuple[int, int]) -> None:
    picture, (height, width) = noise(71, 53), size
    out = np.full((3, 1, height, width), np.nan, np.float32)
    crop_and_resize(picture, np.array([[0, 0, 53, 71]]), out)
    expected = (cv2.resize(picture.astype(np.float32), (width, height)) - 127.5) / 128
    np.testing.assert_allclose(out[::-1, 0].transpose(1, 2, 0), expected, atol=2e-5)


def test_crops_over_the_edge_see_black() -> None:
    picture = noise(40, 50)
    padded = np.zeros((140, 150, 3), np.float32)
    padded[50:90, 50:100] = picture
    crops = np.array([[-7, -3, 31, 31], [30, 35, 40, 40], [5, 6, 20, 20], [-60, 0, 5, 5]])
    out = np.full((3, 4, 24, 24), np.nan, np.float32)
    crop_and_resize(picture, crops, out)
    for k, (x, y, w, h) in enumerate(crops[:3]):
        part = padded[50 + y : 50 + y + h, 50 + x : 50 + x + w]
        expected = (cv2.resize(part, (24, 24)) - 127.5) / 128
        np.testing.assert_allclose(out[::-1, k].transpose(1, 2, 0), expected, atol=2e-5)
    assert (out[:, 3] == np.float32(-0.99609375)).all()


def test_pyramid_of_the_usual_sizes() -> None:
    assert len(pyramid_scales(360, 480)) == 6
    scales = pyramid_scales(480, 640)
    assert len(scales) == 7
    assert scales[3] == 0.2 * 0.709**3
    assert [len(pyramid_scales(side, 2000)) for side in (0, 1, 42, 43, 59, 60, 61)] == [0, 0, 0, 0, 0, 1, 1]


def test_networks_with_too_few_outputs_are_refused() -> None:
    thin = CNN((Conv(np.zeros((4, 3, 12, 12), np.float32), np.zeros(4, np.float32)),))
    with pytest.raises(ModelError, match=r"RNet\.dat"):
        MTCNN(MTCNNWeights(thin, thin, thin))


# --- recorded values -----------------------------------------------------------------------------


@cache
def detector() -> MTCNN:
    return MTCNN(load_mtcnn(find_models(OPENFACE)))


def recorded(clip: str, frame: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    arrays = stage(clip, f"frame_{frame}")
    prefix = "mtcnn." if "mtcnn.n_scales" in arrays else "mtcnn_extra."
    return arrays["bgr"], {key[len(prefix) :]: arrays[key] for key in arrays if key.startswith(prefix)}


def assert_close(actual: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance)


each_frame = pytest.mark.parametrize(("clip", "frame"), [(clip, frame) for clip in CLIPS for frame in FRAMES])


@needs_shared
@each_frame
def test_proposals_of_each_level_equal_the_recorded_ones(clip: str, frame: int) -> None:
    bgr, expected = recorded(clip, frame)
    scales = pyramid_scales(*bgr.shape[:2])
    assert len(scales) == expected["n_scales"]
    for level, scale in enumerate(scales):
        name = f"p{level:02d}."
        assert scale == expected[name + "scale"]
        found = detector().propose(bgr, scale)
        assert np.array_equal(found.boxes, expected[name + "boxes"])
        assert_close(found.scores, expected[name + "scores"], SCORE)
        assert_close(found.corrections, expected[name + "box_corrections"], SCORE)
        assert np.array_equal(box.suppress(found.boxes, found.scores, 0.5), expected[name + "nms_keep"])


@needs_shared
@each_frame
def test_pnet_boxes_equal_the_recorded_ones(clip: str, frame: int) -> None:
    bgr, expected = recorded(clip, frame)
    found = detector().proposals(bgr)
    assert np.array_equal(found.boxes, expected["pnet.nms_boxes"])
    assert_close(found.scores, expected["pnet.nms_scores"], SCORE)
    assert_close(found.corrections, expected["pnet.nms_corrections"], SCORE)
    assert_close(box.correct(found.boxes, found.corrections), expected["pnet.corrected_boxes"], PX)
    assert np.array_equal(found.squares(), expected["pnet.square_boxes"])


@needs_shared
@each_frame
def test_rnet_boxes_equal_the_recorded_ones(clip: str, frame: int) -> None:
    bgr, expected = recorded(clip, frame)
    found = detector().refine(bgr, expected["pnet.square_boxes"], detector().rnet)
    assert np.array_equal(found.scores, expected["rnet.scores"])
    assert np.array_equal(found.corrections, expected["rnet.corrections"])
    found = found.likely(0.7).suppress(0.7)
    assert np.array_equal(found.boxes, expected["rnet.nms_boxes"])
    assert np.array_equal(found.scores, expected["rnet.nms_scores"])
    assert np.array_equal(box.correct(found.boxes, found.corrections), expected["rnet.corrected_boxes"])
    assert np.array_equal(found.squares(), expected["rnet.square_boxes"])


@needs_shared
@each_frame
def test_onet_boxes_equal_the_recorded_ones(clip: str, frame: int) -> None:
    bgr, expected = recorded(clip, frame)
    found = detector().refine(bgr, expected["rnet.square_boxes"], detector().onet)
    assert np.array_equal(found.scores, expected["onet.scores"])
    assert np.array_equal(found.corrections, expected["onet.corrections"])
    found = found.likely(0.7)
    assert np.array_equal(found.boxes, expected["onet.kept_boxes"])
    corrected = box.correct(found.boxes, found.corrections, margin=1)
    assert np.array_equal(corrected, expected["onet.corrected_boxes"])
    kept = box.suppress(corrected, found.scores, 0.7, minimum=True)
    assert np.array_equal(corrected[kept], expected["onet.nms_boxes"])
    assert np.array_equal(found.scores[kept], expected["onet.nms_scores"])


@needs_shared
@each_frame
def test_faces_equal_the_recorded_ones(clip: str, frame: int) -> None:
    bgr, expected = recorded(clip, frame)
    boxes, confidence = detect_faces(bgr, detector())
    assert boxes.dtype == confidence.dtype == np.float32
    assert np.array_equal(boxes, expected["final_boxes"])
    assert np.array_equal(confidence, expected["final_scores"])


@needs_shared
def test_faces_of_a_clip_that_is_lost_and_found_equal_the_recorded_ones() -> None:
    light = stage("lost", "light")
    video, at = cv2.VideoCapture(str(SHARED / "stages" / "lost" / "lost.mp4")), 0
    for number, expected in zip(light["detector_boxes.frames"], light["detector_boxes"], strict=True):
        while at < number:
            at, (_, frame) = at + 1, video.read()
        boxes, confidence = detect_faces(np.asarray(frame, np.uint8), detector())
        assert np.array_equal(boxes, expected[None, 4:8])
        assert np.array_equal(confidence, expected[8:])


@needs_shared
@pytest.mark.parametrize("clip", CLIPS)
def test_network_inputs_equal_the_recorded_ones(clip: str) -> None:
    bgr, expected = recorded(clip, 1)
    for level in (0, 3):
        picture = expected[f"p{level:02d}.net_input"]
        out = np.zeros((3, 1, *picture.shape[:2]), np.float32)
        crop_and_resize(bgr, np.array([[0, 0, bgr.shape[1], bgr.shape[0]]]), out)
        assert np.array_equal(out[::-1, 0].transpose(1, 2, 0), picture)
    for name, squares, side in (("rnet", "pnet", 24), ("onet", "rnet", 48)):
        crops = expected[f"{squares}.square_boxes"][:3].astype(np.int64) + np.array([-1, -1, 1, 1])
        out = np.zeros((3, len(crops), side, side), np.float32)
        crop_and_resize(bgr, crops, out)
        for k in range(len(crops)):
            assert np.array_equal(out[::-1, k].transpose(1, 2, 0), expected[f"{name}.input{k:02d}"])


@needs_shared
def test_frame_without_faces_and_frames_too_small_give_none() -> None:
    sizes = [(480, 640), (60, 60), (61, 83), (59, 640), (43, 50), (1, 1), (0, 0)]
    for height, width in sizes:
        boxes, confidence = detect_faces(np.zeros((height, width, 3), np.uint8), detector())
        assert boxes.shape == (0, 4)
        assert confidence.shape == (0,)


@needs_shared
def test_frames_of_changing_size_and_layout_give_the_same_as_alone() -> None:
    bgr, expected = recorded("video01", 1)
    detect_faces(np.ascontiguousarray(bgr[:241, :323]), detector())
    boxes, _ = detect_faces(np.asfortranarray(bgr), detector())
    assert_close(boxes, expected["final_boxes"], PX)


@needs_shared
def test_a_face_cut_off_by_the_picture_is_no_error() -> None:
    bgr, _ = recorded("video01", 1)
    for part in (bgr[:, 250:], bgr[150:], bgr[:, :260], bgr[:170]):
        boxes, confidence = detect_faces(part, detector())
        assert len(boxes) == len(confidence)
        assert np.isfinite(boxes).all()


@needs_shared
def test_widths_come_from_the_files() -> None:
    small = MTCNN(load_mtcnn(find_models(SHARED / "demo" / "pack")))
    assert small.onet.output_shape == (6, 1, 1)
    assert detector().onet.output_shape == (16, 1, 1)
    _, frame = cv2.VideoCapture(str(SHARED / "demo" / "clips" / "astronaut.mp4")).read()
    boxes, confidence = detect_faces(np.asarray(frame, np.uint8), small)
    assert_close(boxes, rows((154.1643, 109.1846, 171.6348, 167.4892)), PX)
    assert confidence.tolist() == [pytest.approx(1, abs=1e-4)]


def test_candidates_keep_scores_at_the_threshold() -> None:
    zeros = np.zeros((3, 4), np.float32)
    found = Candidates(zeros, f32(0.7, np.nextafter(np.float32(0.7), np.float32(0)), 0.9), zeros)
    assert found.likely(0.7).scores.tolist() == f32(0.7, 0.9).tolist()


def test_probability_of_certain_background_is_zero() -> None:
    assert mtcnn._probability(f32(500, 0, -500), f32(-500, 0, 500)).tolist() == [0, 0.5, 1]
