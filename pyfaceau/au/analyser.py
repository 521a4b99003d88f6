"""Face analysis of a video: landmarks and pictures in, action units out.

The order of work is that of the OpenFace 2.2 specification, part 3 §0-§8. All state that lives between frames sits
in one `Calibration`; starting over is making a new one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pyfaceau.au import calibration as medians
from pyfaceau.au import fhog, postprocess
from pyfaceau.au.descriptor import Describer
from pyfaceau.au.predictors import Scorer
from pyfaceau.errors import PyfaceauError
from pyfaceau.landmarks.points import fit_to_points
from pyfaceau.weights.models import AUPredictors

REPREDICTED = 3000
"""So many successful frames are predicted again with the final medians (part 3 §7)."""

_HOG_BINS = medians.make_bins(medians.HOG_BINS, *medians.HOG_RANGE, floor=0.0)
_GEOMETRY_BINS = medians.make_bins(medians.GEOMETRY_BINS, *medians.GEOMETRY_RANGE)


@dataclass(frozen=True, eq=False)
class Analysis:
    """What face analysis makes of one frame; everything is 0 (black) on a failed one.

    Attributes
    ----------
    intensity : f64 (17,), sorted by AU name; unclipped in videos, corrected online, 0..5 for single images.
    presence : f64 (18,), 0 or 1.
    hog : f32 (4464,), index (row * 12 + column) * 31 + feature.
    geometry : f64 (3n + m,), shape displacements (mm), then shape parameters.
    face : u8 (112, 112, 3), the aligned and masked face, B, G, R.
    g, p : f32 (6,), (m,), the analyser's face model fitted to the landmarks.
    """

    intensity: NDArray[np.float64]
    presence: NDArray[np.float64]
    hog: NDArray[np.float32]
    geometry: NDArray[np.float64]
    face: NDArray[np.uint8]
    g: NDArray[np.float32]
    p: NDArray[np.float32]


class _Rows:
    """An array (N, width) that grows by rows."""

    def __init__(self, width: int) -> None:
        self._rows: NDArray[np.float64] = np.empty((256, width))
        self._used = 0

    def append(self, row: NDArray[np.float64]) -> None:
        if self._used == self._rows.shape[0]:
            self._rows = np.concatenate([self._rows, np.empty_like(self._rows)])
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
        state, scorer = self.calibration, self._scorer
        description = self._describe(bgr, landmarks) if detected else self._nothing()
        state.update_medians(description.features, detected)
        intensity: NDArray[np.float64] = np.zeros(scorer.intensities)
        presence: NDArray[np.float64] = np.zeros(scorer.presences)
        if detected:
            if state.median_products is None:
                products, state.median_products = scorer.products_of_both(description.features, state.median())
            else:
                products = scorer.products(description.features)
            if len(state.products) < REPREDICTED:
                state.products.append(products)
            intensity, score = scorer.scores(products, state.median_products)
            presence = scorer.classes(score)
        state.valid.append(bool(detected))
        state.intensity.append(intensity)
        state.presence.append(presence)
        reported = state.online.correct(intensity, detected) if self.online else intensity
        return description.report(reported, presence)

    def analyse_image(self, bgr: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> Analysis:
        """Analyse a picture by itself: intensities 0..5, no medians, no history (part 3 §8).

        Raises `PyfaceauError` when this analyser has dynamic predictors, which need a video.
        """
        if self.predictors.intensity.dynamic.any() or self.predictors.presence.dynamic.any():
            raise PyfaceauError("single images need the static AU predictors: load the set with static=True")
        description = self._describe(bgr, landmarks)
        products = self._scorer.products(description.features)
        intensity, score = self._scorer.scores(products, np.zeros_like(products))
        return description.report(np.clip(intensity, 0.0, postprocess.HIGHEST), self._scorer.classes(score))

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

    def _describe(self, bgr: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> _Description:
        landmarks = np.ascontiguousarray(landmarks, dtype=np.float32)
        description = self._nothing()
        description.g, description.p, _, _ = fit_to_points(self.predictors.pdm, landmarks)
        self._describer.describe(
            bgr, landmarks, description.g, description.p, description.face, description.hog, description.features
        )
        return description

    def _nothing(self) -> _Description:
        return _Description(
            g=np.zeros(6, np.float32),
            p=np.zeros(self.predictors.pdm.m, np.float32),
            face=np.zeros((fhog.SIZE, fhog.SIZE, 3), np.uint8),
            hog=np.zeros(fhog.LENGTH, np.float32),
            features=np.zeros(self._describer.length),
        )


@dataclass
class _Description:
    """One face before prediction; ``features`` f64 (D,) is HOG and geometry in one."""

    g: NDArray[np.float32]
    p: NDArray[np.float32]
    face: NDArray[np.uint8]
    hog: NDArray[np.float32]
    features: NDArray[np.float64]

    def report(self, intensity: NDArray[np.float64], presence: NDArray[np.float64]) -> Analysis:
        geometry = self.features[fhog.LENGTH :]
        return Analysis(intensity, presence, self.hog, geometry, self.face, self.g, self.p)
