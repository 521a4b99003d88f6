"""What figures and galleries of a report are drawn from: per-frame values of one comparison, rounded for the record."""

from __future__ import annotations

from typing import Any

import numpy as np

from validation.compare import Pair
from validation.errors import Undefined
from validation.metrics import landmarks, pose, tracking

CED_THRESHOLDS = np.linspace(0.0, 0.08, 81)
WORST_FRAMES = 4


def series(pair: Pair) -> dict[str, Any]:
    """The record's ``series`` (see ``record.schema.json``); ``n`` entries each, for the rows used in the figures."""
    result: dict[str, Any] = {"frame": pair.keys[:, 0].tolist(), "face": pair.keys[:, 1].tolist()}
    both = pair.landmarks()
    if both is not None and len(both[0]):
        result.update(_landmark_series(*both))
    if turns := pair.shared(r"pose_R[xyz]"):
        result["pose_deg"] = _rounded(pose.geodesic_degrees(*pair.both(turns)))
    if angles := pair.shared(r"gaze_angle_[xy]"):
        a, b = pair.both(angles)
        result["gaze_deg"] = _rounded(np.degrees(np.abs(a - b)).mean(axis=1))
    result["intensity"] = {
        name: dict(zip(("reference", "other"), (_rounded(side[:, 0]) for side in pair.both([name])), strict=True))
        for name in pair.shared(r"AU\d+_r")
    }
    result["presence"] = {
        name: dict(zip(("reference", "other"), (_bits(side[:, 0]) for side in pair.both([name])), strict=True))
        for name in pair.shared(r"AU\d+_c")
    }
    return result


def _landmark_series(reference: np.ndarray, estimated: np.ndarray) -> dict[str, Any]:
    result: dict[str, Any] = {
        "landmark_px": _rounded(landmarks.frame_errors(reference, estimated)),
        "point_px": _rounded(landmarks.point_errors(reference, estimated)),
        "mean_face": _mean_face(reference),
    }
    try:
        normalised = landmarks.normalised_errors(reference, estimated)
    except Undefined:
        return result
    share = landmarks.ced(normalised, CED_THRESHOLDS)
    return {
        **result,
        "nme": _rounded(normalised, 6),
        "ced": {"threshold": _rounded(CED_THRESHOLDS), "share": _rounded(share)},
    }


def repetition_series(pair: Pair) -> dict[str, Any]:
    """Of ``series`` what a figure shows of the reference against its repetition: ``nme``, ``ced`` and ``point_px``."""
    both = pair.landmarks()
    if both is None or not len(both[0]):
        return {}
    found = _landmark_series(*both)
    return {name: found[name] for name in ("nme", "ced", "point_px") if name in found}


def _mean_face(shapes: np.ndarray) -> list[list[float]]:
    """Mean of the reference's shapes, each moved to its centroid and scaled to unit root mean square radius."""
    centred = shapes - shapes.mean(axis=1, keepdims=True)
    radius = np.sqrt((centred**2).sum(axis=2).mean(axis=1))
    return [_rounded(point) for point in (centred / np.maximum(radius, 1e-9)[:, None, None]).mean(axis=0)]


def tracking_record(pair: Pair) -> dict[str, Any]:
    """Runs without a face of both programs as ``[face, first, last]``, and the frames on which they differ."""
    result: dict[str, Any] = {"lost_reference": [], "lost_other": [], "differing": []}
    for face in np.unique(pair.union[:, 1]):
        rows = pair.union[:, 1] == face
        frames, (a, b) = pair.union[rows, 0], pair.success[rows].T
        result["lost_reference"] += [[int(face), *run] for run in tracking.lost_runs(a, frames)]
        result["lost_other"] += [[int(face), *run] for run in tracking.lost_runs(b, frames)]
        result["differing"] += [[int(face), n] for n in tracking.differing_frames(a, b, frames)]
    return result


def worst_frames(pair: Pair, count: int = WORST_FRAMES) -> list[dict[str, Any]]:
    """The frames with the largest landmark error, both landmark sets with them; largest first."""
    both = pair.landmarks()
    if both is None or not len(both[0]):
        return []
    errors = landmarks.frame_errors(*both)
    return [
        {
            "frame": int(pair.keys[i, 0]),
            "face": int(pair.keys[i, 1]),
            "mean_px": round(float(errors[i]), 4),
            "reference": [_rounded(point) for point in both[0][i]],
            "other": [_rounded(point) for point in both[1][i]],
            "picture": None,
        }
        for i in np.argsort(-errors, kind="stable")[:count]
    ]


def _rounded(values: np.ndarray, places: int = 4) -> list[float]:
    return [round(v, places) for v in np.asarray(values, np.float64).tolist()]


def _bits(values: np.ndarray) -> str:
    return "".join("1" if v > 0.5 else "0" for v in values)
