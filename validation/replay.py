"""Replays the analysis stage from recorded descriptors, with a defect in it. Needs pyfaceau and its weights.

Only this module and ``validation.adapter`` touch pyfaceau.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pyfaceau import Config, Pipeline
from pyfaceau.au import fhog
from pyfaceau.au.analyser import FaceAnalyser
from pyfaceau.video import open_source
from validation.reference import Table

HOG_FEATURES = 31
SWAPPED = (20, 24)
"""Two of the unsigned orientations, 45 degrees or so apart."""


@dataclass(frozen=True)
class Recording:
    """Descriptors of a clip: f64 (frames, D); bool (frames,) the validator's verdict."""

    features: np.ndarray
    detected: np.ndarray


class _Recorder(FaceAnalyser):
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


class _Player(FaceAnalyser):
    """Takes recorded descriptors for its own; updates its medians in a share of their turns only."""

    def __init__(self, predictors: Any, features: np.ndarray, missed: float) -> None:
        super().__init__(predictors)
        self._features, self._at = features, -1
        update, turn = self.calibration.update_medians, iter(range(10**9))
        kept = max(1, round(100 - missed)) if missed < 100 else 0

        def update_some(values: np.ndarray, valid: bool) -> None:
            # Two frames belong to one turn of the medians. The first turn always counts: it starts them.
            number = next(turn) // 2
            if number == 0 or (kept and number * kept // 100 != (number - 1) * kept // 100):
                update(values, valid)
            else:
                self.calibration.frames += 1

        self.calibration.update_medians = update_some  # type: ignore

    def _describe(self, bgr: np.ndarray, landmarks: np.ndarray) -> Any:
        description = self._nothing()
        description.features[:] = self._features[self._at]
        return description

    def play(self, detected: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """All frames, then the final action units: f64 (frames, 17) and (frames, 18)."""
        nothing, nowhere = np.zeros((1, 1, 3), np.uint8), np.zeros(136, np.float32)
        for self._at, valid in enumerate(detected):
            self.analyse(nothing, nowhere, bool(valid))
        return self.finish()


def record_clip(settings: dict[str, Any], models: Path | None, video: Path) -> tuple[Any, Recording]:
    """Run a clip and keep its descriptors; the predictors with them."""
    recorders: list[_Recorder] = []

    class Recording_(Pipeline):
        def new_analyser(self, online: bool = False) -> Any:
            recorders.append(_Recorder(self._predictors))
            return recorders[-1]

    chosen = {"models": models} if models is not None else {}
    pipeline = Recording_(Config(**{**settings, **chosen}))
    with open_source(video, pipeline.config) as source:
        for _ in pipeline.track(source):
            pass
    recorder = recorders[-1]
    return recorder.predictors, Recording(np.array(recorder.features), np.array(recorder.detected))


def replayed(table: Table, predictors: Any, recording: Recording, defect: str, size: float, seed: int) -> Table:
    """The run's table with the action units of the stage with this defect (``""``: none), rounded as a CSV's."""
    features, missed = recording.features, 0.0
    if defect == "swapped HOG bins":
        features = swap_bins(features, int(size), seed)
    elif defect == "stale median":
        missed = size
    elif defect == "wrong SVR weight sign":
        predictors = flip_weights(predictors, int(size), seed)
    player = _Player(predictors, features, missed)
    intensity, presence = player.play(recording.detected)
    values = table.values.copy()
    for names, suffix, numbers in (
        (player.intensity_names, "_r", intensity),
        (player.presence_names, "_c", presence),
    ):
        for i, name in enumerate(names):
            values[:, table.columns.index(f"{name}{suffix}")] = np.round(numbers[:, i], 2)
    return replace(table, values=values)


def swap_bins(features: np.ndarray, cells: int, seed: int) -> np.ndarray:
    """Two orientations change places in so many of the 144 cells."""
    hog = features[:, : fhog.LENGTH].reshape(len(features), -1, HOG_FEATURES).copy()
    chosen = np.random.default_rng(seed).permutation(hog.shape[1])[:cells]
    a, b = SWAPPED
    hog[:, chosen, a], hog[:, chosen, b] = hog[:, chosen, b], hog[:, chosen, a].copy()
    return np.concatenate([hog.reshape(len(features), -1), features[:, fhog.LENGTH :]], axis=1)


def flip_weights(predictors: Any, count: int, seed: int) -> Any:
    """The sign of the ``count`` largest weights of one AU's intensity model is wrong."""
    weights = predictors.intensity.weights.copy()
    au = int(np.random.default_rng(seed).integers(len(weights)))
    largest = np.argsort(-np.abs(weights[au]))[:count]
    weights[au, largest] *= -1
    return replace(predictors, intensity=replace(predictors.intensity, weights=weights))
