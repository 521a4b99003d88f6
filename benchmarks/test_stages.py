"""Time per stage on one tracked frame: ``python -m pytest benchmarks --benchmark-only``.

Runs on OpenFace's weights where they are found and on the demo pack otherwise; the figures of the two do not compare.
End-to-end speed beside a base revision and the C++ program: ``python -m validation speed``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pyfaceau.au.analyser import FaceAnalyser
from pyfaceau.config import Config
from pyfaceau.detect.mtcnn import MTCNN
from pyfaceau.errors import ModelError
from pyfaceau.landmarks.certainty import Certainty
from pyfaceau.landmarks.fit import FitSettings, Fitter
from pyfaceau.landmarks.points import fit_to_points
from pyfaceau.landmarks.tracker import Tracker
from pyfaceau.weights import find_models, load_au_predictors, load_landmark_model, load_mtcnn

_CLIP = Path(__file__).resolve().parents[1] / "golden" / "demo" / "clips" / "astronaut.mp4"
_WARM_UP = 10  # frames tracked before the frame that is timed


@dataclass
class Scene:
    """One frame, the models, and the state of a tracker that has just followed the face to it."""

    bgr: np.ndarray
    gray: np.ndarray
    model: Any
    detector: MTCNN
    tracker: Tracker
    predictors: Any
    track: Any


@pytest.fixture(scope="module")
def scene() -> Scene:
    try:
        source, name = find_models(), "main_clnf_general"
    except ModelError:
        source, name = find_models("demo"), "main_ceclm_general"
    model, detector = load_landmark_model(source, name), MTCNN(load_mtcnn(source))
    tracker, capture = Tracker(model, detector, Config()), cv2.VideoCapture(str(_CLIP))
    for _ in range(_WARM_UP):
        decoded, bgr = capture.read()
        assert decoded, f"{_CLIP} cannot be decoded"
        gray = cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY)
        track = tracker.track(bgr, gray)
    assert track.success
    return Scene(bgr, gray, model, detector, tracker, load_au_predictors(source), track)


def test_detector(benchmark: Any, scene: Scene) -> None:
    boxes, _ = benchmark(scene.detector.detect, scene.bgr)
    assert len(boxes) > 0


def test_tracked_frame(benchmark: Any, scene: Scene) -> None:
    assert benchmark(scene.tracker.track, scene.bgr, scene.gray).success


def test_scale_loop(benchmark: Any, scene: Scene) -> None:
    fitter, track = Fitter(scene.model), scene.track
    settings = FitSettings(windows=Config().windows_small)
    assert benchmark(lambda: fitter.fit(scene.gray, track.g.copy(), track.p.copy(), settings))


def test_fit_to_points(benchmark: Any, scene: Scene) -> None:
    g, *_ = benchmark(fit_to_points, scene.model.pdm, scene.track.landmarks)
    assert np.isfinite(g).all()


def test_validator(benchmark: Any, scene: Scene) -> None:
    validator = Certainty(scene.model.validator)
    assert benchmark(validator, scene.gray, scene.track.landmarks, scene.track.g[1:4]) > 0.5


def test_analysis(benchmark: Any, scene: Scene) -> None:
    analyser = FaceAnalyser(scene.predictors)
    analysis = benchmark(analyser.analyse, scene.bgr, scene.track.landmarks, True)
    assert np.isfinite(analysis.intensity).all()
