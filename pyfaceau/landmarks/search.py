"""The search for a new face: fits of the main model from a detected box at several rotations.

OpenFace 2.2 specification, part 2, section 5.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pyfaceau.landmarks.fit import FitSettings, Fitter
from pyfaceau.landmarks.pdm import rotation_matrix
from pyfaceau.threads import Crew
from pyfaceau.weights.models import PDM

#: Start rotations (radians) tried on a new or lost face, in the order that breaks ties.
HYPOTHESES = np.array(
    [
        (0, 0, 0), (0, -0.5236, 0), (0, 0.5236, 0), (0, -0.96, 0), (0, 0.96, 0), (0, 0, 0.5236), (0, 0, -0.5236),
        (0, -1.57, 0), (0, 1.57, 0), (0, -1.22, 0.698), (0, 1.22, -0.698),
    ],
    np.float32,
)  # fmt: skip


@dataclass
class Hypothesis:
    """The main model's fit from one start."""

    fitted: bool
    likelihood: np.float32
    likelihoods: np.ndarray
    g: np.ndarray
    p: np.ndarray


def start_in_box(pdm: PDM, box: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """Global parameters (6,) float32 of the mean shape, turned by Euler angles (rad), that fills a box x, y, width,
    height (part 2, section 5)."""
    # Summed in float64 and rounded once, as OpenCV multiplies small matrices.
    mean = (rotation_matrix(rotation).astype(np.float64) @ pdm.mean.reshape(3, -1)).astype(np.float32)
    low, high = mean.min(axis=1), mean.max(axis=1)
    x, y, width, height = (np.float32(v) for v in box)
    half = np.float32(2)
    scale = (width / (high[0] - low[0]) + height / (high[1] - low[1])) / half
    # The box's centre in float32, the shape's (from OpenCV's float64 extremes) and the difference in float64.
    middle = np.float64(scale) * (low.astype(np.float64) + high) / 2
    tx, ty = np.float64(x + width / half) - middle[0], np.float64(y + height / half) - middle[1]
    return np.array([scale, *rotation, tx, ty], np.float32)


def try_start(
    fitter: Fitter, gray: np.ndarray, box: np.ndarray, rotation: np.ndarray, settings: FitSettings
) -> Hypothesis:
    """Fit the main model to ``gray`` [H, W] from one start; a likelihood of minus infinity was not taken."""
    g, p = start_in_box(fitter.pdm, box, rotation), np.zeros(fitter.pdm.m, np.float32)
    fitter.likelihood = np.float32(-np.inf)
    fitted = fitter.fit(gray, g, p, settings)
    return Hypothesis(fitted, fitter.likelihood, fitter.likelihoods.copy(), g, p)


def likeliest(
    attempt: Callable[[Fitter, np.ndarray], Hypothesis],
    fitters: Sequence[Fitter],
    crew: Crew | None,
    before: tuple[np.float32, np.ndarray],
) -> Hypothesis:
    """The first of the likeliest hypotheses.

    Parameters
    ----------
    attempt : fits from one rotation.
    fitters : one for each thread of the ``crew``, which shares the attempts.
    before : likelihood and likelihoods of the last fit: an attempt that is given up before its own are taken has
        those of the one before it, in the order of `HYPOTHESES`.
    """
    found: dict[int, Hypothesis] = {}
    todo, free = deque(enumerate(HYPOTHESES)), deque(fitters)

    def work() -> None:
        fitter = free.popleft()
        while todo:
            try:
                index, rotation = todo.popleft()
            except IndexError:  # another thread was quicker
                return
            found[index] = attempt(fitter, rotation)

    if crew is None:
        work()
    else:
        crew.share(work)
    hypotheses = [found[index] for index in range(len(HYPOTHESES))]
    for hypothesis in hypotheses:
        if hypothesis.likelihood == -np.inf:
            hypothesis.likelihood, hypothesis.likelihoods = before
        before = hypothesis.likelihood, hypothesis.likelihoods
    best = hypotheses[0]
    for hypothesis in hypotheses[1:]:
        if hypothesis.likelihood > best.likelihood:
            best = hypothesis
    return best
