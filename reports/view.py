"""What tables and figures ask a record: which clips to show, a figure's value beside its floor, and values as text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Record = dict[str, Any]
Clip = dict[str, Any]

HEADLINE = (
    "landmarks.mean_px",
    "landmarks.p95_px",
    "landmarks.nme",
    "pose.axis_deg",
    "gaze.angle_deg",
    "intensity.ccc",
    "intensity.mae",
    "presence.agreement",
    "tracking.agreement",
    "speed.fps",
)
SHORT = {
    "landmarks.mean_px": "Landmark error",
    "landmarks.p95_px": "Landmark error, 95th percentile",
    "landmarks.nme": "Normalised landmark error",
    "pose.axis_deg": "Head pose error",
    "gaze.angle_deg": "Gaze error",
    "intensity.ccc": "AU intensity CCC",
    "intensity.mae": "AU intensity error",
    "presence.agreement": "AU presence agreement",
    "tracking.agreement": "Tracking agreement",
    "speed.fps": "Speed",
}
SOURCE_NAMES = {"rebuild": "another build", "other-cpu": "another computer"}
"""The repetitions of the reference in words."""


class NotDrawn(Exception):
    """A figure that this record cannot fill; the message says why, and the page repeats it."""


def title(record: Record) -> str:
    """A name for the record among others: configuration and start."""
    kind = "" if record["kind"] == "run" else f"{record['kind']} "
    return f"{kind}{record.get('configuration', '')}".strip() or record["kind"]


def measured(record: Record) -> list[Clip]:
    """The clips that have figures."""
    return [clip for clip in record.get("clips", []) if not clip["error"]]


def with_series(record: Record, name: str) -> list[Clip]:
    """The measured clips whose series hold ``name`` for at least one frame."""
    return [
        clip for clip in measured(record) if clip["series"] and clip["series"]["frame"] and clip["series"].get(name)
    ]


def value(figures: dict[str, Any] | None, name: str) -> float | None:
    """A figure's value; ``None`` where there is none."""
    figure = (figures or {}).get(name)
    return None if figure is None else figure["value"]


def floor_value(clip: Clip, name: str) -> float | None:
    """The clip's noise floor of a figure (the worse of the reference's repetitions)."""
    return value(clip["floor"]["worst"], name) if clip["floor"] else None


def floor_sources(clip: Clip) -> list[str]:
    """The repetitions of the reference whose CSVs the clip's floor is made of; of a summary of one, none."""
    if not clip["floor"]:
        return []
    return [source for source in clip["floor"]["sources"] if clip["floor"].get("per_au", {}).get(source, True)]


def source_name(source: str) -> str:
    """A repetition in words."""
    return SOURCE_NAMES.get(source, source)


def floor_au(clip: Clip, source: str, au: str, metric: str) -> float | None:
    """One AU's metric of one repetition of the reference against the reference."""
    per_au = (clip["floor"] or {}).get("per_au", {})
    return value(per_au.get(source, {}).get(au), metric)


def floor_series(clip: Clip, name: str) -> dict[str, Any]:
    """By repetition, a series of the floor; empty for records that do not keep them."""
    kept = (clip["floor"] or {}).get("series", {})
    return {source: series[name] for source, series in kept.items() if series.get(name)}


def units(record: Record, kind: str) -> list[str]:
    """The AUs ("AU01_r", ...; ``kind`` "_r" or "_c") of all measured clips, sorted."""
    return sorted({au for clip in measured(record) for au in clip["per_au"] if au.endswith(kind)})


def frames(clips: Iterable[Clip]) -> int:
    """Frames used, over the clips."""
    return sum(len(clip["series"]["frame"]) for clip in clips)


def shown_clips(record: Record, limit: int = 2) -> list[Clip]:
    """Clips worth a figure of their own: the typical one, then the worst in intensity, presence and landmarks."""
    clips = with_series(record, "intensity") or with_series(record, "landmark_px")
    if not clips:
        return []
    ranked = sorted(clips, key=lambda c: (_or(value(c["figures"], "intensity.ccc"), 2.0), c["clip"]))
    by_presence = min(clips, key=lambda c: _or(value(c["figures"], "presence.agreement"), 2.0))
    by_landmarks = max(clips, key=lambda c: _or(value(c["figures"], "landmarks.mean_px"), -1.0))
    chosen = [ranked[len(ranked) // 2], ranked[0], by_presence, by_landmarks]
    return list({clip["clip"]: clip for clip in chosen}.values())[:limit]


def _or(number: float | None, default: float) -> float:
    return default if number is None else number


def definition(record: Record, name: str) -> tuple[str, str]:
    """Unit and explanation of a figure."""
    found = record["definitions"].get(name)
    if found:
        return found["unit"], found["text"]
    if name == "speed.fps":
        return "frames/s", "frames of the clip over the wall time, first frame and output included"
    if name == "speed.per_calibration":
        return "", "ms per frame over the ms of the calibration workload timed beside it"
    if name.endswith("_per_calibration"):
        return "", f"the same of {name[len('speed.') :].removesuffix('_per_calibration')} alone"
    if name.endswith("_gain_ms"):
        return "", "ms per frame recorded for the C++ program over ours, whatever the machines"
    if name.endswith("_gain"):
        return "", "the C++ program's time over ours, each in passes of the calibration workload"
    if name.startswith("speed."):
        return "ms", f"{name[len('speed.') :].removesuffix('_ms')}, ms per frame"
    return "", name


def number(record: Record, name: str, amount: float | None) -> str:
    """A figure's value as text, in its unit; ratios in per cent."""
    if amount is None:
        return "–"
    unit, _ = definition(record, name)
    if unit == "ratio":
        return f"{100 * amount:.3f} %" if abs(amount) < 0.01 else f"{100 * amount:.2f} %"
    return significant(amount) + (f" {unit}" if unit else "")


def significant(amount: float | None, digits: int = 4) -> str:
    """Plain text with so many significant digits, never in powers of ten for everyday sizes."""
    if amount is None:
        return "–"
    text = f"{amount:.{digits}g}"
    if "e" in text and 1e-6 < abs(amount) < 1e9:
        text = f"{amount:.{0 if abs(amount) >= 1 else 6}f}"
    return text.replace("-", "−")


def action_unit(au: str) -> str:
    """ "AU01_r" as "AU01"."""
    return au.partition("_")[0]
