"""The tracker: closed loop against recorded clips, and every branch of its control flow by scripted fits."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest

from pyfaceau.config import Config
from pyfaceau.detect.mtcnn import MTCNN
from pyfaceau.landmarks.fit import FitSettings, Fitter, PartState
from pyfaceau.landmarks.search import HYPOTHESES, Hypothesis, start_in_box
from pyfaceau.landmarks.tracker import Track, Tracker, visible_landmarks
from pyfaceau.tests import landmark_twin as twin
from pyfaceau.tests.demo import CLIP, GOLDEN, PACK, needs_demo
from pyfaceau.tests.landmark_material import openface_model, planar, tiny_model, tiny_pdm
from pyfaceau.tests.shared import OPENFACE, SHARED, needs_shared, stage
from pyfaceau.threads import Crew
from pyfaceau.weights.models import LandmarkModel, Part
from pyfaceau.weights.store import load_landmark_model, load_mtcnn

VIDEOS = {
    "video01": SHARED / "videos" / "torchopenface_video01.mp4",
    "2015-10-15-15-14": SHARED / "videos" / "openface_2015-10-15-15-14.avi",
    "lost": SHARED / "stages" / "lost" / "lost.mp4",
}
INIT, SMALL = (11, 9, 7, 5), (0, 9, 7, 0)
BOX = np.array([[100, 120, 200, 180]], np.float32)
NOTHING = np.empty((0, 4), np.float32)
FRAME, GRAY = np.zeros((480, 640, 3), np.uint8), np.zeros((480, 640), np.uint8)


def frames(path: Path, count: int | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """BGR and grey of a clip's first frames."""
    capture = cv2.VideoCapture(str(path))
    assert capture.isOpened()
    while count is None or count > 0:
        there, bgr = capture.read()
        if not there:
            break
        yield bgr, cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY)
        count = None if count is None else count - 1
    capture.release()


# --- closed loop ----------------------------------------------------------------------------------------


class Watched(Tracker):
    """Notes which branches ran, as the recordings' ``path_bits`` do, and the windows of the last fit."""

    bits: int
    windows: tuple[int, ...]

    def track(self, bgr: np.ndarray, gray: np.ndarray) -> Track:
        self.bits, self.windows = 0, (-1, -1, -1, -1)
        return super().track(bgr, gray)

    def _fit(self, gray: np.ndarray, settings: FitSettings) -> bool:
        self.windows = (*settings.windows, 0, 0, 0)[:4]
        accepted = super()._fit(gray, settings)
        if not self.bits & 4:
            self.bits |= 1 | 2 * accepted
        return accepted

    def _try(self, fitter: Fitter, gray: np.ndarray, box: np.ndarray, rotation: np.ndarray) -> Hypothesis:
        self.windows = (*self._searching.windows, 0, 0, 0)[:4]
        return super()._try(fitter, gray, box, rotation)

    def _detect(self, bgr: np.ndarray) -> np.ndarray | None:
        self.bits |= 4
        return super()._detect(bgr)

    def _start(self, gray: np.ndarray, box: np.ndarray, first: bool) -> bool:
        accepted = super()._start(gray, box, first)
        self.bits |= 8 | (16 if accepted else 32)
        return accepted


@cache
def mtcnn() -> MTCNN:
    return MTCNN(load_mtcnn(OPENFACE))


def watched(name: str = "main_clnf_general") -> Watched:
    return Watched(openface_model(name), mtcnn(), Config())


@dataclass
class Run:
    """What a tracker answered, frame by frame."""

    tracks: list[Track] = field(default_factory=list)
    bits: list[int] = field(default_factory=list)
    windows: list[tuple[int, ...]] = field(default_factory=list)

    @classmethod
    def of(cls, tracker: Watched, clip: Path, count: int | None = None) -> Run:
        run = cls()
        for bgr, gray in frames(clip, count):
            run.tracks.append(tracker.track(bgr, gray))
            run.bits.append(tracker.bits)
            run.windows.append(tracker.windows)
        return run

    def column(self, name: str) -> np.ndarray:
        return np.array([getattr(track, name) for track in self.tracks])

    def bytes(self) -> bytes:
        """All numbers of all answers."""
        parts = [b"".join((t.g.tobytes(), t.p.tobytes(), t.landmarks.tobytes())) for t in self.tracks]
        eyes = [state.landmarks.tobytes() for t in self.tracks for _, state in t.eyes or ()]
        flags = [repr((t.success, t.detected, t.certainty, t.likelihood)).encode() for t in self.tracks]
        return b"".join([*parts, *eyes, *flags])


