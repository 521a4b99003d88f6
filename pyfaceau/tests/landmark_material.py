"""Models and recordings that the tests of the landmark stages share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from pyfaceau.tests.shared import OPENFACE, stage
from pyfaceau.weights.models import PDM, CCNFPatches, LandmarkModel
from pyfaceau.weights.store import load_landmark_model

CLIPS = ("video01", "2015-10-15-15-14", "lost")
#: Recorded frames with everything inside: clip, file, arrays' prefix, main list.
FRAMES = tuple(
    (clip, f"{kind}frame_{n}", "hyp00" if n == 1 else "track", f"main_{'clm' if kind else 'clnf'}_general")
    for clip in CLIPS[:2]
    for kind, numbers in (("", (1, 2, 30, 31)), ("clm_", (1, 2)))
    for n in numbers
)


@cache
def openface_model(name: str = "main_clnf_general") -> LandmarkModel:
    return load_landmark_model(OPENFACE, name)


def frozen(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


def planar(points: np.ndarray) -> np.ndarray:
    """(n, 2) as recorded to the x0..xn-1 y0..yn-1 of the kernels, contiguous."""
    return np.ascontiguousarray(points.T, np.float32).ravel()


@dataclass(frozen=True)
class Recording:
    """The recorded arrays of one model's fit (``main``, ``inner``, ``left_eye``, ``right_eye``) in one frame."""

    clip: str
    frame: str
    prefix: str  # "track.inner."
    name: str
    model: LandmarkModel

    def __getitem__(self, key: str) -> np.ndarray:
        return stage(self.clip, self.frame)[self.prefix + key]

    def has(self, key: str) -> bool:
        return self.prefix + key in stage(self.clip, self.frame)

    @property
    def gray(self) -> np.ndarray:
        return stage(self.clip, self.frame.removeprefix("clm_"))["gray"]

    @property
    def scales(self) -> list[int]:
        """Scales that were fitted."""
        return [k for k in range(4) if self.has(f"s{k}.window")]

    def __str__(self) -> str:
        return f"{self.clip} {self.frame} {self.name}"


def recordings(clip: str, frame: str, prefix: str, main: str) -> Iterator[Recording]:
    """The face and its parts in one recorded frame."""
    model = openface_model(main)
    yield Recording(clip, frame, f"{prefix}.main.", "main", model)
    for part in model.parts:
        name = part.name.removesuffix("_28")
        yield Recording(clip, frame, f"{prefix}.{name}.", name, part.model)


# --- models of our own, for what must be testable without OpenFace's --------------------------------


def tiny_pdm(n: int = 9, m: int = 3, seed: int = 0) -> PDM:
    """A shape model of random points, mm."""
    rng = np.random.default_rng(seed)
    modes = np.linalg.qr(rng.normal(size=(3 * n, m)))[0]
    mean = (rng.uniform(-60, 60, (3, n)) * [[1], [1], [0.3]]).ravel()
    eigenvalues = np.linspace(200, 20, m)
    return PDM(*(frozen(np.ascontiguousarray(a, np.float32)) for a in (mean, modes, eigenvalues)))


def tiny_patches(
    n: int = 9, neurons: int = 7, views: int = 1, scale: float = 0.5, seed: int = 0, sigma_windows: tuple[int, ...] = ()
) -> CCNFPatches:
    """Random CCNF experts; with fields for the windows that are named."""
    rng = np.random.default_rng(seed)
    visible = np.ones((views, n), bool)
    visible[1:, -2:] = False
    weights = rng.normal(size=(views, n, neurons, 11, 11))
    weights /= np.linalg.norm(weights, axis=(3, 4), keepdims=True)
    shape = (views, n, neurons)
    components = {}
    for window in sigma_windows:
        y, x = np.divmod(np.arange(window * window), window)
        near = np.abs(y[:, None] - y) + np.abs(x[:, None] - x) == 1
        components[window] = frozen((np.diag(near.sum(1)) - near).astype(np.float32)[None])
    centers = np.zeros((views, 3))
    centers[:, 1] = -0.35 * np.arange(views)
    arrays: dict[str, Any] = {
        "centers": centers,
        "visible": visible,
        "weights": weights.astype(np.float32),
        "bias": rng.normal(-2, 1, shape),
        "norm": rng.uniform(2, 6, shape),
        "alpha": rng.choice([0.0, 5e-5, 1.0, 3.0], shape, p=[0.05, 0.05, 0.45, 0.45]),
        "betas": rng.uniform(0.2, 2, (views, n, 1)),
        "confidence": rng.uniform(0.1, 0.9, (views, n)),
    }
    arrays = {name: frozen(np.ascontiguousarray(array)) for name, array in arrays.items()}
    return CCNFPatches(scale=scale, sigma_components=components, **arrays)


def tiny_model(scales: tuple[float, ...] = (0.25, 0.35, 0.5), views: int = 1, name: str = "main_tiny") -> LandmarkModel:
    """A small CCNF model without parts and validator."""
    patches = tuple(tiny_patches(scale=scale, views=views, seed=k) for k, scale in enumerate(scales))
    return LandmarkModel(name, "ccnf", tiny_pdm(), patches, (), None, None)


def wave_picture(height: int = 480, width: int = 640) -> np.ndarray:
    """The grey picture of the check vectors (part 2, section 16)."""
    y, x = np.mgrid[:height, :width]
    return np.clip(np.rint(127.5 + 60 * np.sin(x / 7) + 60 * np.cos(y / 9)), 0, 255).astype(np.uint8)


def check_area(side: int) -> np.ndarray:
    """The area of the check vectors (part 1, section 11)."""
    y, x = np.mgrid[:side, :side]
    return ((17 * x + 31 * y + x * y) % 256).astype(np.float32)
