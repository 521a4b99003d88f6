"""Differences of head pose.

Conventions: rotations are OpenFace's Euler angles f64 (frames, 3) in radians, R = Rx(r1) Ry(r2) Rz(r3) (OpenFace 2.2
specification, part 1); translations f64 (frames, 3) in millimetres.
"""

from __future__ import annotations

import numpy as np

from validation.errors import Undefined


def rotation_matrices(euler: np.ndarray) -> np.ndarray:
    """Rx(r1) Ry(r2) Rz(r3), f64 (frames, 3, 3)."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(euler).T, np.sin(euler).T
    rows = [
        [cy * cz, -cy * sz, sy],
        [cx * sz + cz * sx * sy, cx * cz - sx * sy * sz, -cy * sx],
        [sx * sz - cx * cz * sy, cz * sx + cx * sy * sz, cx * cy],
    ]
    return np.moveaxis(np.array(rows), 2, 0)


def geodesic_degrees(reference: np.ndarray, estimated: np.ndarray) -> np.ndarray:
    """Angle of the rotation between the two, f64 (frames,) in degrees.

    2 asin(||A - B||_F / (2 sqrt 2)), which equals arccos((tr(A'B) - 1) / 2) (Huynh, Metrics for 3D rotations, 2009)
    and keeps its precision near 0.
    """
    difference = rotation_matrices(reference) - rotation_matrices(estimated)
    chord = np.sqrt((difference**2).sum(axis=(1, 2))) / (2 * np.sqrt(2))
    return np.degrees(2 * np.arcsin(np.clip(chord, 0.0, 1.0)))


def axis_degrees(reference: np.ndarray, estimated: np.ndarray) -> np.ndarray:
    """|r - r'| per axis, wrapped to at most 180, f64 (frames, 3) in degrees."""
    difference = np.degrees(estimated - reference)
    return np.abs((difference + 180.0) % 360.0 - 180.0)


def mean_geodesic(reference: np.ndarray, estimated: np.ndarray) -> float:
    """Mean over frames of the geodesic angle, degrees."""
    _need_frames(reference)
    return float(geodesic_degrees(reference, estimated).mean())


def mean_axis(reference: np.ndarray, estimated: np.ndarray, axis: int | None = None) -> float:
    """Mean over frames of |r - r'| of one axis, or of all three (the usual head pose MAE), degrees."""
    _need_frames(reference)
    degrees = axis_degrees(reference, estimated)
    return float(degrees.mean() if axis is None else degrees[:, axis].mean())


def mean_translation(reference: np.ndarray, estimated: np.ndarray) -> float:
    """Mean over frames of || T - T' ||, mm."""
    _need_frames(reference)
    return float(np.linalg.norm(estimated - reference, axis=1).mean())


def _need_frames(reference: np.ndarray) -> None:
    if len(reference) == 0:
        raise Undefined("no frame on which both programs have a face")