def assert_follows(run: Run, clip: str, name: str = "light") -> None:
    """Flags, branches, windows, certainty equal on every frame; landmarks to 0.05 px where there is a face."""
    light, count = stage(clip, name), len(run.tracks)
    np.testing.assert_array_equal(run.column("success"), light["returned_success"][:count])
    np.testing.assert_array_equal(run.bits, light["path_bits"][:count])
    np.testing.assert_array_equal(run.windows, light["window_sizes"][:count])
    good = light["returned_success"][:count] == 1
    np.testing.assert_allclose(run.column("certainty")[good], light["certainty"][:count][good], atol=1e-6)
    expected = np.array([planar(points) for points in light["landmarks_2d"][:count]])
    off = np.abs(run.column("landmarks") - expected)[good].reshape(good.sum(), 2, -1)
    error = np.hypot(off[:, 0], off[:, 1]).mean(axis=1)
    assert error.mean() <= 0.02
    assert error.max() <= 0.05
    if "detection_success" in light:
        np.testing.assert_array_equal(run.column("detected"), light["detection_success"][:count])


def assert_same(run: Run, clip: str) -> None:
    """As `assert_follows`, and parameters to the bit."""
    assert_follows(run, clip)
    light, count = stage(clip, "light"), len(run.tracks)
    for name, recorded in (("g", "params_global"), ("p", "params_local")):
        np.testing.assert_array_equal(run.column(name), light[recorded][:count])


@needs_shared
def test_closed_loop() -> None:
    """The reference's parameters to the bit, frame after frame."""
    assert_same(Run.of(watched(), VIDEOS["video01"], 60), "video01")


@needs_shared
def test_closed_loop_with_parts() -> None:
    run = Run.of(watched(), VIDEOS["2015-10-15-15-14"], 60)
    assert_same(run, "2015-10-15-15-14")
    expected = stage("2015-10-15-15-14", "light")["eye_landmarks_2d"][:60]
    for track, points in zip(run.tracks, expected, strict=True):
        assert track.eyes is not None
        eyes = np.concatenate([state.landmarks.reshape(2, 28).T for _, state in track.eyes])
        np.testing.assert_array_equal(eyes, points)


@needs_shared
def test_closed_loop_with_svr_experts() -> None:
    assert_follows(Run.of(watched("main_clm_general"), VIDEOS["video01"], 30), "video01", "clm_light")


@needs_shared
def test_closed_loop_of_a_face_that_is_lost_and_found() -> None:
    """Black, a face, black, the face elsewhere, black for 120 frames (forgotten), the face again."""
    run = Run.of(watched(), VIDEOS["lost"])
    assert_follows(run, "lost")
    assert {28, 29, 5, 1, 4, 0, 3} == set(run.bits)


@needs_shared
def test_runs_are_byte_identical_whatever_ran_before() -> None:
    first = Run.of(watched(), VIDEOS["lost"], 80).bytes()
    other = watched()
    Run.of(other, VIDEOS["2015-10-15-15-14"], 6)
    assert Run.of(watched(), VIDEOS["lost"], 80).bytes() == first
    side_by_side, run = watched(), Run()
    for (bgr, gray), (other_bgr, other_gray) in zip(
        frames(VIDEOS["lost"], 80), frames(VIDEOS["2015-10-15-15-14"], 80), strict=True
    ):
        other.track(other_bgr, other_gray)
        run.tracks.append(side_by_side.track(bgr, gray))
    assert run.bytes() == first


@needs_demo
def test_closed_loop_with_early_termination() -> None:
    """The demo pack's clip: the face is covered, found again, and leaves the picture."""
    tracker = Watched(load_landmark_model(PACK, "main_ceclm_general"), MTCNN(load_mtcnn(PACK)), Config())
    run = Run.of(tracker, CLIP)
    with GOLDEN.open(newline="") as lines:
        rows = list(csv.DictReader(lines, skipinitialspace=True))
    np.testing.assert_array_equal(run.column("success"), [row["success"] == "1" for row in rows])
    np.testing.assert_array_equal([f"{c:.2f}" for c in run.column("certainty")], [row["confidence"] for row in rows])
    good = run.column("success")
    expected = np.array([[row[f"{axis}_{i}"] for axis in "xy" for i in range(68)] for row in rows], float)
    off = (np.round(run.column("landmarks"), 1) - expected)[good].reshape(good.sum(), 2, -1)
    assert np.hypot(off[:, 0], off[:, 1]).mean() < 0.05
    assert not good.all()


