"""Tables for the terminal: pure functions of a record."""

from __future__ import annotations

from typing import Any

COLUMNS: list[tuple[str, str, str, float]] = [
    ("px", "landmarks.mean_px", "{:.3f}", 1),
    ("p95", "landmarks.p95_px", "{:.3f}", 1),
    ("NME %", "landmarks.nme", "{:.3f}", 100),
    ("pose", "pose.axis_deg", "{:.3f}", 1),
    ("gaze", "gaze.angle_deg", "{:.3f}", 1),
    ("CCC", "intensity.ccc", "{:.4f}", 1),
    ("MAE", "intensity.mae", "{:.4f}", 1),
    ("AU_c %", "presence.agreement", "{:.2f}", 100),
    ("succ %", "tracking.agreement", "{:.2f}", 100),
]
LEGEND = (
    "px, p95: landmark error, mean and 95th percentile of a frame's mean; NME: over the outer eye corner distance; "
    "pose, gaze: mean degrees; CCC, MAE: AU intensity; AU_c: presence agreement; succ: same frames with a face; "
    "second line: the reference against itself, the worse of its repetitions"
)


def clip_header(timed: bool) -> str:
    """Head of the table."""
    head = f"{'clip':<38}{'frames':>7}" + "".join(f"{title:>9}" for title, *_ in COLUMNS)
    return head + (f"{'FPS':>8}  ms a frame by stage" if timed else "")


def clip_rows(clip: dict[str, Any]) -> list[str]:
    """One clip: its figures, the floor below them, and what was left out."""
    if clip["error"]:
        return [f"{clip['clip']:<38}  ERROR: {clip['error']}"]
    used = clip["counts"]["both_succeed"] - clip["counts"]["excluded"]
    row = f"{clip['clip'][:37]:<38}{used:>7}" + _cells(clip["figures"])
    speed = clip["speed"]
    if speed:
        outer = {stage: times for stage, times in speed["stages"].items() if "." not in stage}
        row += f"{speed['fps']:>8.1f}  " + " ".join(f"{stage} {times['mean']:.2f}" for stage, times in outer.items())
    lines = [row]
    if clip["floor"]:
        lines.append(f"{'    the reference against itself':<38}{'':>7}" + _cells(clip["floor"]["worst"]))
    lines += [f"    {note}" for note in notes(clip)]
    return lines


def notes(clip: dict[str, Any]) -> list[str]:
    """Everything about a clip that its figures alone would hide."""
    counts, pixels, found = clip["counts"], clip["pixels"], []
    texts = {
        "missing": "{} rows missing",
        "extra": "{} rows too many",
        "lost_only_in_other": "face lost here but not in the reference in {} frames",
        "lost_only_in_reference": "face found here but not in the reference in {} frames",
        "both_fail": "no face in either in {} frames",
        "excluded": "{} frames left out, as a value is not a number",
        "truncated_lines": "{} cut-off last line left out",
    }
    parts = [text.format(counts[name]) for name, text in texts.items() if counts[name]]
    if parts:
        found.append("; ".join(parts))
    if counts["faces"] > 1:
        found.append(f"{counts['faces']} faces, joined by face_id")
    if pixels["verdict"] == "differ":
        found.append(
            f"INCONCLUSIVE: {pixels['differing']} of {pixels['frames']} decoded frames are not the reference's pixels"
            f" (first: {pixels['first']})"
        )
    return found


def _cells(figures: dict[str, Any]) -> str:
    cells = []
    for _, name, form, factor in COLUMNS:
        figure = figures.get(name)
        value = figure["value"] if figure else None
        cells.append(f"{'-' if value is None else form.format(value * factor):>9}")
    return "".join(cells)


