"""The tables of the page, each a function of one record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reports import view
from reports.page.html import Cell, sortable
from reports.view import number, significant, value

CLIP_COLUMNS = view.HEADLINE
INTENSITY = ("ccc", "icc_a1", "pcc", "mae", "rmse", "bias", "limit_low", "limit_high", "within_10")
PRESENCE = ("agreement", "flips", "kappa", "f1", "mcc", "prevalence_reference", "prevalence_other")
_TITLES = {
    "ccc": ("CCC", "concordance correlation coefficient"),
    "icc_a1": ("ICC(A,1)", "intraclass correlation, absolute agreement"),
    "pcc": ("PCC", "Pearson correlation"),
    "mae": ("MAE", "mean absolute difference, AU intensity"),
    "rmse": ("RMSE", "root mean square difference, AU intensity"),
    "bias": ("bias", "mean difference, AU intensity"),
    "limit_low": ("limit −", "lower 95 % limit of agreement"),
    "limit_high": ("limit +", "upper 95 % limit of agreement"),
    "within_10": ("≤ 0.10", "share of frames within 0.10"),
    "agreement": ("agreement", "share of frames on which both say the same"),
    "flips": ("flips", "frames on which they differ"),
    "kappa": ("κ", "Cohen's kappa"),
    "f1": ("F1", "F1 score"),
    "mcc": ("MCC", "Matthews correlation"),
    "prevalence_reference": ("present, C++", "share of frames, C++ program"),
    "prevalence_other": ("present, here", "share of frames, this run"),
}
_SHARES = ("within_10", "agreement", "prevalence_reference", "prevalence_other")


def headline(record: view.Record, prefix: str) -> str:
    """The ten figures that matter, over all clips."""
    return _totals(record, [n for n in view.HEADLINE if n in record["totals"]], "Over all clips with a face",
                   f"{prefix}-table-headline")  # fmt: skip


def everything(record: view.Record, prefix: str) -> str:
    """All figures over all clips."""
    return _totals(record, list(record["totals"]), "Every figure over all clips with a face", f"{prefix}-table-all")


def _totals(record: view.Record, names: Sequence[str], caption: str, id_: str) -> str:
    heads = [
        ("Figure", None), ("median", "median over clips"), ("noise floor", "median over clips of the reference itself"),
        ("mean", "mean over clips"), ("95 % interval", "bootstrap over clips"), ("worst", None), ("worst clip", None),
        ("n", "clips with a value"),
    ]  # fmt: skip
    rows = []
    for name in names:
        total, (_, text) = record["totals"][name], view.definition(record, name)
        low, high = total["low"], total["high"]
        interval = "–" if low is None else f"{number(record, name, low)} to {number(record, name, high)}"
        rows.append([
            Cell(view.SHORT.get(name, name), name, note=text),
            *(Cell(number(record, name, total[key]), total[key]) for key in ("median", "floor_median", "mean")),
            Cell(interval, low),
            Cell(number(record, name, total["worst"]), total["worst"]),
            Cell(total["worst_clip"] or "–"),
            Cell(str(total["n"]), float(total["n"])),
        ])  # fmt: skip
    return sortable(caption, heads, rows, id_)


def clips(record: view.Record, prefix: str) -> str:
    """One row a clip: headline figures over their noise floors, and what was left out."""
    names = [name for name in CLIP_COLUMNS if any(name in c["figures"] for c in record["clips"])]
    heads = [("Clip", None), ("frames", "with a face in both programs"), ("pixels", "decoded as by the C++ program?")]
    heads += [(view.SHORT[name], view.definition(record, name)[1]) for name in names]
    heads.append(("left out or different", None))
    rows = []
    for clip in record["clips"]:
        if clip["error"]:
            blank = [Cell("–")] * (len(heads) - 2)
            rows.append([Cell(clip["clip"], clip["clip"]), *blank, Cell(f"ERROR: {clip['error']}", mark="t")])
            continue
        used = clip["counts"]["both_succeed"] - clip["counts"]["excluded"]
        row = [Cell(clip["clip"], clip["clip"]), Cell(str(used), float(used)), Cell(clip["pixels"]["verdict"])]
        for name in names:
            figure = clip["figures"].get(name)
            floor = view.floor_value(clip, name)
            note = None if floor is None else f"floor {number(record, name, floor)}"
            amount = value(clip["figures"], name)
            row.append(Cell(number(record, name, amount), amount, figure and figure.get("reason"), note))
        rows.append([*row, Cell(_notes(clip), mark="t")])
    return sortable("Clips, with the noise floor of each figure", heads, rows, f"{prefix}-table-clips")


def _notes(clip: view.Clip) -> str:
    from validation.terminal import notes

    found = notes(clip)
    if clip["speed"] and clip["speed"]["unsteady"]:
        found.append(f"times not steady: {clip['speed']['unsteady']}")
    return "; ".join(found) or "nothing"


def action_units(record: view.Record, prefix: str, kind: str) -> str:
    """Every AU in every clip; ``kind``: "_r" intensity, "_c" presence."""
    metrics = INTENSITY if kind == "_r" else PRESENCE
    lead = metrics[0]
    title = "AU intensity" if kind == "_r" else "AU presence"
    heads = [("Clip", None), ("AU", None), (_TITLES[lead][0], _TITLES[lead][1])]
    heads += [("floor", f"worst {_TITLES[lead][0]} of the reference against itself")]
    heads += [_TITLES[m] for m in metrics[1:]] + [("n", "frames")]
    rows = []
    for clip in view.measured(record):
        for au, found in clip["per_au"].items():
            if not au.endswith(kind) or not found[lead]["n"]:
                continue
            floors = [view.floor_au(clip, source, au, lead) for source in view.floor_sources(clip)]
            floor = min((f for f in floors if f is not None), default=None)
            cells = [_metric(metric, found[metric]) for metric in metrics]
            floor_cell = _metric(lead, {"value": floor, "n": 0})
            n = found[lead]["n"]
            rows.append([Cell(clip["clip"]), Cell(view.action_unit(au)), cells[0], floor_cell, *cells[1:],
                         Cell(str(n), float(n))])  # fmt: skip
    return sortable(f"{title}, every AU in every clip", heads, rows, f"{prefix}-table-au{kind}") if rows else ""


def _metric(metric: str, figure: dict[str, Any]) -> Cell:
    amount = figure["value"]
    if amount is None:
        return Cell("–", title=figure.get("reason"))
    text = f"{100 * amount:.1f} %" if metric in _SHARES else f"{amount:.0f}" if metric == "flips" else f"{amount:.3f}"
    return Cell(text.replace("-", "−"), float(amount))


def gates(record: view.Record, prefix: str) -> str:
    """Every check; those that did not pass first."""
    order = ("ERROR", "FAIL", "INCONCLUSIVE", "PASS")
    heads = [("Check", None), ("verdict", None), ("clip", None), ("value", None), ("bound", None), ("sentence", None)]
    rows = []
    for gate in sorted(record.get("gates", []), key=lambda g: order.index(g["verdict"])):
        name = gate.get("figure") or ""
        rows.append([
            Cell(gate["gate"]),
            Cell(gate["verdict"], str(order.index(gate["verdict"])), mark=f"v {gate['verdict'].lower()}"),
            Cell(gate.get("clip") or "all clips"),
            Cell(number(record, name, gate.get("value")), gate.get("value")),
            Cell(number(record, name, gate.get("bound")), gate.get("bound")),
            Cell(gate["sentence"], mark="t"),
        ])  # fmt: skip
    return sortable("Every check of this run", heads, rows, f"{prefix}-table-gates")


def speed(record: view.Record, prefix: str) -> str:
    """Time of every timed clip, beside the C++ program's."""
    from reports.figures.speed import cpp_entry

    timed = [clip for clip in view.measured(record) if clip["speed"]]
    if not timed:
        return ""
    heads = [
        ("Clip", None), ("frames", None), ("frames/s", "whole clip over wall time"), ("ms a frame", "steady state"),
        ("p50", "ms"), ("p95", "ms"), ("p99", "ms"), ("first frame", "ms, with detection"),
        ("calibrated", "ms a frame over ms of the calibration workload"), ("C++, ms a frame", "on its own machine"),
        ("C++, calibrated", None), ("times", "steady: the calibration workload changed by less than 15 % beside it"),
    ]  # fmt: skip
    rows = []
    for clip in timed:
        found, cpp = clip["speed"], cpp_entry(clip) or {}
        numbers = [found[k] for k in ("fps", "mean_ms", "p50_ms", "p95_ms", "p99_ms", "first_ms", "per_calibration")]
        numbers += [cpp.get("ms_per_frame"), cpp.get("per_calibration")]
        cells = [Cell(significant(v, 3), v) for v in numbers]
        steady = Cell(found["unsteady"] or "steady", mark="t")
        rows.append([Cell(clip["clip"]), Cell(str(found["frames"]), float(found["frames"])), *cells, steady])
    return sortable("Time per frame", heads, rows, f"{prefix}-table-speed")


