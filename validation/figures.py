"""Every figure of a comparison by name, with unit, direction and definition; undefined ones carry a reason.

``evaluate`` is the only place where a figure is computed; terminal table, gates, history and report read its result.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from validation.compare import Pair
from validation.errors import Undefined
from validation.metrics import gaze, intensity, landmarks, pose, presence, tracking


@dataclass(frozen=True)
class Figure:
    """A value over ``n`` items (frames, or AUs where the definition says so), or ``None`` and why."""

    value: float | None
    n: int
    reason: str | None = None

    def to_json(self) -> dict[str, object]:
        """``{"value", "n"}`` and ``"reason"`` where there is no value."""
        return {"value": self.value, "n": self.n, **({"reason": self.reason} if self.value is None else {})}


@dataclass(frozen=True)
class Definition:
    """What a figure is; ``better`` is "lower", "higher" or "zero" (no direction, 0 is perfect) or "none"."""

    unit: str
    better: str
    text: str


_REGION = {
    f"landmarks.{region}_px": Definition("px", "lower", f"mean landmark error of the {region}")
    for region in landmarks.REGIONS
}
_AXES = {f"pose.r{a}_deg": Definition("deg", "lower", f"mean |difference| of pose_R{a}") for a in "xyz"}
DEFINITIONS: dict[str, Definition] = {
    "landmarks.mean_px": Definition("px", "lower", "landmark error, mean over frames and points"),
    "landmarks.p50_px": Definition("px", "lower", "median of a frame's mean landmark error"),
    "landmarks.p95_px": Definition("px", "lower", "95th percentile of a frame's mean landmark error"),
    "landmarks.p99_px": Definition("px", "lower", "99th percentile of a frame's mean landmark error"),
    "landmarks.max_px": Definition("px", "lower", "largest mean landmark error of a frame"),
    "landmarks.max_point_px": Definition("px", "lower", "largest error of a single landmark"),
    "landmarks.nme": Definition("ratio", "lower", "landmark error over the reference's outer eye corner distance"),
    "landmarks.auc_02": Definition("ratio", "higher", "area under the CED of the NME up to 0.02"),
    "landmarks.auc_08": Definition("ratio", "higher", "area under the CED of the NME up to 0.08"),
    "landmarks.fail_02": Definition("ratio", "lower", "share of frames with NME above 0.02"),
    "landmarks.fail_08": Definition("ratio", "lower", "share of frames with NME above 0.08"),
    "landmarks.drift": Definition("px/100 frames", "zero", "slope of a frame's landmark error over time"),
    **_REGION,
    "pose.axis_deg": Definition("deg", "lower", "head pose, mean |difference| over the three Euler angles"),
    "pose.geodesic_deg": Definition("deg", "lower", "head pose, mean angle of the rotation between the two"),
    **_AXES,
    "pose.translation_mm": Definition("mm", "lower", "head position, mean distance"),
    "gaze.angle_deg": Definition("deg", "lower", "gaze_angle_x and _y, mean |difference|"),
    "gaze.vector_deg": Definition("deg", "lower", "mean angle between gaze directions, both eyes"),
    "intensity.ccc": Definition("", "higher", "AU intensity CCC, mean over AUs that vary (reference sd >= 0.05)"),
    "intensity.icc_a1": Definition("", "higher", "AU intensity ICC(A,1), mean over AUs that vary"),
    "intensity.icc_31": Definition("", "higher", "AU intensity ICC(3,1), mean over AUs that vary"),
    "intensity.pcc": Definition("", "higher", "AU intensity Pearson correlation, mean over AUs that vary"),
    "intensity.mae": Definition("AU", "lower", "AU intensity mean |difference|, mean over all AUs"),
    "intensity.rmse": Definition("AU", "lower", "AU intensity root mean square difference, mean over all AUs"),
    "intensity.bias": Definition("AU", "zero", "AU intensity mean difference, mean over all AUs"),
    "intensity.worst_bias": Definition("AU", "lower", "largest |mean difference| of any AU"),
    "intensity.within_05": Definition("ratio", "higher", "share of AU intensities within 0.05"),
    "intensity.within_10": Definition("ratio", "higher", "share of AU intensities within 0.10"),
    "intensity.within_25": Definition("ratio", "higher", "share of AU intensities within 0.25"),
    "presence.agreement": Definition("ratio", "higher", "AU presence agreement, mean over AUs (macro)"),
    "presence.worst_agreement": Definition("ratio", "higher", "AU presence agreement of the worst AU"),
    "presence.flips": Definition("values", "lower", "AU presence values that differ, all AUs and frames"),
    "presence.kappa": Definition("", "higher", "Cohen's kappa, mean over AUs that have one"),
    "presence.f1": Definition("", "higher", "F1 of presence, mean over AUs that have one"),
    "presence.mcc": Definition("", "higher", "Matthews correlation of presence, mean over AUs that have one"),
    "presence.prevalence_gap": Definition("ratio", "lower", "mean over AUs of |difference of prevalence|"),
    "tracking.agreement": Definition("ratio", "higher", "share of all frames on which both have, or both lack, a face"),
    "tracking.differing": Definition("frames", "lower", "frames on which only one program has a face"),
    "tracking.runs_equal": Definition("ratio", "higher", "the reference's lost runs found on the same frames"),
}

PER_AU_INTENSITY: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "ccc": intensity.ccc,
    "icc_a1": intensity.icc_a1,
    "icc_31": intensity.icc_31,
    "pcc": intensity.pcc,
    "mae": intensity.mae,
    "rmse": intensity.rmse,
    "bias": intensity.bias,
    "limit_low": lambda a, b: intensity.limits_of_agreement(a, b)[0],
    "limit_high": lambda a, b: intensity.limits_of_agreement(a, b)[1],
    "within_05": partial(intensity.share_within, tolerance=0.05),
    "within_10": partial(intensity.share_within, tolerance=0.10),
    "within_25": partial(intensity.share_within, tolerance=0.25),
}
PER_AU_PRESENCE: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "agreement": presence.agreement,
    "flips": presence.flips,
    "kappa": presence.kappa,
    "f1": presence.f1,
    "mcc": presence.mcc,
    "prevalence_reference": lambda a, b: presence.prevalence(a),
    "prevalence_other": lambda a, b: presence.prevalence(b),
}
_OVER_VARYING = {"ccc", "icc_a1", "icc_31", "pcc"}
_MEAN_OF_INTENSITY = _OVER_VARYING | {"mae", "rmse", "bias", "within_05", "within_10", "within_25"}
_MEAN_OF_PRESENCE = {"agreement", "kappa", "f1", "mcc"}
_MADE_OF = {
    "intensity.worst_bias": ("bias",),
    "presence.worst_agreement": ("agreement",),
    "presence.prevalence_gap": ("prevalence_reference", "prevalence_other"),
}
"""Metrics of an AU behind a figure that is not the mean over AUs of the metric of its own name."""


@dataclass(frozen=True)
class Evaluation:
    """All figures of one pair: ``figures`` by name, ``per_au[AU][metric]`` (AU01_r, AU01_c, ...)."""

    figures: dict[str, Figure]
    per_au: dict[str, dict[str, Figure]]


def better(name: str) -> str:
    """The direction of a figure (see ``Definition``), those of speed included."""
    if name in DEFINITIONS:
        return DEFINITIONS[name].better
    return "higher" if name == "speed.fps" or name.endswith(("_gain", "_gain_ms")) else "lower"


def worst_index(name: str, values: Sequence[float]) -> int:
    """Index of the worst of some values of a figure: the lowest, the highest, or the farthest from 0."""
    key = {"higher": lambda i: -values[i], "lower": lambda i: values[i]}.get(better(name), lambda i: abs(values[i]))
    return max(range(len(values)), key=key)


def attempt(n: int, function: Callable[..., float], *args: object) -> Figure:
    """The figure that ``function(*args)`` gives, or its reason for having none."""
    try:
        value = float(function(*args))
    except Undefined as reason:
        return Figure(None, n, str(reason))
    if not np.isfinite(value):
        return Figure(None, n, "not a finite number")
    return Figure(value, n)


def evaluate(pair: Pair, only: Collection[str] | None = None) -> Evaluation:
    """The figures of ``DEFINITIONS`` for one pair; ``only``: those of these names, and nothing else is computed."""
    wanted = DEFINITIONS.keys() if only is None else set(only) & DEFINITIONS.keys()
    figures: dict[str, Figure] = {}
    figures.update(_landmark_figures(pair, wanted))
    figures.update(_pose_figures(pair))
    figures.update(_gaze_figures(pair))
    per_au = _per_au(pair, wanted)
    figures.update(_intensity_figures(pair, per_au))
    figures.update(_presence_figures(pair, per_au))
    figures.update(_tracking_figures(pair))
    return Evaluation({name: figures[name] for name in DEFINITIONS if name in wanted}, per_au)


def _absent(group: str, n: int) -> dict[str, Figure]:
    return {
        name: Figure(None, n, f"a file has no {group} columns") for name in DEFINITIONS if name.startswith(f"{group}.")
    }


def _landmark_figures(pair: Pair, wanted: Collection[str]) -> dict[str, Figure]:
    both = pair.landmarks()
    n = int(pair.used.sum())
    if both is None:
        return _absent("landmarks", n)
    functions: dict[str, Callable[..., float]] = {
        "mean_px": landmarks.mean_error,
        "max_px": landmarks.max_error,
        "max_point_px": landmarks.max_point_error,
        "nme": landmarks.nme,
        "drift": lambda a, b: landmarks.drift(landmarks.frame_errors(a, b), pair.keys[:, 0].astype(float)),
    }
    for percent in (50, 95, 99):
        functions[f"p{percent}_px"] = partial(landmarks.error_percentile, percent=percent)
    for region in landmarks.REGIONS:
        functions[f"{region}_px"] = partial(landmarks.region_error, region=region)
    for name, threshold in (("02", 0.02), ("08", 0.08)):
        functions[f"auc_{name}"] = lambda a, b, t=threshold: landmarks.auc(landmarks.normalised_errors(a, b), t)
        functions[f"fail_{name}"] = lambda a, b, t=threshold: landmarks.failure_rate(
            landmarks.normalised_errors(a, b), t
        )
    chosen = {name: function for name, function in functions.items() if f"landmarks.{name}" in wanted}
    return {f"landmarks.{name}": attempt(n, function, *both) for name, function in chosen.items()}


def _pose_figures(pair: Pair) -> dict[str, Figure]:
    n = int(pair.used.sum())
    turns, moves = [f"pose_R{a}" for a in "xyz"], [f"pose_T{a}" for a in "xyz"]
    if not all(table.has(*turns, *moves) for table in (pair.reference, pair.other)):
        return _absent("pose", n)
    rotation, translation = pair.both(turns), pair.both(moves)
    return {
        "pose.axis_deg": attempt(n, pose.mean_axis, *rotation),
        "pose.geodesic_deg": attempt(n, pose.mean_geodesic, *rotation),
        **{f"pose.r{a}_deg": attempt(n, pose.mean_axis, *rotation, i) for i, a in enumerate("xyz")},
        "pose.translation_mm": attempt(n, pose.mean_translation, *translation),
    }


def _gaze_figures(pair: Pair) -> dict[str, Figure]:
    n = int(pair.used.sum())
    angles = ["gaze_angle_x", "gaze_angle_y"]
    eyes = [[f"gaze_{eye}_{axis}" for axis in "xyz"] for eye in "01"]
    if not all(table.has(*angles, *eyes[0], *eyes[1]) for table in (pair.reference, pair.other)):
        return _absent("gaze", n)
    (a0, b0), (a1, b1) = pair.both(eyes[0]), pair.both(eyes[1])
    both_eyes = np.concatenate([a0, a1]), np.concatenate([b0, b1])
    return {
        "gaze.angle_deg": attempt(n, gaze.mean_angle_error, *pair.both(angles)),
        "gaze.vector_deg": attempt(n, gaze.mean_vector_angle, *both_eyes),
    }


def _per_au(pair: Pair, wanted: Collection[str]) -> dict[str, dict[str, Figure]]:
    """Metrics of every AU: all of them, or those that the ``wanted`` figures are made of."""
    n = int(pair.used.sum())
    on_intensity, on_presence = PER_AU_INTENSITY, PER_AU_PRESENCE
    if len(wanted) < len(DEFINITIONS):
        needed = {part for name in wanted for part in _MADE_OF.get(name, (name.partition(".")[2],))}
        on_intensity = {metric: f for metric, f in PER_AU_INTENSITY.items() if metric in needed}
        on_presence = {metric: f for metric, f in PER_AU_PRESENCE.items() if metric in needed}
    result = {}
    for name in pair.shared(r"AU\d+_r"):
        a, b = (side[:, 0] for side in pair.both([name]))
        result[name] = {metric: attempt(n, function, a, b) for metric, function in on_intensity.items()}
        result[name]["varies"] = Figure(float(intensity.varies(a)), n)
    for name in pair.shared(r"AU\d+_c"):
        a, b = (side[:, 0] > 0.5 for side in pair.both([name]))
        result[name] = {metric: attempt(n, function, a, b) for metric, function in on_presence.items()}
    return result


def _intensity_figures(pair: Pair, per_au: dict[str, dict[str, Figure]]) -> dict[str, Figure]:
    aus = [au for au in per_au if au.endswith("_r")]
    if not aus:
        return _absent("intensity", int(pair.used.sum()))
    varying = [au for au in aus if per_au[au]["varies"].value]
    figures = {}
    for metric in _MEAN_OF_INTENSITY & per_au[aus[0]].keys():
        over = varying if metric in _OVER_VARYING else aus
        empty = "no AU varies (reference sd >= 0.05)"
        figures[f"intensity.{metric}"] = _mean([per_au[au][metric] for au in over], empty)
    if "bias" in per_au[aus[0]]:
        sizes = [Figure(b.value and abs(b.value), b.n, b.reason) for b in (per_au[au]["bias"] for au in aus)]
        figures["intensity.worst_bias"] = _extreme(sizes, max)
    return figures


def _presence_figures(pair: Pair, per_au: dict[str, dict[str, Figure]]) -> dict[str, Figure]:
    aus = [au for au in per_au if au.endswith("_c")]
    if not aus:
        return _absent("presence", int(pair.used.sum()))
    metrics = per_au[aus[0]].keys()
    found = {
        f"presence.{metric}": _mean([per_au[au][metric] for au in aus], "no AU has one")
        for metric in _MEAN_OF_PRESENCE & metrics
    }
    if "agreement" in metrics:
        found["presence.worst_agreement"] = _extreme([per_au[au]["agreement"] for au in aus], min)
    if "flips" in metrics:
        flips = [per_au[au]["flips"] for au in aus]
        total = sum(f.value for f in flips if f.value is not None)
        found["presence.flips"] = Figure(total, len(aus)) if flips[0].value is not None else flips[0]
    if metrics >= set(_MADE_OF["presence.prevalence_gap"]):
        gaps = []
        for au in aus:
            a, b = per_au[au]["prevalence_reference"], per_au[au]["prevalence_other"]
            gap = None if a.value is None or b.value is None else abs(a.value - b.value)
            gaps.append(Figure(gap, a.n, a.reason))
        found["presence.prevalence_gap"] = _mean(gaps, "no AU has one")
    return found


def _tracking_figures(pair: Pair) -> dict[str, Figure]:
    a, b = pair.success.T
    n = len(a)
    ours, theirs = [], []
    for face in np.unique(pair.union[:, 1]):
        rows = pair.union[:, 1] == face
        frames = pair.union[rows, 0]
        theirs += [(int(face), *run) for run in tracking.lost_runs(a[rows], frames)]
        ours += [(int(face), *run) for run in tracking.lost_runs(b[rows], frames)]
    equal = tracking.equal_runs(theirs, ours)
    runs = Figure(equal / len(theirs), len(theirs)) if theirs else Figure(None, 0, "the reference never loses the face")
    return {
        "tracking.agreement": attempt(n, tracking.success_agreement, a, b),
        "tracking.differing": attempt(n, lambda: int((a != b).sum())),
        "tracking.runs_equal": runs,
    }


def _mean(figures: list[Figure], empty: str) -> Figure:
    """Mean of those that have a value; ``n`` is their number."""
    values = [f.value for f in figures if f.value is not None]
    if not values:
        reason = next((f.reason for f in figures if f.reason), empty)
        return Figure(None, 0, reason)
    return Figure(float(np.mean(values)), len(values))


def _extreme(figures: list[Figure], choose: Callable[[list[float]], float]) -> Figure:
    values = [f.value for f in figures if f.value is not None]
    return Figure(choose(values), len(values)) if values else _mean(figures, "no AU has one")
