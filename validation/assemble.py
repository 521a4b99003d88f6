"""Puts one clip's comparison, and the totals over clips, into the form of the record."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import fmean, median
from typing import Any

from validation.compare import Pair, counts_dict
from validation.errors import Undefined
from validation.figures import Figure, evaluate, worst_index
from validation.floor import Floor, share
from validation.inference import bootstrap, tost
from validation.series import series, tracking_record, worst_frames

EQUIVALENCE_MARGINS = {"intensity.bias": 0.05, "landmarks.drift": 0.05}
"""Margins of the equivalence tests: a mean AU bias of 0.05 (of 5), a drift of 0.05 px in 100 frames."""

NO_PIXELS: dict[str, Any] = {"verdict": "unknown", "frames": 0, "differing": 0, "first": None}


def clip_record(
    clip: str,
    file: str,
    pair: Pair | None,
    floor: Floor | None = None,
    *,
    faces: str = "one",
    cuts: bool = False,
    sha256: str | None = None,
    pixels: dict[str, Any] | None = None,
    speed: dict[str, Any] | None = None,
    error: str | None = None,
) -> dict[str, Any]:
    """The record's entry of one clip; ``pair`` is ``None`` where an ``error`` says why there is none."""
    evaluation = evaluate(pair) if pair else None
    figures = dict(evaluation.figures) if evaluation else {}
    worst = floor.worst if floor else {}
    shares = {name: share(name, figures[name], worst.get(name)) for name in figures}
    figures.update(speed_figures(speed))
    return {
        "clip": clip,
        "file": file,
        "sha256": sha256,
        "faces": faces,
        "cuts": cuts,
        "error": error,
        "pixels": pixels or NO_PIXELS,
        "counts": counts_dict(pair.counts) if pair else None,
        "figures": _json(figures),
        "per_au": {au: _json(metrics) for au, metrics in evaluation.per_au.items()} if evaluation else {},
        "floor": _floor_json(floor),
        "shares": _json(shares),
        "speed": speed,
        "tracking": tracking_record(pair) if pair else None,
        "series": series(pair) if pair else None,
        "worst_frames": worst_frames(pair) if pair else [],
    }


def speed_figures(speed: dict[str, Any] | None) -> dict[str, Figure]:
    """The times of a clip as figures, so that gates and history can name them: speed.fps, speed.<stage>_ms, ...

    ``_per_calibration``: divided by a pass of the calibration workload timed beside the clip, for other machines.
    ``_gain``: how many times the C++ program's time, from its record, is ours; both so divided, ``_gain_ms``: neither.
    ``frame_gain`` leaves the first frame out, during which that program decodes many others; ``clip_gain`` does not.
    """
    if not speed:
        return {}
    n = speed["frames"]
    names = ("fps", "first_ms", "mean_ms", "p50_ms", "p95_ms", "p99_ms", "per_calibration", "unaccounted_share")
    figures = {f"speed.{name}": Figure(speed[name], n) for name in names if speed.get(name) is not None}
    for stage, times in speed["stages"].items():
        figures[f"speed.{stage}_ms"] = Figure(times["mean"], n)
        if speed.get("calibration_ms"):
            figures[f"speed.{stage}_per_calibration"] = Figure(times["mean"] / speed["calibration_ms"], n)
    return {**figures, **_gains(speed)}


def _gains(speed: dict[str, Any]) -> dict[str, Figure]:
    """The C++ program's recorded times over ours, of the whole frame and of the stages that both programs have."""
    mode = "one_core" if speed["threads"] == 1 else "two_cores"
    theirs, n = (speed.get("reference") or {}).get(mode), speed["frames"]
    if not theirs:
        return {}
    gains = {"speed.frame_gain_ms": Figure(theirs["ms_per_frame"] / speed["mean_ms"], n)}
    if speed.get("calibration_ms") and "per_calibration" in theirs:
        gain = theirs["per_calibration"] / speed["per_calibration"]
        gains["speed.frame_gain"] = Figure(gain, n)
        for stage, ms in theirs.get("stages_ms", {}).items():
            if stage in speed["stages"]:
                share, their_share = speed["stages"][stage]["mean"] / speed["mean_ms"], ms / theirs["ms_per_frame"]
                gains[f"speed.{stage}_gain"] = Figure(gain * their_share / share, n)
    if {"frames", "first_frame_ms", "post_ms"} <= theirs.keys():
        whole = theirs["first_frame_ms"] + (theirs["frames"] - 1) * theirs["ms_per_frame"] + theirs["post_ms"]
        ratio = whole / (1e3 * speed["wall_s"])
        gains["speed.clip_gain_ms"] = Figure(ratio, n)
        if speed.get("calibration_ms") and "calibration_ms" in theirs:
            gains["speed.clip_gain"] = Figure(ratio * speed["calibration_ms"] / theirs["calibration_ms"], n)
    return gains


