"""SVR patch experts (the CLM model): grey areas to response maps.

Saragih, Lucey & Cohn 2011; OpenFace 2.2 specification, part 1 section 4 and part 2 section 7. A template is
correlated with the area and with its squared gradient; the response is the product of two logistic functions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pyfaceau._jit import kernel
from pyfaceau._simd import LANES
from pyfaceau.landmarks.areas import SUPPORT
from pyfaceau.landmarks.experts.blocks import block_statistics, correlate
from pyfaceau.weights.models import SVRPatches

_RAW, _GRADIENT = 0, 1


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
def svr_responses(areas, visible, templates, template_norms, scaling, bias, modality, responses):
    """Response maps of the visible landmarks of one view.

    Parameters
    ----------
    areas : np.ndarray [shape=(n, w + 10, w + 10), dtype=float32]
        Grey values; **centred in place**.
    visible : np.ndarray [shape=(n,), dtype=bool]
    templates : np.ndarray [shape=(n, modalities, 121, 8), dtype=float32]
        Templates less their mean, in the first of eight lanes.
    template_norms, scaling, bias : np.ndarray [shape=(n, modalities), dtype=float32]
    modality : np.ndarray [shape=(n, modalities), dtype=int32]
        0 grey values, 1 squared gradient.
    responses : np.ndarray [shape=(n, w, w), dtype=float32], out
    """
    n, side, window = areas.shape[0], areas.shape[1], responses.shape[1]
    cells = window * window
    means, inverse_norms = np.empty(cells, np.float32), np.empty(cells, np.float32)
    sums, squares = np.empty(side, np.float64), np.empty(side, np.float64)
    products, image = np.empty(cells * LANES, np.float32), np.empty((side, side), np.float32)
    one = np.float32(1)
    for i in range(n):
        if not visible[i]:
            continue
        response = responses[i].reshape(-1)
        response[:] = one
        offset = np.rint(areas[i, side // 2, side // 2])
        for k in range(modality.shape[1]):
            if modality[i, k] == _GRADIENT:
                _squared_gradient(areas[i], image)
            else:
                # Correlation does not see an offset or a factor: no need to normalise the area.
                for y in range(side):
                    for x in range(side):
                        image[y, x] = areas[i, y, x] - offset
            block_statistics(image, window, means, inverse_norms, sums, squares)
            correlate(image.reshape(-1), window, side, templates[i, k].reshape(-1), products)
            for c in range(cells):
                # A block without contrast has the inverse norm 1 exactly: its correlation is 0, as OpenCV's.
                rho = products[c * LANES] * (inverse_norms[c] / template_norms[i, k])
                if inverse_norms[c] == one or abs(rho) >= np.float32(1.125):
                    rho = np.float32(0)
                rho = min(one, max(-one, rho))
                if template_norms[i, k] == np.float32(0):
                    rho = one
                response[c] *= one / (one + np.float32(math.exp(-(scaling[i, k] * rho + bias[i, k]))))


@dataclass
class SVRExperts:
    """The patch experts of one scale, laid out for the kernel. All views; see `svr_responses`."""

    patches: SVRPatches

    def __post_init__(self) -> None:
        source = self.patches
        views, n, modalities = source.modality.shape
        flat = source.templates.reshape(views, n, modalities, SUPPORT * SUPPORT).astype(np.float64)
        flat = flat - flat.mean(axis=-1, keepdims=True)
        self._templates = np.zeros((views, n, modalities, SUPPORT * SUPPORT, LANES), np.float32)
        self._templates[..., 0] = flat
        self._norms = np.sqrt((flat**2).sum(axis=-1)).astype(np.float32)
        self._scaling, self._bias = source.scaling.astype(np.float32), source.bias.astype(np.float32)
        self.confidence = source.confidence.sum(axis=-1).astype(np.float32)

    def respond(self, areas: np.ndarray, view: int, responses: np.ndarray) -> None:
        """Fill ``responses`` [n, w, w] from ``areas`` [n, w + 10, w + 10] for one view."""
        svr_responses(
            areas, self.patches.visible[view], self._templates[view], self._norms[view], self._scaling[view],
            self._bias[view], self.patches.modality[view], responses,
        )  # fmt: skip
