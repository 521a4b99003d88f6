"""Fitting one landmark model to one picture: the scale loop, the part models, the refit.

OpenFace 2.2 specification, part 2, sections 2, 8 and 10.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pyfaceau.landmarks.areas import cut_areas
from pyfaceau.landmarks.experts import Experts, prepare_experts
from pyfaceau.landmarks.experts.ccnf import CCNFExperts
from pyfaceau.landmarks.pdm import shape_2d
from pyfaceau.landmarks.points import fit_into
from pyfaceau.landmarks.rlms import kernel_table, solve_scale
from pyfaceau.landmarks.scales import SMALLEST_SCALE, expert_arrays, fit_scales, step_arrays
from pyfaceau.threads import Crew
from pyfaceau.weights.models import PDM, LandmarkModel, Part

_PART_SCALE = 0.9  # parts are fitted where the face is larger than this share of their own scale


@dataclass(frozen=True)
class FitSettings:
    """How a model is fitted (part 2, section 2).

    ``windows`` are response sizes per scale, 0 skips a scale; ``reg`` weighs the shape prior; ``sigma`` is
    the mean-shift kernel's width in response pixels; ``weight_factor`` > 0 weighs landmarks by their experts'
    confidence; ``per_scale`` adapts the three to each scale.
    """

    windows: tuple[int, ...] = (11, 9, 7, 5)
    reg: float = 25.0
    sigma: float = 1.5
    weight_factor: float = 0.0
    iterations: int = 5
    per_scale: bool = True

    def at_scale(self, scale: float) -> tuple[np.float32, np.float32, float]:
        """``reg``, ``sigma`` and ``weight_factor`` for patch experts of ``scale`` px per mm."""
        if not self.per_scale:
            return np.float32(self.reg), np.float32(self.sigma), self.weight_factor
        octaves = math.log2(scale / 0.25)
        reg = self.reg - 15.0 * octaves
        factor = self.weight_factor + 2.0 * self.weight_factor * octaves
        return np.float32(reg if reg > 0 else 0.001), np.float32(self.sigma + 0.25 * octaves), factor


_EYE = FitSettings(windows=(3, 5, 9), reg=0.5, sigma=1.0, per_scale=False)
_INNER = FitSettings(windows=(9,), reg=2.5, sigma=1.75, weight_factor=2.5, per_scale=False)
#: Part models whose landmarks are reported, the left one in the picture first.
EYES = ("left_eye_28", "right_eye_28")
#: Part models by name (part 1, section 1): not affected by any setting of the main model.
PART_SETTINGS = {**dict.fromkeys(EYES, _EYE), "inner": _INNER}


@dataclass(frozen=True)
class Step:
    """One scale of a fit: index of the patch experts, window (response pixels), parameters, whether it is the last."""

    scale: int
    window: int
    reg: np.float32
    sigma: np.float32
    factor: float
    last: bool


class Fitter:
    """A landmark model laid out for the kernels, with work space for one caller; a ``crew`` may help.

    ``experts`` of the same model are taken from another fitter instead of laid out anew.
    """

    def __init__(
        self, model: LandmarkModel, crew: Crew | None = None, experts: Sequence[Experts] | None = None
    ) -> None:
        self.pdm = model.pdm
        self.patches = model.patches
        self.experts = prepare_experts(model, crew) if experts is None else experts
        n = model.pdm.n
        self.base = np.zeros(2 * n, np.float32)
        self.forward, self.backward = np.zeros((2, 2), np.float32), np.zeros((2, 2), np.float32)
        self.landmarks, self.likelihoods = np.zeros(2 * n, np.float32), np.zeros(n, np.float32)
        self.likelihood = np.float32(-10)
        self.view = 0
        self._work: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._pdm = (model.pdm.mean, model.pdm.modes, model.pdm.modes_t, model.pdm.eigenvalues)
        self._frame = (self.base, self.forward, self.backward, np.zeros(n, np.float32))
        ccnf = [experts for experts in self.experts if isinstance(experts, CCNFExperts)]
        self._ccnf = ccnf if len(ccnf) == len(self.experts) else []
        self._fused = expert_arrays(ccnf) if self._ccnf else None
        self._plans: dict[FitSettings, tuple[Any, ...] | None] = {}
        self._settings: FitSettings | None = None  # of the last plan, which is looked up by their digest else
        self._plan: tuple[Any, ...] | None = None

    def steps(self, settings: FitSettings) -> list[Step]:
        """The scales that a fit goes through."""
        windows = [*settings.windows, *[0] * len(self.patches)][: len(self.patches)]
        following = [*windows[1:], 0]
        return [
            Step(k, windows[k], *settings.at_scale(self.patches[min(k, 2)].scale), following[k] == 0)
            for k in range(len(windows))
            if windows[k] > 0
        ]

    def fit(self, gray: np.ndarray, g: np.ndarray, p: np.ndarray, settings: FitSettings) -> bool:
        """Fit to ``gray`` [H, W] uint8 from ``g`` [6] and ``p`` [m], which are updated in place.

        ``landmarks`` [2n], ``likelihood``, ``likelihoods`` and ``view`` describe the fit afterwards. Returns False
        where the face became too small and the rest was given up.
        """
        if settings is not self._settings:
            self._prepare(settings)
        if self._fused is None or self._plan is None:
            fitted = self._fit_by_scale(gray, g, p, settings)
            self.landmarks[:] = shape_2d(self.pdm, g, p)
            return fitted
        self.view, fitted, likelihood = fit_scales(
            gray, self._pdm, self._fused, self._plan, self._frame, settings.iterations, g, p, self.landmarks,
            self.likelihoods, self.likelihood,
        )  # fmt: skip
        self.likelihood = np.float32(likelihood)
        return bool(fitted)

    def _prepare(self, settings: FitSettings) -> None:
        if settings not in self._plans:
            steps = self.steps(settings)
            self._plans[settings] = step_arrays(self._ccnf, steps, self.buffers) if steps and self._ccnf else None
        self._settings, self._plan = settings, self._plans[settings]

    def _fit_by_scale(self, gray: np.ndarray, g: np.ndarray, p: np.ndarray, settings: FitSettings) -> bool:
        for step in self.steps(settings):
            patches, experts = self.patches[step.scale], self.experts[step.scale]
            areas, responses = self.buffers(step.window)
            pdm = self.pdm
            self.view = cut_areas(
                gray, pdm.mean, pdm.modes_t, patches.centers, patches.visible, patches.scale, g, p,
                self.base, self.forward, self.backward, areas,
            )  # fmt: skip
            experts.respond(areas, self.view, responses)
            wanted, likelihood = solve_scale(
                pdm.mean, pdm.modes, pdm.modes_t, pdm.eigenvalues, responses, patches.visible[self.view],
                self._landmark_weights(step), kernel_table(step.window, float(step.sigma)), self.base, self.forward,
                self.backward, step.reg, step.sigma, settings.iterations, step.last, g, p, self.likelihoods,
            )  # fmt: skip
            if wanted:
                self.likelihood = np.float32(likelihood)
            if g[0] < SMALLEST_SCALE:
                return False
        return True

    def buffers(self, window: int) -> tuple[np.ndarray, np.ndarray]:
        """Work space of a window: areas [n, w + 10, w + 10] and response maps [n, w, w], float32."""
        if window not in self._work:
            n, side = self.pdm.n, window + 10
            self._work[window] = np.zeros((n, side, side), np.float32), np.zeros((n, window, window), np.float32)
        return self._work[window]

    def _landmark_weights(self, step: Step) -> np.ndarray:
        """Diagonal landmark weights at the current view; empty for all ones."""
        if step.factor <= 0:
            return np.empty(0, np.float32)
        k = step.scale
        confidence = np.where(self.patches[k].visible[self.view], self.experts[k].confidence[self.view], 0)
        return (np.float32(step.factor) * confidence).astype(np.float32)


@dataclass
class PartState:
    """What the last fit of a part left: the pipeline reports it even for frames without a fit."""

    g: np.ndarray  # f32 (6,)
    p: np.ndarray  # f32 (m,)
    landmarks: np.ndarray  # f32 (2n,), pixels

    def copy(self) -> PartState:
        """An independent copy."""
        return PartState(self.g.copy(), self.p.copy(), self.landmarks.copy())


class PartFitter:
    """A part of the face: found from the main model's landmarks (``points`` of them), refined, and written back."""

    def __init__(self, part: Part, points: int) -> None:
        self.name = part.name
        self.fitter = Fitter(part.model)
        n = part.model.pdm.n
        self.pdm = part.model.pdm
        self._smallest_face = _PART_SCALE * part.model.patches[0].scale
        self._given = np.zeros(2 * n, np.float32)  # landmarks: those of the main model, others missing
        main, own = part.pairs[:, 0].astype(np.intp), part.pairs[:, 1].astype(np.intp)
        # The same points in shape vectors of the main model and of the part.
        self._main, self._own = np.concatenate([main, points + main]), np.concatenate([own, n + own])
        self.settings = PART_SETTINGS.get(part.name, FitSettings())
        self.state = PartState(
            np.array([1, 0, 0, 0, 0, 0], np.float32), np.zeros(self.pdm.m, np.float32), np.zeros(2 * n, np.float32)
        )

    @property
    def reported(self) -> bool:
        """Whether its state is read where no part was fitted."""
        return self.name in EYES

    def fits(self, main_scale: float) -> bool:
        """Whether a face of this scale (px per mm) is large enough for the part to be fitted."""
        return main_scale > self._smallest_face

    def refine(self, gray: np.ndarray, landmarks: np.ndarray, main_scale: float) -> bool:
        """Fit the part inside the main model's ``landmarks`` [2N]; True where the picture was looked at."""
        given, state = self._given, self.state
        given[self._own] = landmarks[self._main]
        fit_into(self.pdm, given, state.g, state.p, state.landmarks)
        fitted = self.fits(main_scale)
        if fitted:
            self.fitter.fit(gray, state.g, state.p, self.settings)
            state.landmarks[:] = self.fitter.landmarks
        return fitted

    def write_back(self, landmarks: np.ndarray) -> None:
        """Copy the part's mapped points into the main model's ``landmarks`` [2N]."""
        landmarks[self._main] = self.state.landmarks[self._own]


def refine_parts(
    gray: np.ndarray,
    main: PDM,
    parts: Sequence[PartFitter],
    landmarks: np.ndarray,
    g: np.ndarray,
    p: np.ndarray,
    crew: Crew | None = None,
) -> None:
    """Second half of a fit: parts, write-back, refit of the main model (part 2, section 10).

    The main model's ``landmarks`` [2N], which are those of ``g`` and ``p`` before and after, and these are updated in
    place where a part was fitted. A ``crew`` shares the parts, which do not depend on each other.
    """
    scale = float(g[0])
    fitted = any(part.fits(scale) for part in parts)
    # Without a fit nothing is written back, so that only the parts which are reported have to be found.
    waiting, refined = deque(part for part in parts if fitted or part.reported), []

    def work() -> None:
        while True:
            try:
                part = waiting.popleft()
            except IndexError:
                return
            refined.append(part.refine(gray, landmarks, scale))

    if crew is None or not fitted:
        work()
    else:
        crew.share(work)
    if any(refined):
        for part in parts:
            part.write_back(landmarks)
        fit_into(main, landmarks, g, p, landmarks)