# --- scripted fits ----------------------------------------------------------------------------------------


class Detector:
    """Answers from a function of the number of the call; counts frames and calls."""

    def __init__(self, answer: Callable[[int], np.ndarray] = lambda call: NOTHING) -> None:
        self.answer, self.frame, self.asked = answer, -1, []  # type: ignore[var-annotated]

    def detect(self, bgr: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.asked.append(self.frame)
        boxes = self.answer(len(self.asked) - 1)
        return boxes, np.ones(len(boxes), np.float32)


@dataclass
class Call:
    """One complete fit that was asked for."""

    frame: int
    windows: tuple[int, ...]
    g: np.ndarray
    p: np.ndarray


class Scripted(Tracker):
    """Fits by script: the n-th has the verdict, certainty and likelihood of ``script(call)``.

    It leaves n + 1 in the first shape parameter, in the translation and in all landmarks.
    """

    def __init__(
        self, detector: Detector, script: Callable[[Call], tuple[bool, float]], model: LandmarkModel | None = None,
        config: Config | None = None,
    ) -> None:  # fmt: skip
        super().__init__(model or tiny_model(), detector, config or Config())  # type: ignore[arg-type]
        self.detector, self.script, self.calls = detector, script, []  # type: ignore[var-annotated]

    def next(self, count: int = 1) -> Track:
        for _ in range(count):
            self.detector.frame += 1
            answer = self.track(FRAME, GRAY)
        return answer

    def of_frame(self, frame: int) -> list[Call]:
        return [call for call in self.calls if call.frame == frame]

    def _fit(self, gray: np.ndarray, settings: FitSettings) -> bool:
        accepted, self._fitter.likelihood = self._called(settings, self._g, self._p)
        self._fitter.likelihoods[:] = len(self.calls)
        return self._complete(gray, accepted)

    def _try(self, fitter: Fitter, gray: np.ndarray, box: np.ndarray, rotation: np.ndarray) -> Hypothesis:
        g, p = start_in_box(fitter.pdm, box, rotation), np.zeros(fitter.pdm.m, np.float32)
        accepted, likelihood = self._called(self._searching, g, p)
        return Hypothesis(accepted, likelihood, np.full(9, len(self.calls), np.float32), g, p)

    def _called(self, settings: FitSettings, g: np.ndarray, p: np.ndarray) -> tuple[bool, np.float32]:
        call = Call(self.detector.frame, settings.windows, g.copy(), p.copy())
        self.calls.append(call)
        accepted, likelihood = self.script(call)
        p[0] = g[4] = len(self.calls)
        return accepted, np.float32(likelihood)

    def _complete(self, gray: np.ndarray, fitted: bool) -> bool:
        number = self._p[0]
        self._landmarks = np.full(18, number, np.float32)
        self._tracked_certainty = 0.9 if fitted else number / 1000
        for part in self._parts:
            part.state = PartState(part.state.g, part.state.p, np.full(12, number, np.float32))
        return fitted


def always(accepted: bool) -> Callable[[Call], tuple[bool, float]]:
    return lambda call: (accepted, 0.0)


def found_then_nothing(call: int) -> np.ndarray:
    return BOX if call == 0 else NOTHING


def test_before_a_face_is_found_every_twelfth_frame_is_searched() -> None:
    detector = Detector()
    tracker = Scripted(detector, always(True))
    answers = [tracker.next() for _ in range(40)]
    assert detector.asked == [0, 12, 24, 36]
    assert not any(answer.success or answer.detected for answer in answers)
    assert not tracker.calls
    np.testing.assert_array_equal(answers[-1].g, [1, 0, 0, 0, 0, 0])
    assert answers[-1].likelihood == -10
    assert answers[-1].certainty == 0


def test_a_first_detection_counts_as_success_even_if_it_is_rejected() -> None:
    detector = Detector(found_then_nothing)
    tracker = Scripted(detector, always(False))
    answer = tracker.next()
    assert answer.success
    assert not answer.detected
    tracker.next()
    (call,) = tracker.of_frame(1)
    assert call.windows == INIT  # as after a failure


def test_windows_are_small_only_after_a_success() -> None:
    verdicts = {1: True, 2: True, 3: False, 4: False, 5: True, 6: True}
    tracker = Scripted(Detector(found_then_nothing), lambda call: (verdicts.get(call.frame, True), 0.0))
    answers = [tracker.next() for _ in range(7)]
    windows = [tracker.of_frame(frame)[0].windows for frame in range(1, 7)]
    assert windows == [SMALL, SMALL, SMALL, INIT, INIT, SMALL]
    assert [answer.success for answer in answers] == [True, True, True, False, False, True, True]
    assert [answer.detected for answer in answers] == [answer.success for answer in answers]


def test_a_lost_face_is_searched_in_the_same_frame_and_every_second_one_after() -> None:
    detector = Detector(found_then_nothing)
    tracker = Scripted(detector, lambda call: (call.frame < 5, 0.0))
    tracker.next(14)
    assert detector.asked == [0, 5, 7, 9, 11, 13]
    assert [len(tracker.of_frame(frame)) for frame in range(14)] == [11] + [1] * 13  # the fit goes on meanwhile


def test_a_success_starts_the_count_again() -> None:
    detector = Detector(found_then_nothing)
    tracker = Scripted(detector, lambda call: (call.frame not in (3, 4, 5, 8, 9), 0.0))
    tracker.next(12)
    assert detector.asked == [0, 3, 5, 8]


def test_a_failed_fit_without_a_box_stays_and_is_the_next_start() -> None:
    tracker = Scripted(Detector(found_then_nothing), lambda call: (call.frame == 0, 0.0))
    tracker.next()
    first, second = tracker.next(), tracker.next()
    assert first.p[0] == 12
    assert tracker.of_frame(2)[0].p[0] == 12
    assert second.p[0] == 13


def test_a_lost_face_is_forgotten_after_a_hundred_failures() -> None:
    """Then the search is that for a new face, and its first hit counts as one (frame 219 of the ``lost`` clip)."""
    detector = Detector(lambda call: BOX if call == 0 or detector.frame >= 150 else NOTHING)
    tracker = Scripted(detector, lambda call: (call.frame < 11, 0.0))  # frame 11 here is frame 111 there
    tracker.next(112)
    assert [frame for frame in range(1, 112) if not tracker.of_frame(frame)] == []
    assert detector.asked == [0, *range(11, 112, 2)]
    asked = len(detector.asked)
    tracker.next(200 - 112)
    assert detector.asked[asked : asked + 3] == [119, 131, 143]
    assert not tracker.of_frame(143)
    hit = next(frame for frame in detector.asked if frame >= 150)
    assert hit == 155
    assert [call.frame for call in tracker.calls].count(hit) == 11


def test_the_first_hit_after_forgetting_is_a_first_detection() -> None:
    detector = Detector(lambda call: BOX if detector.frame in (0, 119) else NOTHING)
    tracker = Scripted(detector, lambda call: (call.frame < 11, 0.0))
    answers = [tracker.next() for _ in range(122)]
    assert answers[119].success
    assert not answers[119].detected
    assert not answers[118].success
    assert len(tracker.of_frame(119)) == 11


def with_part(model: LandmarkModel) -> LandmarkModel:
    """With both eyes, of six points."""
    small = LandmarkModel("eye", "ccnf", tiny_pdm(6, 2), (model.patches[0],), (), None, None)
    names = ("left_eye_28", "right_eye_28")
    return replace(model, parts=tuple(Part(name, np.array([(0, 0)], np.int32), small) for name in names))


def test_a_rejected_redetection_puts_the_track_back_but_not_everything() -> None:
    """Restored: g, p, landmarks, likelihoods. Not: certainty, the verdict, the parts."""
    detector = Detector(lambda call: BOX)
    tracker = Scripted(detector, lambda call: (call.frame < 2, -float(call.frame)), with_part(tiny_model()))
    tracker.next(2)
    answer = tracker.next()
    assert len(tracker.of_frame(2)) == 1 + 11
    tracked, last = 11 + 1 + 1, 11 + 1 + 1 + 11  # numbers of the failed track and of the last hypothesis
    assert not answer.success
    assert not answer.detected
    assert answer.p[0] == answer.g[4] == tracked
    assert (answer.landmarks == tracked).all()
    assert answer.likelihood == -2
    np.testing.assert_array_equal(tracker._fitter.likelihoods, np.full(9, tracked))
    winner = tracked + 1  # all hypotheses are equally likely: the first
    assert answer.certainty == winner / 1000
    assert answer.eyes is not None
    assert {float(state.landmarks[0]) for _, state in answer.eyes} == {float(winner)}
    assert last == len(tracker.calls)


def test_a_rejected_redetection_does_not_count_as_a_failure() -> None:
    """The failure of the track does. A frame with a rejected face never forgets; the one after it may."""
    detector = Detector(lambda call: BOX)
    tracker = Scripted(detector, lambda call: (call.frame < 2, 0.0))
    tracker.next(103)
    assert tracker._failures == 100
    assert tracker._initialised
    tracker.next()
    assert tracker._failures == 101
    assert not tracker._initialised
    assert [tracker.next().success for _ in range(7)] == [False] * 6 + [True]  # a first detection again
    tracker.next()
    assert detector.asked == [0, *range(2, 103, 2), 110, 111]


def test_an_accepted_redetection_is_a_success() -> None:
    detector = Detector(lambda call: BOX)
    tracker = Scripted(detector, lambda call: (call.frame != 2 or len(tracker.of_frame(2)) > 1, 0.0))
    tracker.next(2)
    answer = tracker.next()
    assert answer.success
    assert answer.detected
    tracker.next()
    assert tracker.of_frame(3)[0].windows == SMALL
    assert detector.asked == [0, 2]


# --- the search -----------------------------------------------------------------------------------------------


@needs_shared
def test_start_in_a_box_check_vector() -> None:
    """Part 2, section 16."""
    expected = [1.39213, 0, -0.5236, 0, 228.6738, 200.0577]
    np.testing.assert_allclose(start_in_box(openface_model().pdm, BOX[0], HYPOTHESES[1]), expected, rtol=3e-6)


@needs_shared
@pytest.mark.parametrize("clip", ["video01", "2015-10-15-15-14"])
def test_recorded_starts_of_all_hypotheses(clip: str) -> None:
    arrays, pdm = stage(clip, "frame_1"), openface_model().pdm
    for rotation, expected in zip(HYPOTHESES, arrays["hyps.main.start_global"], strict=True):
        np.testing.assert_array_equal(start_in_box(pdm, arrays["face_box"], rotation), expected)


@needs_shared
def test_the_shape_s_middle_is_subtracted_in_float64() -> None:
    """Boxes of two clips whose first frames came out wrong with all of it in float32, by the last bit of ty."""
    boxes = [("0x1.4425540p+8", "0x1.913c440p+7", "0x1.dd1ca00p+7", "0x1.eb73cc0p+7"),
             ("0x1.404aa80p+8", "0x1.eb456a0p+6", "0x1.cba6720p+7", "0x1.d640140p+7")]  # fmt: skip
    for box, expected in zip(boxes, (311.32175, 228.70738), strict=True):
        place = np.array([float.fromhex(v) for v in box], np.float32)
        assert start_in_box(openface_model().pdm, place, HYPOTHESES[0])[5] == np.float32(expected)


def test_a_placed_shape_fills_its_box() -> None:
    pdm = tiny_pdm()
    g = start_in_box(pdm, np.array([10, 20, 300, 300], np.float32), HYPOTHESES[5])
    x, y = twin.Shape.of(pdm).project(g, np.zeros(pdm.m, np.float32)).reshape(2, -1)
    assert (x.min() + x.max()) / 2 == pytest.approx(160, abs=1e-3)
    assert (y.min() + y.max()) / 2 == pytest.approx(170, abs=1e-3)
    assert (np.ptp(x) / 300 + np.ptp(y) / 300) / 2 == pytest.approx(1, abs=0.05)


def test_the_search_tries_eleven_rotations_from_the_mean_shape() -> None:
    tracker = Scripted(Detector(lambda call: BOX), always(True))
    tracker.next()
    assert len(tracker.calls) == 11
    for call, rotation in zip(tracker.calls, HYPOTHESES, strict=True):
        assert call.windows == INIT
        assert not call.p.any()
        np.testing.assert_array_equal(call.g[1:4], rotation)
    turns = np.array([
        (0, 0, 0), (0, -.5236, 0), (0, .5236, 0), (0, -.96, 0), (0, .96, 0), (0, 0, .5236), (0, 0, -.5236),
        (0, -1.57, 0), (0, 1.57, 0), (0, -1.22, .698), (0, 1.22, -.698),
    ], np.float32)  # fmt: skip
    np.testing.assert_array_equal(HYPOTHESES, turns)


@pytest.mark.parametrize("accepted", [{4}, set(range(11)) - {4}])
def test_the_likeliest_hypothesis_wins_whatever_the_validator_says(accepted: set[int]) -> None:
    likelihoods = [0, 1, 2, 1, 5, 4, 5, -1, 0, 3, 2]  # 4 and 6 are equal: the first
    tracker = Scripted(
        Detector(lambda call: BOX),
        lambda call: (len(tracker.calls) - 1 in accepted, likelihoods[len(tracker.calls) - 1]),
        with_part(tiny_model()),
    )
    answer = tracker.next()
    assert answer.likelihood == 5
    assert answer.p[0] == answer.g[4] == 5
    assert (answer.landmarks == 5).all()
    assert answer.eyes is not None
    assert all((state.landmarks == 5).all() for _, state in answer.eyes)
    assert answer.detected == (4 in accepted)
    assert answer.success
    assert answer.certainty == (0.9 if 4 in accepted else 5 / 1000)


def test_the_widest_box_is_taken_the_first_of_equals() -> None:
    boxes = np.array([[0, 0, 50, 400], [100, 100, 80, 80], [300, 100, 80, 90]], np.float32)
    tracker = Scripted(Detector(lambda call: boxes), always(True))
    tracker.next()
    np.testing.assert_array_equal(tracker.calls[0].g, start_in_box(tiny_pdm(), boxes[1], HYPOTHESES[0]))


@pytest.mark.parametrize("helpers", [0, 1, 3])
def test_a_crew_finds_the_same_hypothesis(helpers: int) -> None:
    """With hypotheses that are given up before their likelihood is taken: the fit before them, in order, counts."""
    likelihoods = {0: 1.0, 1: 2.0, 2: -np.inf, 3: -np.inf, 4: 0.5, 5: -np.inf, 6: 2.0, 7: 1.0, 8: 0.0, 9: 0.0, 10: -1.0}
    rotations, crew = HYPOTHESES.tolist(), Crew()

    class Uneven(Scripted):
        def _try(self, fitter: Fitter, gray: np.ndarray, box: np.ndarray, rotation: np.ndarray) -> Hypothesis:
            index = rotations.index(rotation.tolist())
            time.sleep(0.001 * (index % 3))
            number = np.full(9, index, np.float32)
            return Hypothesis(True, np.float32(likelihoods[index]), number, number[:6], np.zeros(3, np.float32))

    tracker = Uneven(Detector(), always(True))
    tracker._crew = crew
    with crew.helpers(helpers):
        for first, winner in ((1.0, 1), (3.0, 0)):
            likelihoods[0] = first
            best = tracker._likeliest(GRAY, BOX[0])
            assert best.g[0] == winner
            assert best.likelihood == max(first, 2.0)
    likelihoods.update({0: -np.inf, 1: -5.0, 4: -5.0, 6: -5.0, 7: -5.0, 8: -5.0, 9: -5.0})
    tracker._fitter.likelihood, tracker._fitter.likelihoods[:] = np.float32(4), 44
    best = tracker._likeliest(GRAY, BOX[0])
    assert best.g[0] == 0 and best.likelihood == 4 and (best.likelihoods == 44).all()


# --- early termination -----------------------------------------------------------------------------------------


class Coarse:
    """A stand-in for the scale loop of the first stage: the n-th fit has the n-th likelihood and leaves n."""

    def __init__(self, tracker: Scripted, likelihoods: list[float]) -> None:
        self.tracker, self.likelihoods, self.starts = tracker, likelihoods, []  # type: ignore[var-annotated]
        tracker._fitter.fit = self  # type: ignore[method-assign]

    def __call__(self, gray: np.ndarray, g: np.ndarray, p: np.ndarray, settings: FitSettings) -> bool:
        assert settings.windows == (11,)
        assert not p.any()
        self.starts.append(g[1:4].copy())
        number = len(self.starts) - 1
        g[5], p[1], self.tracker._fitter.view = number, 50 + number, number % 2
        self.tracker._fitter.likelihood = np.float32(self.likelihoods[number])
        return True


def early(cutoff: float = 100.0) -> LandmarkModel:
    """Confidence in view 0: the likelihood; in view 1: twice it, less 1."""
    return replace(tiny_model(), early_termination=np.array([[1, 2], [0, -1], [cutoff, cutoff]], float))


def test_a_good_first_stage_ends_the_search() -> None:
    tracker = Scripted(Detector(lambda call: BOX), lambda call: (True, 7.0), early(10))
    coarse = Coarse(tracker, [1, 2, 10, 5.5, 9, 8.0, 0, 0, 0, 0, 0])  # 10 is not above 10; 2 * 5.5 - 1 neither
    coarse.likelihoods[5] = 5.6
    answer = tracker.next()
    assert len(coarse.starts) == 6
    (call,) = tracker.calls
    assert call.windows == (0, 9, 7, 5)
    assert call.g[5] == 5
    assert call.p[1] == 55  # goes on from the shape just reached
    assert answer.success and answer.detected
    assert answer.likelihood == 7


def test_a_rejected_early_end_is_rejected() -> None:
    detector = Detector(lambda call: BOX)
    tracker = Scripted(detector, always(False), early(0.5))
    Coarse(tracker, [1.0] * 22)
    first = tracker.next()
    assert first.success and not first.detected  # a first detection
    second = tracker.next()
    assert not second.success
    assert second.p[0] == 2  # the failed track


def test_otherwise_the_best_three_go_on_with_the_mean_shape() -> None:
    """Descending; only the last hypothesis tried keeps its shape: all others share one that was zeroed."""
    #            c = 1  1  3  5  2  3.5  0  -5 8  1   9   in views 0 1 0 1 0 ... (c of view 1 is 2 l - 1)
    likelihoods = [1.0, 1, 3, 3, 2, 2.25, 0, -2, 8, 1, 9]
    fine = [3.0, 5.0, 5.0]  # likelihoods of the second stage; the fit of the second is rejected
    tracker = Scripted(
        Detector(lambda call: BOX), lambda call: (len(tracker.calls) != 2, fine[len(tracker.calls) - 1]), early()
    )
    coarse = Coarse(tracker, likelihoods)
    answer = tracker.next()
    assert len(coarse.starts) == 11
    np.testing.assert_array_equal(coarse.starts, HYPOTHESES)
    assert [call.g[5] for call in tracker.calls] == [10, 8, 3]
    assert [call.p[1] for call in tracker.calls] == [60, 0, 0]
    assert {call.windows for call in tracker.calls} == {(0, 9, 7, 5)}
    # the winner is the first of the likeliest; flag and certainty are those of the last
    assert answer.likelihood == 5
    assert answer.p[0] == answer.g[4] == 2
    assert (answer.landmarks == 2).all()
    assert not answer.detected
    assert answer.certainty == 0.9
    fine.append(0.0)
    tracker.next()
    assert tracker.of_frame(1)[0].windows == INIT  # follows the winner's verdict


@pytest.mark.parametrize("accepted_last", [False, True])
def test_the_flag_of_the_last_fit_decides_about_a_redetection(accepted_last: bool) -> None:
    detector = Detector(lambda call: BOX)

    def script(call: Call) -> tuple[bool, float]:
        if call.frame < 2:
            return True, 1.0
        number = len(tracker.of_frame(2))  # 1: the track; 2, 3, 4: the three best
        return {1: False, 2: True, 3: True, 4: accepted_last}[number], float(10 - number)

    tracker = Scripted(detector, script, early())
    Coarse(tracker, [float(-k) for k in range(11)] * 2)
    tracker.next(2)
    answer = tracker.next()
    assert answer.success == accepted_last
    assert answer.detected  # the winner's, the first, either way
    winner, track = 3 + 1 + 2, 3 + 1 + 1
    assert answer.p[0] == (winner if accepted_last else track)


# --- the complete fit -------------------------------------------------------------------------------------------


def test_without_a_validator_every_fit_that_was_not_given_up_is_a_face() -> None:
    rng = np.random.default_rng(0)
    gray = rng.integers(0, 256, (480, 640)).astype(np.uint8)
    tracker = Tracker(tiny_model(), Detector(lambda call: BOX), Config())  # type: ignore[arg-type]
    answer = tracker.track(FRAME, gray)
    assert answer.success and answer.detected
    assert answer.certainty == 1
    tracker._g[0] = 0.1
    answer = tracker.track(FRAME, np.zeros_like(gray))
    assert tracker.nanoseconds.keys() >= {"face", "parts", "detect"}


@needs_shared
@pytest.mark.parametrize("validate", [True, False])
def test_a_face_that_is_none_is_rejected_unless_validation_is_off(validate: bool) -> None:
    config = Config(validate=validate)
    tracker = Tracker(openface_model(), Detector(lambda call: BOX), config)  # type: ignore[arg-type]
    answer = tracker.track(FRAME, np.random.default_rng(0).integers(0, 256, (480, 640)).astype(np.uint8))
    assert answer.success
    assert answer.detected == (not validate)
    assert (answer.certainty == 1) == (not validate)
    assert type(answer.detected) is bool


def test_a_fit_that_is_given_up_is_no_face() -> None:
    tracker = Tracker(tiny_model(), Detector(), Config())  # type: ignore[arg-type]
    tracker._g[:] = [0.1, 0, 0, 0, 320, 240]
    assert not tracker._fit(GRAY, tracker._searching)
    assert tracker._tracked_certainty == 0
    tracker._g[:] = [1, 0, 0, 0, 320, 240]
    assert tracker._fit(GRAY, tracker._searching)
    assert tracker._tracked_certainty == 1


@pytest.mark.parametrize(("certainty", "accepted"), [(0.725, False), (0.75, True), (0.975, True), (0.0, False)])
def test_certainty_must_exceed_the_bound(certainty: float, accepted: bool) -> None:
    """0.725 itself, a bin of the 20-bin validator, fails."""
    tracker = Tracker(tiny_model(), Detector(), Config())  # type: ignore[arg-type]
    tracker._certainty = lambda gray, landmarks, euler: float(np.float32(certainty))  # type: ignore[assignment]
    tracker._g[:] = [1, 0, 0, 0, 320, 240]
    assert tracker._fit(GRAY, tracker._searching) == accepted


def test_settings_reach_the_fits() -> None:
    config = Config(sigma=2.0, reg=30.0, w_reg=1.5, n_iter=7, windows_init=(9, 7, 5), windows_small=(0, 5, 3))
    tracker = Scripted(Detector(), always(True), config=config)
    for settings, windows in ((tracker._searching, (9, 7, 5)), (tracker._tracking, (0, 5, 3))):
        assert settings == FitSettings(windows, 30.0, 2.0, 1.5, 7, True)


def test_answers_belong_to_the_receiver() -> None:
    tracker = Scripted(Detector(lambda call: BOX), always(True), with_part(tiny_model()))
    first = tracker.next()
    assert first.eyes is not None
    for array in (first.g, first.p, first.landmarks, first.eyes[0][1].landmarks):
        array[:] = -1
    tracker.next()
    call = tracker.of_frame(1)[0]
    assert call.g[4] == call.p[0] == 1
    second = tracker.next()
    assert second.landmarks is not tracker._landmarks


def test_eyes_need_both_parts() -> None:
    tracker = Scripted(Detector(lambda call: BOX), always(True))
    assert tracker.next().eyes is None
    model = with_part(tiny_model())
    assert Scripted(Detector(), always(True), replace(model, parts=model.parts[:1])).next().eyes is None
    swapped = replace(model, parts=model.parts[::-1])
    eyes = Scripted(Detector(), always(True), swapped)._eyes
    assert eyes is not None
    assert [eye.name for eye in eyes] == ["left_eye_28", "right_eye_28"]


def test_landmarks_for_drawing() -> None:
    model = tiny_model(views=2)
    assert visible_landmarks(model, (0, -0.1, 0)).all()
    np.testing.assert_array_equal(visible_landmarks(model, (0, -0.3, 0)), [True] * 7 + [False] * 2)
