"""Replays the analysis stage from recorded descriptors, with a defect in it. Needs pyfaceau and its weights.

Only this module and ``validation.adapter`` touch pyfaceau.

What a video's CSV holds of an AU depends on two things alone, as long as at most 3000 frames have a face: every
frame's descriptor, and the running medians as they are at the end (OpenFace 2.2 specification, part 3 §7). A replay
puts both, with the defect in them, into pyfaceau's own analyser and lets it finish.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pyfaceau import Config, Pipeline
from pyfaceau.au import fhog
from pyfaceau.au.analyser import REPREDICTED, FaceAnalyser
from pyfaceau.video import open_source
from validation.errors import HarnessError
from validation.goldens import Clip
from validation.reference import Table

HOG_FEATURES = 31
SWAPPED = (20, 24)
"""Two of the unsigned orientations, 45 degrees or so apart."""


@dataclass(frozen=True)
class Recording:
    """Of one clip: descriptors f64 (frames, D); bool (frames,) the validator's verdict; the final medians f64 (D,)."""

    predictors: Any
    features: np.ndarray
    detected: np.ndarray
    median: np.ndarray

    def replay(self, table: Table, defect: str, size: float, seed: int) -> Table:
        """The run's table with the action units of the stage with this defect (``""``: none), rounded as a CSV's."""
        features, median, predictors = self.features, self.median, self.predictors
        if defect == "swapped HOG bins":
            # Medians are kept entry by entry, so those of swapped descriptors are the swapped medians.
            features, median = (swap_bins(rows, int(size), seed) for rows in (features, median))
        elif defect == "stale median":
            median = self._stale_median(size)
        elif defect == "wrong SVR weight sign":
            predictors = flip_weights(predictors, int(size), seed)
        analyser = FaceAnalyser(predictors)
        intensity, presence = _finish(analyser, features, self.detected, median)
        values = table.values.copy()
        for names, suffix, numbers in (
            (analyser.intensity_names, "_r", intensity),
            (analyser.presence_names, "_c", presence),
        ):
            columns = [table.columns.index(f"{name}{suffix}") for name in names]
            values[:, columns] = np.round(numbers, 2)
        return replace(table, values=values)

    def _stale_median(self, missed: float) -> np.ndarray:
        """The medians when so many of 100 updates are missed; the first always counts, as it starts them."""
        state = FaceAnalyser(self.predictors).calibration
        kept = max(1, round(100 - missed)) if missed < 100 else 0
        for turn, frame in enumerate(range(0, len(self.features), 2)):  # every second frame takes part
            if turn == 0 or (kept and turn * kept // 100 != (turn - 1) * kept // 100):
                state.frames = frame
                state.update_medians(self.features[frame], bool(self.detected[frame]))
        return state.median()


def _finish(
    analyser: FaceAnalyser, features: np.ndarray, detected: np.ndarray, median: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Final action units, f64 (frames, 17) and (frames, 18), of these descriptors with these medians."""
    state, scorer = analyser.calibration, analyser._scorer
    state.median_products = scorer.products(median)
    for row, valid in zip(features, detected, strict=True):
        if valid:
            state.products.append(scorer.products(row))
        state.valid.append(bool(valid))
        state.intensity.append(np.zeros(scorer.intensities))
        state.presence.append(np.zeros(scorer.presences))
    return analyser.finish()


class _Keeper(FaceAnalyser):
    """Keeps every frame's descriptor."""

    def __init__(self, predictors: Any) -> None:
        super().__init__(predictors)
        self.features: list[np.ndarray] = []
        self.detected: list[bool] = []

    def analyse(self, bgr: np.ndarray, landmarks: np.ndarray, detected: bool) -> Any:
        self.features.append(np.zeros(self._describer.length))
        self.detected.append(bool(detected))
        return super().analyse(bgr, landmarks, detected)

    def _describe(self, bgr: np.ndarray, landmarks: np.ndarray) -> Any:
        description = super()._describe(bgr, landmarks)
        self.features[-1] = description.features.copy()
        return description


class Recorder:
    """Runs clips and keeps what their analysis saw. ``locate`` gives a clip's file."""

    def __init__(self, settings: dict[str, Any], models: Path | None, locate: Callable[[Clip], Path]) -> None:
        keepers: list[_Keeper] = []

        class Keeping(Pipeline):
            def new_analyser(self, online: bool = False) -> Any:
                keepers.append(_Keeper(self._predictors))
                return keepers[-1]

        chosen = {"models": models} if models is not None else {}
        self._pipeline, self._keepers, self._locate = Keeping(Config(**{**settings, **chosen})), keepers, locate

    def record(self, clip: Clip) -> Recording:
        """Run one clip; ``HarnessError`` if it has too many frames to be replayed from its final medians."""
        self._keepers.clear()
        with open_source(self._locate(clip), self._pipeline.config) as source:
            for _ in self._pipeline.track(source):
                pass
        (keeper,) = self._keepers
        detected = np.array(keeper.detected)
        if detected.sum() > REPREDICTED:
            raise HarnessError(f"{clip.name}: more than {REPREDICTED} frames with a face; leave it out with --clips")
        return Recording(keeper.predictors, np.array(keeper.features), detected, keeper.calibration.median())


def swap_bins(features: np.ndarray, cells: int, seed: int) -> np.ndarray:
    """Two orientations change places in so many of the 144 cells; f64 (..., D)."""
    changed = features.copy()
    hog = changed[..., : fhog.LENGTH].reshape(*features.shape[:-1], -1, HOG_FEATURES)
    chosen = np.random.default_rng(seed).permutation(hog.shape[-2])[:cells]
    a, b = SWAPPED
    hog[..., chosen, a], hog[..., chosen, b] = hog[..., chosen, b], hog[..., chosen, a].copy()
    changed[..., : fhog.LENGTH] = hog.reshape(*features.shape[:-1], -1)
    return changed


def flip_weights(predictors: Any, count: int, seed: int) -> Any:
    """The sign of the ``count`` largest weights of one AU's intensity model is wrong."""
    weights = predictors.intensity.weights.copy()
    au = int(np.random.default_rng(seed).integers(len(weights)))
    largest = np.argsort(-np.abs(weights[au]))[:count]
    weights[au, largest] *= -1
    return replace(predictors, intensity=replace(predictors.intensity, weights=weights))