def total_rows(record: dict[str, Any]) -> list[str]:
    """The totals over the clips with a face."""
    totals = record["totals"]
    rows: list[str] = []
    if not totals:
        return rows
    n = max(total["n"] for total in totals.values())
    for label, key in (("median", "median"), ("mean", "mean"), ("  from (95 %)", "low"), ("  to", "high")):
        title = f"{label} of {n} clips" if key in ("median", "mean") else label
        rows.append(f"{title:<45}" + _total_cells(totals, key))
    sources = next(iter(totals.values()))["floor_sources"]
    for source in sources:
        cells = {name: {"value": total["floor_sources"].get(source)} for name, total in totals.items()}
        rows.append(f"{f'median, reference against {source}':<45}" + _cells(cells))
    return [*rows, *gain_rows(record)]


def gain_rows(record: dict[str, Any]) -> list[str]:
    """How many times as fast as the C++ program's record, where there is one: the frame, its stages."""
    totals = record["totals"]
    frame = totals.get("speed.frame_gain")
    if not frame:
        return []
    with_face = [clip["figures"] for clip in record["clips"] if not clip["error"] and clip["faces"] != "none"]
    values = [figures["speed.frame_gain"]["value"] for figures in with_face if "speed.frame_gain" in figures]
    stages = ", ".join(
        f"{name.removeprefix('speed.').removesuffix('_gain')} {total['median']:.2f}"
        for name, total in totals.items()
        if name.endswith("_gain") and name not in ("speed.frame_gain", "speed.clip_gain")
    )
    whole = totals.get("speed.clip_gain")
    clip = f"; whole clips, first frame and end included: {whole['median']:.2f}" if whole else ""
    return [
        f"C++ program's time / ours on as many cores, by the calibration workload: median "
        f"{frame['median']:.2f} ({min(values):.2f} to {max(values):.2f}) over {frame['n']} clips; stages: {stages}; "
        f"in ms as recorded: {totals['speed.frame_gain_ms']['median']:.2f}{clip}"
    ]


def _total_cells(totals: dict[str, Any], key: str) -> str:
    return _cells({name: {"value": total[key]} for name, total in totals.items()})


def verdict_rows(record: dict[str, Any]) -> list[str]:
    """Checks that did not pass, then the verdict."""
    wanted = [r for r in record.get("gates", []) if r["verdict"] != "PASS"]
    rows = [f"{result['verdict']:<13}{result['gate']}: {result['sentence']}" for result in wanted]
    return [*rows, f"{record['verdict']['verdict']}: {record['verdict']['sentence']}"]


def detail_rows(clip: dict[str, Any]) -> list[str]:
    """Every figure of one clip beside its floor, and every AU: for `compare`."""
    rows = [f"{'figure':<26}{'value':>12}{'floor':>12}{'n':>8}"]
    for name, figure in clip["figures"].items():
        floor = clip["floor"]["worst"].get(name) if clip["floor"] else None
        value = f"{figure['value']:.5g}" if figure["value"] is not None else "-"
        beside = f"{floor['value']:.5g}" if floor and floor["value"] is not None else "-"
        reason = f"  {figure['reason']}" if figure["value"] is None else ""
        rows.append(f"{name:<26}{value:>12}{beside:>12}{figure['n']:>8}{reason}")
    for kind, names in (("_r", INTENSITY_COLUMNS), ("_c", PRESENCE_COLUMNS)):
        aus = {au: metrics for au, metrics in clip["per_au"].items() if au.endswith(kind)}
        if aus:
            rows += ["", f"{'AU':<8}" + "".join(f"{name[:9]:>10}" for name in names)]
        for au, metrics in aus.items():
            rows.append(f"{au:<8}" + "".join(f"{_value(metrics[name]):>10}" for name in names))
    return rows


INTENSITY_COLUMNS = ("ccc", "icc_a1", "icc_31", "pcc", "mae", "rmse", "bias", "limit_low", "limit_high", "within_10")
PRESENCE_COLUMNS = ("agreement", "flips", "kappa", "f1", "mcc", "prevalence_reference", "prevalence_other")


def _value(figure: dict[str, Any]) -> str:
    return "-" if figure["value"] is None else f"{figure['value']:.4g}"