def equivalence(record: view.Record, prefix: str) -> str:
    """Two one-sided tests."""
    heads = [("Figure", None), ("equivalent", None), ("margin", "±"), ("mean", None), ("90 % interval", None),
             ("p", None), ("n", "clips")]  # fmt: skip
    rows = []
    for test in record.get("equivalence", []):
        name = test["figure"]
        if test.get("p") is None:
            rows.append([Cell(name), Cell("not defined", title=test.get("reason")),
                         Cell(number(record, name, test["margin"]), test["margin"]), *[Cell("–")] * 4])  # fmt: skip
            continue
        rows.append([
            Cell(name), Cell("yes" if test["equivalent"] else "not shown"),
            *(Cell(number(record, name, test[key]), test[key]) for key in ("margin", "mean")),
            Cell(f"{number(record, name, test['low'])} to {number(record, name, test['high'])}", test["low"]),
            Cell(f"{test['p']:.2g}", test["p"]), Cell(str(test["n"]), float(test["n"])),
        ])  # fmt: skip
    caption = "Equivalence: two one-sided tests on per-clip means (TOST)"
    return sortable(caption, heads, rows, f"{prefix}-table-tost") if rows else ""


def sensitivity(record: view.Record, prefix: str) -> str:
    """The smallest defects that the gates can see."""
    rows = []
    for row in record["sensitivity"]["rows"]:
        smallest = row["smallest"]
        text = "not caught" if smallest is None else f"{smallest:g} {row['unit']}"
        key = None if smallest is None else float(smallest)
        rows.append([Cell(row["defect"]), Cell(row["figure"]), Cell(text, key),
                     Cell(significant(row["threshold"]), row["threshold"]),
                     Cell(f"{100 * row['false_alarms']:.1f} %", row["false_alarms"])])  # fmt: skip
    heads = [("Defect", None), ("seen by", "figure"), ("smallest caught", "in 95 % of trials"), ("threshold", None),
             ("false alarms", None)]  # fmt: skip
    return sortable("The smallest defects that the gates can see", heads, rows, f"{prefix}-table-sensitivity")