def set_times(entry: dict[str, Any], speed: dict[str, Any] | None) -> None:
    """Give a clip's entry other times."""
    entry["speed"] = speed
    entry["figures"].update(_json(speed_figures(speed)))


def totals(clips: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Per figure over the clips with a face: mean with its interval, median, the same of the floor, the worst clip."""
    chosen = [clip for clip in clips if not clip["error"] and clip["faces"] != "none"]
    names = dict.fromkeys(name for clip in chosen for name in clip["figures"])
    return {name: _total(name, chosen) for name in names}


def _total(name: str, clips: list[dict[str, Any]]) -> dict[str, Any]:
    pairs = [(clip["figures"][name]["value"], clip["clip"]) for clip in clips if name in clip["figures"]]
    defined = [(value, clip) for value, clip in pairs if value is not None]
    values = [value for value, _ in defined]
    floors = _values(clip["floor"]["worst"].get(name) for clip in clips if clip["floor"])
    sources = sorted({source for clip in clips if clip["floor"] for source in clip["floor"]["sources"]})
    low, high = _interval(values)
    farthest = defined[worst_index(name, values)] if defined else (None, None)
    return {
        "n": len(values),
        "mean": fmean(values) if values else None,
        "median": median(values) if values else None,
        "low": low,
        "high": high,
        "floor_mean": fmean(floors) if floors else None,
        "floor_median": median(floors) if floors else None,
        "floor_sources": {source: _source_median(clips, source, name) for source in sources},
        "worst": farthest[0],
        "worst_clip": farthest[1],
    }


def _interval(values: list[float]) -> tuple[float | None, float | None]:
    try:
        interval = bootstrap(values)
    except Undefined:
        return None, None
    return interval.low, interval.high


def _source_median(clips: list[dict[str, Any]], source: str, name: str) -> float | None:
    floors = [clip["floor"]["sources"] for clip in clips if clip["floor"]]
    found = _values(sources[source].get(name) for sources in floors if source in sources)
    return median(found) if found else None


def _values(figures: Iterable[dict[str, Any] | None]) -> list[float]:
    return [figure["value"] for figure in figures if figure is not None and figure["value"] is not None]


def equivalence(clips: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """TOST on per-clip means for ``EQUIVALENCE_MARGINS``, over the clips with one face."""
    chosen = [clip for clip in clips if not clip["error"] and clip["faces"] == "one"]
    found: list[dict[str, Any]] = []
    for name, margin in EQUIVALENCE_MARGINS.items():
        values = _values(clip["figures"].get(name) for clip in chosen)
        try:
            found.append({"figure": name, **tost(values, margin).to_json()})
        except Undefined as reason:
            found.append({"figure": name, "margin": margin, "p": None, "reason": str(reason)})
    return found


def _json(figures: dict[str, Figure]) -> dict[str, Any]:
    return {name: figure.to_json() for name, figure in figures.items()}


def _floor_json(floor: Floor | None) -> dict[str, Any] | None:
    if floor is None:
        return None
    return {
        "of": floor.configuration,
        "worst": _json(floor.worst),
        "sources": {source: _json(evaluation.figures) for source, evaluation in floor.sources.items()},
        "per_au": {
            source: {au: _json(metrics) for au, metrics in evaluation.per_au.items()}
            for source, evaluation in floor.sources.items()
        },
        "series": floor.series,
    }
