"""Patch experts: from the grey area around a landmark to a map of how well each position fits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from pyfaceau.threads import Crew
from pyfaceau.weights.models import CCNFPatches, CENPatches, LandmarkModel, Patches


class Experts(Protocol):
    """The experts of one scale. ``confidence`` [nv, n] weighs landmarks where that is asked for."""

    confidence: np.ndarray

    def respond(self, areas: np.ndarray, view: int, responses: np.ndarray) -> None:
        """Fill ``responses`` [n, w, w] from ``areas`` [n, w + 10, w + 10], which may be overwritten."""


def _prepare(patches: Patches, crew: Crew | None) -> Experts:
    # Imported here because a run uses one kind, or two, and a start waits for every module.
    if isinstance(patches, CCNFPatches):
        from pyfaceau.landmarks.experts.ccnf import CCNFExperts

        return CCNFExperts(patches)
    if isinstance(patches, CENPatches):
        from pyfaceau.landmarks.experts.cen import CENExperts

        return CENExperts(patches, crew)
    from pyfaceau.landmarks.experts.svr import SVRExperts

    return SVRExperts(patches)


def prepare_experts(model: LandmarkModel, crew: Crew | None = None) -> Sequence[Experts]:
    """The model's patch experts, coarse to fine, laid out for their kernels.

    A ``crew`` shares the work of those that are large enough for it (CEN); results do not depend on it.
    """
    return [_prepare(patches, crew) for patches in model.patches]
