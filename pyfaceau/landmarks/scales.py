"""The scale loop of a CCNF model in one kernel: one call a fit instead of three a scale.

OpenFace 2.2 specification, part 2, section 8. Other patch experts go through the same loop in `Fitter._fit_by_scale`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pyfaceau._jit import kernel
from pyfaceau.landmarks.areas import cut_areas
from pyfaceau.landmarks.experts.ccnf import CCNFExperts, ccnf_responses
from pyfaceau.landmarks.pdm import points_2d
from pyfaceau.landmarks.rlms import kernel_table, solve_scale

if TYPE_CHECKING:
    from pyfaceau.landmarks.fit import Step

SMALLEST_SCALE = 0.25  # px per mm below which a fit is given up
_MOST = 4  # scales of any model: tuples of one length, so that the kernel is compiled once
_NO_FIELD = np.zeros((0, 0, 0), np.float32)
_NO_FIELD.flags.writeable = False


@kernel
def fit_scales(gray, pdm, experts, plan, frame, iterations, g, p, landmarks, likelihoods, likelihood):
    """Fit ``g`` [6] and ``p`` [m] to a picture, coarse to fine; ``landmarks`` [2n] receives what they say.

    Parameters
    ----------
    gray : np.ndarray [shape=(H, W), dtype=uint8]
    pdm : mean, modes, modes_t, eigenvalues
    experts : of each scale, all views: centers, visible, scale (px per mm); weights and twice alpha as
        `ccnf_responses` takes them; confidence.
    plan : of each step: index of its scale; whether it is the last; reg, sigma and weight factor; covariance of the
        field (and an empty one), variances, kernel table, work space for areas and responses.
    frame : base, forward, backward of `cut_areas`, and work space for landmark weights [n].
    likelihoods, likelihood : of the landmarks (overwritten), and the last fit's.

    Returns
    -------
    The last view; whether no scale was left out because the face became too small; the mean log likelihood.
    """
    mean, modes, modes_t, eigenvalues = pdm
    centers, visible, scales, weights, twice_alpha, confidence = experts
    which, last, parameters, fields, no_field, variances, tables, areas, responses = plan
    base, forward, backward, landmark_weights = frame
    view, fitted = 0, True
    for step in range(which.shape[0]):
        k = which[step]
        view = cut_areas(
            gray, mean, modes_t, centers[k], visible[k], scales[k], g, p, base, forward, backward, areas[step]
        )
        field = no_field
        if fields[step].shape[0] > 0:
            field = fields[step][view]
        seen = visible[k][view]
        ccnf_responses(
            areas[step], seen, weights[k][view], twice_alpha[k][view], field, variances[step][view], responses[step]
        )
        reg, sigma, factor = parameters[step, 0], parameters[step, 1], parameters[step, 2]
        weighted = landmark_weights[:0]
        if factor > 0:
            weighted = landmark_weights
            trust = confidence[k][view]
            for i in range(weighted.shape[0]):
                weighted[i] = factor * trust[i] if seen[i] else np.float32(0)
        wanted, value = solve_scale(
            mean, modes, modes_t, eigenvalues, responses[step], seen, weighted, tables[step], base, forward, backward,
            reg, sigma, iterations, last[step], g, p, likelihoods,
        )  # fmt: skip
        if wanted:
            likelihood = value
        if g[0] < SMALLEST_SCALE:
            fitted = False
            break
    points_2d(mean, modes_t, g, p, np.empty(mean.shape[0], np.float32), landmarks)
    return view, fitted, likelihood


def expert_arrays(experts: Sequence[CCNFExperts]) -> tuple[Any, ...]:
    """``experts`` of `fit_scales`."""
    scales = [*experts, *[experts[-1]] * (_MOST - len(experts))]
    return (
        tuple(e.patches.centers for e in scales),
        tuple(e.patches.visible for e in scales),
        np.array([e.patches.scale for e in scales]),
        *(tuple(getattr(e, name) for e in scales) for name in ("weights", "twice_alpha", "confidence")),
    )


def step_arrays(
    experts: Sequence[CCNFExperts], steps: Sequence[Step], buffers: Callable[[int], tuple[np.ndarray, np.ndarray]]
) -> tuple[Any, ...]:
    """``plan`` of `fit_scales`; ``buffers`` gives the areas and responses of a window."""
    padded = [*steps, *[steps[-1]] * (_MOST - len(steps))]
    return (
        np.array([step.scale for step in steps]),
        np.array([step.last for step in steps]),
        np.array([(step.reg, step.sigma, step.factor) for step in steps], np.float32),
        tuple(experts[step.scale].covariance(step.window)[0] for step in padded),
        _NO_FIELD,
        tuple(experts[step.scale].covariance(step.window)[1] for step in padded),
        tuple(kernel_table(step.window, float(step.sigma)) for step in padded),
        tuple(buffers(step.window)[0] for step in padded),
        tuple(buffers(step.window)[1] for step in padded),
    )
