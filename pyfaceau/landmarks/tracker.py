"""One face through a video: track, validate, detect on failure.

OpenFace 2.2 specification, part 2, sections 3 and 5. All that is carried from frame to frame is in
`Tracker`; a new video is a new tracker.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from time import perf_counter_ns
from typing import TYPE_CHECKING

import numpy as np

from pyfaceau.detect.boxes import widest
from pyfaceau.landmarks.certainty import Certainty
from pyfaceau.landmarks.fit import EYES, FitSettings, Fitter, PartFitter, PartState, refine_parts
from pyfaceau.landmarks.pdm import shape_2d
from pyfaceau.landmarks.search import HYPOTHESES, Hypothesis, likeliest, start_in_box, try_start
from pyfaceau.weights.models import PDM, LandmarkModel

if TYPE_CHECKING:
    from pyfaceau.config import Config
    from pyfaceau.detect.mtcnn import MTCNN
    from pyfaceau.threads import Crew

_ACCEPTED = np.float32(0.725)  # certainty above which the validator accepts a fit
_REDETECT_EVERY = 2  # frames between detections while a face is lost
_SEARCH_EVERY = 6 * _REDETECT_EVERY  # and before one was found
_FORGET_AFTER = 100  # failures in a row after which a lost face is no longer tracked
_BEST_OF = 3  # hypotheses taken further when none ends the search early


@dataclass
class Track:
    """The tracker's answer for one frame. Arrays belong to the receiver.

    ``success`` is what OpenFace reports; ``detected`` is the validator's verdict, which the action units follow.
    They differ, for instance, on a first detection that the validator rejects (part 2, section 5).
    """

    success: bool
    detected: bool
    certainty: float
    likelihood: float
    g: np.ndarray  # f32 (6,) scale, Euler angles (rad), translation (px)
    p: np.ndarray  # f32 (m,) shape parameters (mm)
    landmarks: np.ndarray  # f32 (2n,) px, all x then all y
    eyes: tuple[tuple[PDM, PartState], tuple[PDM, PartState]] | None  # left in the picture first


@dataclass
class _Fit:
    """Everything a multi-hypothesis search may have to put back."""

    likelihood: np.float32
    likelihoods: np.ndarray
    g: np.ndarray
    p: np.ndarray
    landmarks: np.ndarray
    certainty: float
    detected: bool
    parts: list[PartState] = field(default_factory=list)


class Tracker:
    """Follows one face through consecutive frames of one video.

    Parameters
    ----------
    model : LandmarkModel
    detector : MTCNN
        Called only when there is no face to track.
    config : Config
        Windows, ``sigma``, ``reg``, ``w_reg``, ``n_iter``, ``validate``.
    crew : Crew, optional
        Shares parts, and the main model's patch experts if they are large, between threads, to the same results.
    """

    def __init__(self, model: LandmarkModel, detector: MTCNN, config: Config, crew: Crew | None = None) -> None:
        self._model, self._detector, self._crew = model, detector, crew
        self._fitter = Fitter(model, crew)
        self._spare_fitters: list[Fitter] = []
        self._parts = [PartFitter(part, model.pdm.n) for part in model.parts]
        self._certainty = Certainty(model.validator) if model.validator is not None and config.validate else None
        self._early_termination = model.early_termination
        # The reference scales its parameters for its default model, recognised by name.
        wider, softer = (1.5, 0.9) if model.name == "main_ceclm_general" else (1.0, 1.0)
        self._tracking = FitSettings(
            config.windows_small, config.reg * softer, config.sigma * wider, config.w_reg, config.n_iter
        )
        self._searching = replace(self._tracking, windows=config.windows_init)
        by_name = {part.name: part for part in self._parts}
        eyes = [by_name.get(name) for name in EYES]
        self._eyes = (eyes[0], eyes[1]) if eyes[0] is not None and eyes[1] is not None else None

        n, m = model.pdm.n, model.pdm.m
        self._g, self._p = np.array([1, 0, 0, 0, 0, 0], np.float32), np.zeros(m, np.float32)
        self._landmarks = np.zeros(2 * n, np.float32)
        self._initialised = False
        self._detected = False
        self._tracked_certainty = 0.0
        self._failures = -1
        #: Nanoseconds of the last frame by sub-stage.
        self.nanoseconds: dict[str, int] = {}

    def track(self, bgr: np.ndarray, gray: np.ndarray) -> Track:
        """Take the next frame: ``bgr`` [H, W, 3] and ``gray`` [H, W], uint8, in C order.

        Never raises for what is in the picture: a frame without a face gives ``success`` False and the state
        that the tracker holds.
        """
        self.nanoseconds = {}
        first = not self._initialised
        if self._initialised:
            self._detected = self._fit(gray, self._tracking if self._detected else self._searching)
            self._failures = -1 if self._detected else self._failures + 1
        if self._detection_due():
            box = self._detect(bgr)
            if box is not None:
                return self._answer(self._start(gray, box, first))
        if not self._initialised:
            self._failures += 1
        if self._failures > _FORGET_AFTER:
            self._initialised = False
        return self._answer(self._detected)

    def _detection_due(self) -> bool:
        if not self._initialised:
            return (self._failures + 1) % _SEARCH_EVERY == 0
        return not self._detected and self._failures % _REDETECT_EVERY == 0

    def _detect(self, bgr: np.ndarray) -> np.ndarray | None:
        start = perf_counter_ns()
        boxes, _ = self._detector.detect(bgr)
        chosen = widest(boxes)
        self._lap("detect", start)
        return None if chosen is None else boxes[chosen]

    def _start(self, gray: np.ndarray, box: np.ndarray, first: bool) -> bool:
        """Fit from a detected box; a rejected fit of a face that was tracked before puts the track back."""
        self._initialised = True
        before = self._snapshot()
        accepted = self._search(gray, box)
        if not accepted and not first:
            # Not put back, as in the reference: certainty, verdict and parts.
            self._fitter.likelihood = before.likelihood
            self._fitter.likelihoods[:] = before.likelihoods
            self._g[:], self._p[:], self._landmarks = before.g, before.p, before.landmarks
            return False
        self._failures = -1
        return True

    def _search(self, gray: np.ndarray, box: np.ndarray) -> bool:
        """Multi-hypothesis fit from a box. Leaves the winner's state and returns the reference's flag (part 2, §5)."""
        if self._early_termination is not None:
            return self._search_early(gray, box, self._early_termination)
        # Only the main model's fit decides, so parts and validator see the winner alone.
        best = self._likeliest(gray, box)
        self._fitter.likelihood, self._fitter.likelihoods[:] = best.likelihood, best.likelihoods
        self._g[:], self._p[:] = best.g, best.p
        self._landmarks = shape_2d(self._model.pdm, best.g, best.p)
        self._detected = self._complete(gray, best.fitted)
        return self._detected

    def _likeliest(self, gray: np.ndarray, box: np.ndarray) -> Hypothesis:
        """The first of the likeliest hypotheses; a crew shares them."""
        start = perf_counter_ns()
        best = likeliest(
            lambda fitter, rotation: self._try(fitter, gray, box, rotation), [self._fitter, *self._spares()],
            self._crew, (self._fitter.likelihood, self._fitter.likelihoods.copy()),
        )  # fmt: skip
        self._lap("face", start)
        return best

    def _spares(self) -> list[Fitter]:
        """A fitter for each other thread of the crew."""
        while self._crew is not None and len(self._spare_fitters) + 1 < self._crew.threads:
            self._spare_fitters.append(Fitter(self._model, None, self._fitter.experts))
        return self._spare_fitters

    def _try(self, fitter: Fitter, gray: np.ndarray, box: np.ndarray, rotation: np.ndarray) -> Hypothesis:
        return try_start(fitter, gray, box, rotation, self._searching)

    def _search_early(self, gray: np.ndarray, box: np.ndarray, termination: np.ndarray) -> bool:
        """The variant that stops at the first hypothesis whose coarse fit is good enough."""
        weights, biases, cutoffs = termination
        windows = self._searching.windows
        coarse = replace(self._searching, windows=windows[:1])
        fine = replace(self._searching, windows=(0, *windows[1:]))
        candidates: list[tuple[float, np.ndarray, np.ndarray]] = []
        for index, rotation in enumerate(HYPOTHESES):
            self._g[:], self._p[:] = start_in_box(self._fitter.pdm, box, rotation), 0
            self._fitter.fit(gray, self._g, self._p, coarse)
            view = self._fitter.view
            confidence = float(weights[view] * self._fitter.likelihood + biases[view])
            if confidence > cutoffs[view]:
                self._detected = self._fit(gray, fine)
                return self._detected
            # The reference keeps a reference to shape parameters that the next hypothesis zeroes: only the
            # last hypothesis keeps its own.
            last = index + 1 == len(HYPOTHESES)
            candidates.append((confidence, self._g.copy(), self._p.copy() if last else np.zeros_like(self._p)))
        candidates.sort(key=lambda candidate: -candidate[0])
        best: _Fit | None = None
        for _, g, p in candidates[:_BEST_OF]:
            self._g[:], self._p[:] = g, p
            self._detected = self._fit(gray, fine)
            if best is None or self._fitter.likelihood > best.likelihood:
                best = self._snapshot()
        assert best is not None
        flag, certainty = self._detected, self._tracked_certainty
        self._restore(best)
        self._tracked_certainty = certainty
        return flag

    def _fit(self, gray: np.ndarray, settings: FitSettings) -> bool:
        """Complete fit from the current parameters: scales, parts, validator. Returns the verdict."""
        start = perf_counter_ns()
        fitted = self._fitter.fit(gray, self._g, self._p, settings)
        self._landmarks[:] = self._fitter.landmarks
        self._lap("face", start)
        return self._complete(gray, fitted)

    def _complete(self, gray: np.ndarray, fitted: bool) -> bool:
        """What follows the main model's fit: parts, validator. Returns the verdict."""
        start = perf_counter_ns()
        refine_parts(gray, self._model.pdm, self._parts, self._landmarks, self._g, self._p, self._crew)
        start = self._lap("parts", start)
        if self._certainty is None or not fitted:
            self._tracked_certainty = 1.0 if fitted else 0.0
            return fitted
        self._tracked_certainty = self._certainty(gray, self._landmarks, self._g[1:4])
        self._lap("validator", start)
        return bool(self._tracked_certainty > _ACCEPTED)

    def _snapshot(self) -> _Fit:
        fitter = self._fitter
        return _Fit(
            fitter.likelihood, fitter.likelihoods.copy(), self._g.copy(), self._p.copy(), self._landmarks.copy(),
            self._tracked_certainty, self._detected, [part.state.copy() for part in self._parts],
        )  # fmt: skip

    def _restore(self, state: _Fit) -> None:
        self._fitter.likelihood = state.likelihood
        self._fitter.likelihoods[:] = state.likelihoods
        self._g[:], self._p[:], self._landmarks = state.g, state.p, state.landmarks
        self._tracked_certainty, self._detected = state.certainty, state.detected
        for part, kept in zip(self._parts, state.parts, strict=True):
            part.state = kept

    def _answer(self, success: bool) -> Track:
        eyes = None
        if self._eyes is not None:
            left, right = self._eyes
            eyes = (left.pdm, left.state.copy()), (right.pdm, right.state.copy())
        return Track(
            success, self._detected, self._tracked_certainty, float(self._fitter.likelihood),
            self._g.copy(), self._p.copy(), self._landmarks.copy(), eyes,
        )  # fmt: skip

    def _lap(self, stage: str, start: int) -> int:
        now = perf_counter_ns()
        self.nanoseconds[stage] = self.nanoseconds.get(stage, 0) + now - start
        return now


def visible_landmarks(model: LandmarkModel, euler: Iterable[float]) -> np.ndarray:
    """Landmarks that the finest scale's nearest view sees: bool [n]. For drawings."""
    finest = model.patches[-1]
    distances = ((np.asarray(list(euler), np.float64) - finest.centers) ** 2).sum(axis=1)
    return np.asarray(finest.visible[int(distances.argmin())])
