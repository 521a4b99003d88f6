"""Differences of gaze, in degrees.

Conventions: angles are OpenFace's ``gaze_angle_x``, ``gaze_angle_y``, f64 (frames, 2) in radians; vectors are the unit
direction of one eye, f64 (frames, 3).
"""

from __future__ import annotations

import numpy as np

from validation.errors import Undefined


def mean_angle_error(reference: np.ndarray, estimated: np.ndarray) -> float:
    """Mean over frames and both angles of |a - a'|, degrees."""
    if len(reference) == 0:
        raise Undefined("no frame on which both programs have a face")
    return float(np.degrees(np.abs(estimated - reference)).mean())


def vector_angles(reference: np.ndarray, estimated: np.ndarray) -> np.ndarray:
    """Angle between two directions, 2 atan2(|u - v|, |u + v|) of the unit vectors (Kahan 2006), f64 (frames,), degrees.

    ``Undefined`` where a vector has no length (OpenFace writes 0, 0, 0 where it has no eye model).
    """
    if len(reference) == 0:
        raise Undefined("no frame on which both programs have a face")
    lengths = np.linalg.norm(reference, axis=1), np.linalg.norm(estimated, axis=1)
    if not (np.all(lengths[0] > 0) and np.all(lengths[1] > 0)):
        raise Undefined("a gaze vector of length 0: gaze was not computed")
    u, v = reference / lengths[0][:, None], estimated / lengths[1][:, None]
    return np.degrees(2 * np.arctan2(np.linalg.norm(u - v, axis=1), np.linalg.norm(u + v, axis=1)))


def mean_vector_angle(reference: np.ndarray, estimated: np.ndarray) -> float:
    """Mean over frames of the angle between the two directions, degrees."""
    return float(vector_angles(reference, estimated).mean())
