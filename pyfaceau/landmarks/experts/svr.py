"""SVR patch experts (the CLM model): grey areas to response maps.

Saragih, Lucey & Cohn 2011; OpenFace 2.2 specification, part 1 section 4 and part 2 section 7. A template is
correlated with the area and with its squared gradient; the response is the product of two logistic functions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pyfaceau._jit import kernel
from pyfaceau.landmarks.areas import SUPPORT
from pyfaceau.weights.models import SVRPatches

_GRADIENT = 1  # the other modality: grey values
_FLAT = 10.0 * float(np.finfo(np.float32).eps)


@kernel
def _squared_gradient(area, out):
    """Squared central differences of an area, zero on its border."""
    side = area.shape[0]
    out[:] = np.float32(0)
    for y in range(1, side - 1):
        for x in range(1, side - 1):
            dx, dy = area[y, x + 1] - area[y, x - 1], area[y + 1, x] - area[y - 1, x]
            out[y, x] = dx * dx + dy * dy


@kernel
def _normalised(area, out):
    """An area less its mean, over its (population) standard deviation: one fused float32 operation a pixel."""
    side, total, squares = area.shape[0], 0.0, 0.0
    for y in range(side):
        for x in range(side):
            v = np.float64(area[y, x])
            total += v
            squares += v * v
    mean = total / (side * side)
    variance = squares / (side * side) - mean * mean
    deviation = math.sqrt(variance) if variance > 0.0 else 1.0
    factor, shift = np.float64(np.float32(1.0 / deviation)), np.float64(np.float32(-mean / deviation))
    for y in range(side):
        for x in range(side):
            out[y, x] = np.float32(np.float64(area[y, x]) * factor + shift)


@kernel
def _match(image, template, template_mean, template_norm, window, lines, rho):
    """Normalised correlation coefficients ``rho`` [w, w] float32 of a template [121] float64 with every block.

    As ``cv2.matchTemplate(..., TM_CCOEFF_NORMED)`` without IPP: sums in float64, the plain correlation rounded to
    float32 before the means are taken off. ``lines`` [3, side] float64 is work space.
    """
    side, area = image.shape[0], float(SUPPORT * SUPPORT)
    for y in range(window):
        for x in range(side):
            lines[1, x] = lines[2, x] = 0.0
        for x in range(window):
            lines[0, x] = 0.0
        for r in range(SUPPORT):
            line = image[y + r]
            for x in range(side):
                v = np.float64(line[x])
                lines[1, x] += v
                lines[2, x] += v * v
            for c in range(SUPPORT):
                weight = template[r * SUPPORT + c]
                for x in range(window):
                    lines[0, x] += np.float64(line[x + c]) * weight
        for x in range(window):
            total = squares = 0.0
            for c in range(SUPPORT):
                total += lines[1, x + c]
                squares += lines[2, x + c]
            value = np.float64(np.float32(lines[0, x])) - total * template_mean
            spread = max(squares - total * total / area, 0.0)
            # Below this a block counts as flat.
            limit = 0.0 if spread <= min(0.5, _FLAT * squares) else math.sqrt(spread) * template_norm
            if abs(value) < limit:
                value /= limit
            elif abs(value) < limit * 1.125:
                value = 1.0 if value > 0.0 else -1.0
            else:
                value = 0.0
            rho[y, x] = np.float32(value)


@kernel
def svr_responses(areas, visible, templates, template_means, template_norms, scaling, bias, modality, responses):
    """Response maps of the visible landmarks of one view: to the last bit those of OpenFace 2.2.

    Parameters
    ----------
    areas : np.ndarray [shape=(n, w + 10, w + 10), dtype=float32]
        Grey values.
    visible : np.ndarray [shape=(n,), dtype=bool]
    templates : np.ndarray [shape=(n, modalities, 121), dtype=float64]
    template_means, template_norms, scaling, bias : np.ndarray [shape=(n, modalities), dtype=float64]
        Norms are of the templates less their means.
    modality : np.ndarray [shape=(n, modalities), dtype=int32]
        0 grey values, 1 squared gradient.
    responses : np.ndarray [shape=(n, w, w), dtype=float32], out
    """
    n, side, window = areas.shape[0], areas.shape[1], responses.shape[1]
    image, lines = np.empty((side, side), np.float32), np.empty((3, side), np.float64)
    rho = np.empty((window, window), np.float32)
    for i in range(n):
        if not visible[i]:
            continue
        for k in range(modality.shape[1]):
            if modality[i, k] == _GRADIENT:
                _squared_gradient(areas[i], image)
            else:
                _normalised(areas[i], image)
            _match(image, templates[i, k], template_means[i, k], template_norms[i, k], window, lines, rho)
            for y in range(window):
                for x in range(window):
                    # A flat template correlates with everything.
                    match = np.float64(rho[y, x]) if template_norms[i, k] > 0.0 else 1.0
                    value = np.float32(1.0 / (1.0 + math.exp(-(match * scaling[i, k] + bias[i, k]))))
                    responses[i, y, x] = value if k == 0 else responses[i, y, x] * value


@dataclass
class SVRExperts:
    """The patch experts of one scale, laid out for the kernel. All views; see `svr_responses`."""

    patches: SVRPatches

    def __post_init__(self) -> None:
        source = self.patches
        views, n, modalities = source.modality.shape
        self._templates = source.templates.reshape(views, n, modalities, SUPPORT * SUPPORT).astype(np.float64)
        self._means = self._templates.mean(axis=-1)
        # The reference's way: deviation, squared, rooted, times the root of the size.
        self._norms = np.sqrt(self._templates.std(axis=-1) ** 2) * math.sqrt(SUPPORT * SUPPORT)
        self._norms[np.ptp(self._templates, axis=-1) == 0] = 0
        self._scaling, self._bias = (np.array(values, np.float64) for values in (source.scaling, source.bias))
        self.confidence = source.confidence.sum(axis=-1).astype(np.float32)

    def respond(self, areas: np.ndarray, view: int, responses: np.ndarray) -> None:
        """Fill ``responses`` [n, w, w] from ``areas`` [n, w + 10, w + 10] for one view."""
        svr_responses(
            areas, self.patches.visible[view], self._templates[view], self._means[view], self._norms[view],
            self._scaling[view], self._bias[view], self.patches.modality[view], responses,
        )  # fmt: skip
