"""Inputs of the face analysis tests: recorded clips, and a small made-up set of models for where there are none."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from pyfaceau.tests.shared import OPENFACE, SHARED, stage
from pyfaceau.weights.models import PDM, AUPredictors, LandmarkModel, LinearModels
from pyfaceau.weights.store import find_models, load_au_predictors, load_landmark_model

CLIPS = {
    "video01": SHARED / "videos" / "torchopenface_video01.mp4",
    "2015-10-15-15-14": SHARED / "videos" / "openface_2015-10-15-15-14.avi",
    "lost": SHARED / "stages" / "lost" / "lost.mp4",
}
DETAILED = [(clip, frame) for clip in ("video01", "2015-10-15-15-14") for frame in (1, 2, 30, 31)]


@cache
def predictors(static: bool = False) -> AUPredictors:
    return load_au_predictors(find_models(OPENFACE), static=static)


@cache
def clnf() -> LandmarkModel:
    return load_landmark_model(find_models(OPENFACE), "main_clnf_general")


def frames(clip: str) -> Iterator[np.ndarray]:
    return read(CLIPS[clip])


def read(path: Path) -> Iterator[np.ndarray]:
    capture = cv2.VideoCapture(str(path))
    while True:
        ok, frame = capture.read()
        if not ok:
            return
        yield frame


def landmarks(clip: str, frame: int) -> np.ndarray:
    """Final landmarks of a frame (from 1) as f32 (136,)."""
    return vector(stage(clip, "light")["landmarks_2d"][frame - 1])


def vector(points: np.ndarray) -> np.ndarray:
    """(n, 2 or 3) points as x0.. y0.. (z0..)."""
    return np.ascontiguousarray(points.T).ravel()


def row_of(arrays: dict[str, np.ndarray], name: str) -> dict[int, np.ndarray]:
    """Frame number -> recorded row, for arrays that do not have all frames."""
    numbers = arrays.get(f"{name}.frames", arrays["frames"])
    return dict(zip(numbers.tolist(), arrays[name], strict=True))


def made_up_pdm(modes: int = 5) -> PDM:
    """A face of 68 points on an ellipse-like spiral, about 150 mm wide, with random orthonormal modes."""
    rng = np.random.default_rng(7)
    turn = np.arange(68) * 2.4
    radius = 75 * np.sqrt((np.arange(68) + 1) / 68)
    mean = np.concatenate([radius * np.cos(turn), 1.2 * radius * np.sin(turn), rng.normal(0, 10, 68)])
    basis, _ = np.linalg.qr(rng.normal(size=(204, modes)))
    return PDM(mean.astype("f4"), basis.astype("f4"), np.linspace(300, 50, modes).astype("f4"))


def made_up_eye_pdm() -> PDM:
    """A model with 28 points, which no face analysis can use."""
    rng = np.random.default_rng(6)
    return PDM(rng.normal(size=84).astype("f4"), rng.normal(size=(84, 3)).astype("f4"), np.ones(3, "f4"))


def made_up_triangles() -> np.ndarray:
    rng = np.random.default_rng(8)
    return np.array([rng.choice(68, 3, replace=False) for _ in range(40)], np.int32)


def made_up_predictors(static: bool = False, hog_only: bool = False) -> AUPredictors:
    """Three intensities and two presences with random weights; the second intensity is always static."""
    rng = np.random.default_rng(9)
    pdm = made_up_pdm()
    length = 4464 if hog_only else 4464 + 3 * pdm.n + pdm.m

    def models(names: tuple[str, ...], dynamic: list[bool], cutoff: list[float], positive: list[float]) -> LinearModels:
        count = len(names)
        return LinearModels(
            names=names,
            weights=rng.normal(0, 0.05, (count, length)),
            bias=rng.normal(0, 1, count),
            means=rng.uniform(0, 0.2, (count, length)),
            dynamic=np.array(dynamic) & (not static),
            cutoff=np.full(count, -1.0) if static else np.array(cutoff),
            positive=np.array(positive),
            negative=1.0 - np.array(positive),
        )

    return AUPredictors(
        pdm,
        made_up_triangles(),
        models(("AU01", "AU04", "AU12"), [True, False, True], [0.5, -1, 0.3], [0, 0, 0]),
        models(("AU01", "AU12"), [True, True], [-1, -1], [0, 1]),
    )


def made_up_face(seed: int = 0, modes: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """A noise picture u8 (240, 320, 3) and 68 landmarks of the made-up face in it."""
    rng = np.random.default_rng(seed)
    pdm = made_up_pdm(modes)
    shape = (pdm.mean + pdm.modes @ rng.normal(0, 5, pdm.m).astype("f4")).reshape(3, -1)
    turn = rng.uniform(-0.3, 0.3)
    c, s = np.cos(turn), np.sin(turn)
    scale = rng.uniform(0.6, 1.1)
    x = scale * (c * shape[0] - s * shape[1]) + 160 + rng.uniform(-20, 20)
    y = scale * (s * shape[0] + c * shape[1]) + 120 + rng.uniform(-20, 20)
    coarse = rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)
    return cv2.resize(coarse, (320, 240)), np.concatenate([x, y]).astype("f4")
