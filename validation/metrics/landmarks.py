"""Distances between two sets of 68 landmarks (the iBUG 300-W order).

Conventions: ``reference`` and ``estimated`` are f64 (frames, 68, 2) in pixels, of frames on which both programs have a
face. A frame's error is the mean over its 68 points of the Euclidean distance.
"""

from __future__ import annotations

import numpy as np

from validation.errors import Undefined

POINTS = 68
OUTER_EYE_CORNERS = (36, 45)
REGIONS = {
    "jaw": range(0, 17),
    "brows": range(17, 27),
    "nose": range(27, 36),
    "eyes": range(36, 48),
    "mouth": range(48, 68),
}


def validate(reference: np.ndarray, estimated: np.ndarray) -> None:
    """``ValueError`` if the shapes are not (frames, 68, 2) both; ``Undefined`` if there is no frame."""
    if reference.shape != estimated.shape or reference.shape[1:] != (POINTS, 2):
        raise ValueError(f"landmarks of shapes {reference.shape} and {estimated.shape}, expected (frames, {POINTS}, 2)")
    if len(reference) == 0:
        raise Undefined("no frame on which both programs have a face")


def point_distances(reference: np.ndarray, estimated: np.ndarray) -> np.ndarray:
    """|| l_ti - l'_ti ||, f64 (frames, 68) in pixels."""
    validate(reference, estimated)
    return np.hypot(*np.moveaxis(estimated - reference, 2, 0))


def frame_errors(reference: np.ndarray, estimated: np.ndarray) -> np.ndarray:
    """e_t = 1/68 sum_i || l_ti - l'_ti ||, f64 (frames,) in pixels."""
    return point_distances(reference, estimated).mean(axis=1)


def mean_error(reference: np.ndarray, estimated: np.ndarray) -> float:
    """Mean over frames of e_t, px."""
    return float(frame_errors(reference, estimated).mean())


def error_percentile(reference: np.ndarray, estimated: np.ndarray, percent: float) -> float:
    """The ``percent``-th percentile over frames of e_t, linear between order statistics (Hyndman-Fan type 7), px."""
    return float(np.percentile(frame_errors(reference, estimated), percent))


def max_error(reference: np.ndarray, estimated: np.ndarray) -> float:
    """max_t e_t, px."""
    return float(frame_errors(reference, estimated).max())


def max_point_error(reference: np.ndarray, estimated: np.ndarray) -> float:
    """The largest distance of any point in any frame, px."""
    return float(point_distances(reference, estimated).max())


def region_error(reference: np.ndarray, estimated: np.ndarray, region: str) -> float:
    """As ``mean_error`` over the points of one of ``REGIONS``, px."""
    return float(point_distances(reference, estimated)[:, list(REGIONS[region])].mean())


def point_errors(reference: np.ndarray, estimated: np.ndarray) -> np.ndarray:
    """Mean over frames of each point's distance, f64 (68,) in pixels."""
    return point_distances(reference, estimated).mean(axis=0)


def normalised_errors(reference: np.ndarray, estimated: np.ndarray) -> np.ndarray:
    """e_t / d_t with d_t the distance of the reference's outer eye corners (points 36 and 45), f64 (frames,).

    The inter-ocular variant of Sagonas et al., 300 Faces in-the-Wild Challenge, 2013. ``Undefined`` if d_t is 0.
    """
    left, right = OUTER_EYE_CORNERS
    errors = frame_errors(reference, estimated)
    width = np.hypot(*(reference[:, right] - reference[:, left]).T)
    if not np.all(width > 0):
        raise Undefined("the reference's outer eye corners coincide in a frame")
    return errors / width


def nme(reference: np.ndarray, estimated: np.ndarray) -> float:
    """Normalised mean error by outer eye corners: the mean over frames of e_t / d_t (a ratio, not per cent)."""
    return float(normalised_errors(reference, estimated).mean())


def ced(normalised: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Cumulative error distribution: the share of frames with error <= each threshold, f64 (thresholds,)."""
    if len(normalised) == 0:
        raise Undefined("no frame on which both programs have a face")
    return np.searchsorted(np.sort(normalised), thresholds, side="right") / len(normalised)


def auc(normalised: np.ndarray, threshold: float) -> float:
    """Area under the CED up to ``threshold``, divided by it: 1/T int_0^T CED = mean max(0, 1 - e/T), exactly."""
    if len(normalised) == 0:
        raise Undefined("no frame on which both programs have a face")
    return float(np.maximum(0.0, 1.0 - normalised / threshold).mean())


def failure_rate(normalised: np.ndarray, threshold: float) -> float:
    """Share of frames with error above ``threshold``."""
    return 1.0 - float(ced(normalised, np.array([threshold]))[0])


def drift(errors: np.ndarray, frames: np.ndarray) -> float:
    """Least-squares slope of e_t over the frame number, px per 100 frames: sum (t-T)(e-E) / sum (t-T)^2 x 100."""
    if len(errors) < 3:
        raise Undefined(f"{len(errors)} frames are too few for a slope")
    centred = frames - frames.mean()
    return float(100.0 * (centred @ (errors - errors.mean())) / (centred @ centred))
