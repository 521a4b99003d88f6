"""The feature vector of one face: FHOG of the aligned face, then the geometry of the fitted shape."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pyfaceau._jit import kernel
from pyfaceau.au import fhog
from pyfaceau.au.align import AlignScratch, _align, _frame, canonical_face
from pyfaceau.au.fhog import _fhog
from pyfaceau.weights.models import PDM


class Describer:
    """Computes descriptors for one PDM and mask; owns the work arrays, so use one per thread.

    A descriptor is f64 (4464 + 3n + m,): FHOG (part 3 §3), shape displacements ``modes @ p`` in mm, all x, all y,
    all z, and last the parameters p themselves (part 3 §4).
    """

    def __init__(self, pdm: PDM, triangles: NDArray[np.int32]) -> None:
        self.canonical = canonical_face(pdm, triangles, fhog.SIZE)
        self.length = fhog.LENGTH + 3 * pdm.n + pdm.m
        self._modes = np.array(pdm.modes_t, dtype=np.float64)
        self._align = AlignScratch(fhog.SIZE)
        self._fhog = fhog.FhogScratch()

    def describe(
        self,
        bgr: NDArray[np.uint8],
        landmarks: NDArray[np.float32],
        g: NDArray[np.float32],
        p: NDArray[np.float32],
        face: NDArray[np.uint8],
        hog: NDArray[np.float32],
        features: NDArray[np.float64],
    ) -> None:
        """Fill the aligned, masked face u8 (112, 112, 3), its FHOG f32 (4464,) and the descriptor.

        ``bgr`` u8 (H, W, 3); ``landmarks`` f32 (2n,) px; ``g`` f32 (6,) and ``p`` f32 (m,): the PDM fitted to them.
        """
        canonical, scratch = self.canonical, self._align
        _describe(
            *_frame(bgr), landmarks, g, p, canonical.rigid, canonical.rms, canonical.lift, canonical.triangles,
            self._modes, scratch.warp, scratch.mask, scratch.first, scratch.last, *self._fhog.arrays,
            face.reshape(fhog.SIZE, -1), hog, features,
        )  # fmt: skip


@kernel
def _describe(
    pixels, height, width, landmarks, g, p, rigid, rms, lift, triangles, modes_t,
    warp, mask, first, last, histogram, energy, planes, magnitude, places, votes, face, hog, features,
):  # fmt: skip
    _align(
        pixels, height, width, landmarks, g[4], g[5], rigid, rms, lift, triangles, True, warp, mask, first, last, face,
    )  # fmt: skip
    _fhog(face, first, last, histogram, energy, planes, magnitude, places, votes, hog)
    for i in range(hog.shape[0]):
        features[i] = hog[i]
    _geometry(modes_t, p, features[hog.shape[0] :])


@kernel
def _geometry(modes_t, p, out):
    """Shape displacements [3n], then the parameters [m], both f64."""
    size = modes_t.shape[1]
    for i in range(size):
        out[i] = 0.0
    for j in range(p.shape[0]):
        weight = np.float64(p[j])
        for i in range(size):
            out[i] += modes_t[j, i] * weight
        out[size + j] = weight
