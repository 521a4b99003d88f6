"""Face analysis of a video: landmarks and pictures in, action units out.

The order of work is that of the OpenFace 2.2 specification, part 3 §0-§8. All state that lives between frames sits
in one `Calibration`; starting over is making a new one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyfaceau.au import calibration as medians
from pyfaceau.au import fhog, postprocess
from pyfaceau.au.descriptor import Describer
from pyfaceau.au.predictors import Scorer
from pyfaceau.errors import PyfaceauError
from pyfaceau.landmarks.points import fit_into
from pyfaceau.weights.models import AUPredictors

REPREDICTED = 3000
"""So many successful frames are predicted again with the final medians (part 3 §7)."""

_HOG_BINS = medians.make_bins(medians.HOG_BINS, *medians.HOG_RANGE, floor=0.0)
_GEOMETRY_BINS = medians.make_bins(medians.GEOMETRY_BINS, *medians.GEOMETRY_RANGE, run=1024)


@dataclass(eq=False, slots=True)
class Analysis:
    """What face analysis makes of one frame; everything is 0 (black) on a failed one. Arrays belong to the receiver.

    Attributes
    ----------
    intensity : f64 (17,), sorted by AU name; unclipped in videos, corrected online, 0..5 for single images.
    presence : f64 (18,), 0 or 1.
    hog : f32 (4464,), index (row * 12 + column) * 31 + feature.
    features : f64 (D,), the descriptor: hog, then geometry.
    geometry : f64 (3n + m,), shape displacements (mm), then shape parameters.
    face : u8 (112, 112, 3), the aligned and masked face, B, G, R.
    g, p : f32 (6,), (m,), the analyser's face model fitted to the landmarks.
    """

    intensity: NDArray[np.float64]
    presence: NDArray[np.float64]
    hog: NDArray[np.float32]
    features: NDArray[np.float64]
    face: NDArray[np.uint8]
    g: NDArray[np.float32]
    p: NDArray[np.float32]

    @property
    def geometry(self) -> NDArray[np.float64]:
        return self.features[fhog.LENGTH :]


class _Rows:
    """An array (N, width) that grows by rows."""

    def __init__(self, width: int) -> None:
        self._rows: NDArray[np.float64] = np.empty((256, width))
        self._used = 0

    def append(self, row: NDArray[np.float64]) -> None:
        if self._used == self._rows.shape[0]:
            larger = np.empty((2 * self._used, self._rows.shape[1]))  # takes memory only as far as it is filled
            larger[: self._used] = self._rows
            self._rows = larger
        self._rows[self._used] = row
        self._used += 1

    def __len__(self) -> int:
        return self._used

    def array(self) -> NDArray[np.float64]:
        return self._rows[: self._used]


class Calibration:
    """All that analysis carries from frame to frame: running medians and the AU history.

    Attributes
    ----------
    frames : frames seen, failed ones included.
    hog, geometry : the running medians.
    """

    def __init__(self, geometry_length: int, products: int, intensities: int, presences: int) -> None:
        self.frames = 0
        self._median = np.zeros(fhog.LENGTH + geometry_length)
        self.hog = medians.RunningMedian(fhog.LENGTH, _HOG_BINS, self._median[: fhog.LENGTH])
        self.geometry = medians.RunningMedian(geometry_length, _GEOMETRY_BINS, self._median[fhog.LENGTH :])
        self.online = postprocess.OnlineCorrection(intensities)
        self.valid: list[bool] = []
        self.intensity = _Rows(intensities)
        self.presence = _Rows(presences)
        self.products = _Rows(products)
        self.median_products: NDArray[np.float64] | None = None

    def update_medians(self, features: NDArray[np.float64], valid: bool) -> None:
        """Begin a frame. The medians take part in frames 1, 3, 5, .. only, counting failed ones (part 3 §5)."""
        self.frames += 1
        if self.frames % 2 == 1:
            hog_changed = self.hog.update(features[: fhog.LENGTH], valid)
            if self.geometry.update(features[fhog.LENGTH :], valid) or hog_changed:
                self.median_products = None

    def median(self) -> NDArray[np.float64]:
        """Both medians in descriptor order, f64 (D,); the next update overwrites it."""
        return self._median


class FaceAnalyser:
    """Action units of one face in one video, frame by frame. Not for use by several threads at once.

    Parameters
    ----------
    predictors : the dynamic or the static set.
    online : report intensities corrected by what was seen so far, 0..5 (cameras).
    """

    def __init__(self, predictors: AUPredictors, online: bool = False) -> None:
        self.predictors = predictors
        self.online = online
        self._describer = Describer(predictors.pdm, predictors.triangles)
        self._scorer = Scorer(predictors)
        self.reset()

    @property
    def intensity_names(self) -> tuple[str, ...]:
        """AU names of the intensity columns, sorted."""
        return self.predictors.intensity.names

    @property
    def presence_names(self) -> tuple[str, ...]:
        """AU names of the presence columns, sorted."""
        return self.predictors.presence.names

    def reset(self) -> None:
        """Forget the video."""
        scorer = self._scorer
        self.calibration = Calibration(
            self._describer.length - fhog.LENGTH,
            scorer.intensities + scorer.presences,
            scorer.intensities,
            scorer.presences,
        )

    def analyse(self, bgr: NDArray[np.uint8], landmarks: NDArray[np.float32], detected: bool) -> Analysis:
        """Analyse the next frame of the video.

        Parameters
        ----------
        bgr : u8 (H, W, 3).
        landmarks : f32 (2n,), x0.. y0.., px.
        detected : the validator's decision about this frame, not the tracker's return value (part 3 §0).
        """
        state = self.calibration
        found = self._describe(bgr, landmarks) if detected else self._blank(np.zeros)
        state.update_medians(found.features, detected)
        if detected:
            products = self._scorer.predict(found.features, state.median(), found.intensity, found.presence)
            if len(state.products) < REPREDICTED:
                state.products.append(products[0])
            state.median_products = products[1]
        state.valid.append(bool(detected))
        state.intensity.append(found.intensity)
        state.presence.append(found.presence)
        if self.online:
            found.intensity = state.online.correct(found.intensity, detected)
        return found

    def analyse_image(self, bgr: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> Analysis:
        """Analyse a picture by itself: intensities 0..5, no medians, no history (part 3 §8).

        Raises `PyfaceauError` when this analyser has dynamic predictors, which need a video.
        """
        if self.predictors.intensity.dynamic.any() or self.predictors.presence.dynamic.any():
            raise PyfaceauError("single images need the static AU predictors: load the set with static=True")
        found = self._describe(bgr, landmarks)
        self._scorer.predict(found.features, np.zeros_like(found.features), found.intensity, found.presence)
        found.intensity = np.clip(found.intensity, 0.0, postprocess.HIGHEST)
        return found

    def finish(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Final AUs of all frames so far, as the rewritten CSV holds them (part 3 §7).

        Returns
        -------
        intensity : f64 (N, 17), 0..5, predicted again with the final medians, less its resting value, smoothed.
        presence : f64 (N, 18), 0 or 1, predicted again, smoothed by majority.
        """
        state, models = self.calibration, self.predictors.intensity
        valid = np.array(state.valid, dtype=bool)
        intensity, presence = state.intensity.array().copy(), state.presence.array().copy()
        again = np.flatnonzero(valid)[: len(state.products)]
        if again.size:
            intensity[again], scores = self._scorer.scores(state.products.array(), self._median_products())
            presence[again] = self._scorer.classes(scores)
        offsets = postprocess.intensity_offsets(intensity, valid, models.dynamic, models.cutoff)
        clamped = postprocess.clamp_intensity(intensity, valid, offsets)
        return postprocess.smooth_intensity(clamped), postprocess.smooth_presence(presence)

    def _median_products(self) -> NDArray[np.float64]:
        state = self.calibration
        if state.median_products is None:
            state.median_products = self._scorer.products(state.median())
        return state.median_products

    def _describe(self, bgr: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> Analysis:
        """A face before prediction."""
        landmarks = np.ascontiguousarray(landmarks, dtype=np.float32)
        found = self._blank(np.empty)
        fit_into(self.predictors.pdm, landmarks, found.g, found.p)
        self._describer.describe(bgr, landmarks, found.g, found.p, found.face, found.hog, found.features)
        return found

    def _blank(self, make: Callable[..., Any]) -> Analysis:
        """Arrays of a frame, each as ``make`` makes them from shape and type."""
        single, scorer = np.float32, self._scorer
        return Analysis(
            make(scorer.intensities), make(scorer.presences), make(fhog.LENGTH, single), make(self._describer.length),
            make((fhog.SIZE, fhog.SIZE, 3), np.uint8), make(6, single), make(self.predictors.pdm.m, single),
        )  # fmt: skip
