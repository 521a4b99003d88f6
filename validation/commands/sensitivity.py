"""``python -m validation sensitivity``: injects known defects into recorded runs and says which are caught."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from validation import assemble, clips, environment, goldens, history, record, sensitivity
from validation.compare import join
from validation.defects import DEFECTS, Defect
from validation.errors import HarnessError, Undefined
from validation.files import GOLDEN, read_toml
from validation.floor import floor
from validation.gate import judge, read_gates
from validation.reference import Table, read_csv
from validation.verdict import FAIL, PASS, Result, overall

SHOWN = 0.5
"""Rows that reach this power at some size are shown."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "--run", type=Path, metavar="DIR",
        help="CSVs of pyfaceau, as `run --keep DIR` leaves them (default: the reference's repetition stands in)",
    )  # fmt: skip
    parser.add_argument("--speed", type=Path, metavar="RECORD", help="record of `speed`, for slowdowns")
    parser.add_argument("--clips", default="*", metavar="GLOB")
    parser.add_argument("--config", default="clnf")
    parser.add_argument("--models", type=Path)
    parser.add_argument("--videos", type=Path)
    parser.add_argument("--no-replay", action="store_true", help="leave out the defects that need weights and clips")
    parser.add_argument("--golden", type=Path, default=GOLDEN, help=argparse.SUPPRESS)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--markdown", type=Path, help="write the tables for the documentation")


class _Material:
    """Tables of every clip with one face: reference, repetitions, our run."""

    def __init__(self, store: goldens.Store, arguments: argparse.Namespace) -> None:
        self.store = store
        self.goldens = [g for g in store.find(arguments.config, arguments.clips) if store.clips[g.clip].faces == "one"]
        self.reference = {g.clip: store.table(g) for g in self.goldens}
        self.repetitions = {
            g.clip: {name: store.table(other) for name, other in store.repetitions(g).items()} for g in self.goldens
        }
        self.floors = {clip: floor(self.reference[clip], tables) for clip, tables in self.repetitions.items()}
        names = sorted({name for tables in self.repetitions.values() for name in tables})
        if not names:
            raise HarnessError(f"configuration {arguments.config!r} has no repetitions, so its noise is unknown")
        self.stand_in = None if arguments.run else names[0]
        self.ours = {clip: self._ours(arguments.run, clip) for clip in self.reference}
        others = [name for name in names if name != self.stand_in]
        self.plain: list[sensitivity.Values] = [self.values(self.ours)]
        self.plain += [self.values({c: tables[n] for c, tables in self.repetitions.items()}) for n in others]
        if len(self.plain) < 2:
            raise HarnessError("two runs without a defect are needed; give --run DIR")

    def _ours(self, folder: Path | None, clip: str) -> Table:
        return read_csv(folder / f"{clip}.csv") if folder else self.repetitions[clip][str(self.stand_in)]

    def values(self, tables: dict[str, Table]) -> sensitivity.Values:
        """Figures of these tables against the reference."""
        return {clip: sensitivity.figures_of(self.reference[clip], table) for clip, table in tables.items()}

    def judged(self, tables: dict[str, Table], gates: list[Any], configuration: str) -> list[Result]:
        """What the gates say of these tables."""
        entries = [
            assemble.clip_record(clip, f"{clip}.csv", join(self.reference[clip], table), self.floors[clip])
            for clip, table in tables.items()
        ]  # fmt: skip
        return judge({"clips": entries, "configuration": configuration}, gates)


def execute(arguments: argparse.Namespace) -> int:
    """Inject, tabulate, judge; PASS if every defect that matters is caught and the plain run is not."""
    store = goldens.load(arguments.golden)
    gates = [g for g in read_gates(store.folder / "gates.toml") if not g.figure.startswith("speed.")]
    material = _Material(store, arguments)
    rows: list[sensitivity.Row] = []
    checks = [_check_plain(material.judged(material.ours, gates, arguments.config))]
    injected = {d.name: _inject(d, material) for d in DEFECTS if d.inject}
    left_out: dict[str, str] = {}
    if arguments.no_replay:
        left_out = {d.name: "left out on request" for d in DEFECTS if not d.inject}
    else:
        injected.update(_replay(store, arguments, material))
    for defect in DEFECTS:
        if defect.name in injected:
            tables = injected[defect.name]
            by_size = {size: material.values(found) for size, found in tables.items()}
            rows += sensitivity.power_table(defect.name, defect.unit, material.plain, by_size)
            floors = {clip: found for clip, found in material.floors.items() if found is not None}
            rows.append(sensitivity.tripwire_row(defect.name, defect.unit, material.plain[0], by_size, floors))
            if defect.matters is not None:
                results = material.judged(tables[defect.matters], gates, arguments.config)
                checks.append(_check_caught(defect, results))
    if arguments.speed:
        rows += _slowdowns(arguments.speed, store, checks)
    else:
        left_out["slowdown"] = "no record of `speed` was given"
    result = record.new(
        "sensitivity", environment.fingerprint(), configuration=arguments.config,
        sensitivity={
            "rows": [row.to_json() for row in rows], "left_out": left_out, "clips": sorted(material.reference),
            "run": "pyfaceau" if arguments.run else f"the reference's repetition {material.stand_in!r}",
            "power": sensitivity.POWER, "false_alarms": sensitivity.FALSE_ALARMS,
        },
        gates=[check.to_json() for check in checks], verdict=overall(checks),
    )  # fmt: skip
    lines = markdown(result)
    print("\n".join(lines))
    path = record.save(result, arguments.output)
    history.append(result, path)
    if arguments.markdown:
        arguments.markdown.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return int(result["verdict"]["exit_code"])


def _inject(defect: Defect, material: _Material) -> dict[float, dict[str, Table]]:
    assert defect.inject is not None
    return {size: {c: defect.inject(t, size) for c, t in material.ours.items()} for size in defect.sizes}


def _replay(
    store: goldens.Store, arguments: argparse.Namespace, material: _Material
) -> dict[str, dict[float, dict[str, Table]]]:
    """Tables with the defects of the analysis stage, by defect, size and clip."""
    from validation import replay

    settings, models = store.settings(arguments.config, arguments.models)
    chosen = [d for d in DEFECTS if not d.inject]
    found: dict[str, dict[float, dict[str, Table]]] = {d.name: {size: {} for size in d.sizes} for d in chosen}
    for number, (clip, table) in enumerate(material.ours.items()):
        video = clips.locate(store, store.clips[clip], clips.folders(arguments.videos))
        if video is None:
            raise HarnessError(f"{store.clips[clip].file} is in no folder of clips; fetch it, or give --no-replay")
        predictors, recording = replay.record_clip(settings, models, video)
        for defect in chosen:
            for size in defect.sizes:
                found[defect.name][size][clip] = replay.replayed(
                    table, predictors, recording, defect.name, size, seed=number
                )
    return found


def _check_plain(results: list[Result]) -> Result:
    state = overall(results)
    if state["verdict"] == FAIL:
        return Result("no defect", FAIL, f"the run without a defect fails already: {state['sentence']}")
    return Result("no defect", PASS, f"without a defect: {state['verdict']}, {state['sentence']}")


def _check_caught(defect: Defect, results: list[Result]) -> Result:
    what = f"{defect.name} of {defect.matters:g} {defect.unit}"
    failing = [r for r in results if r.verdict == FAIL]
    if not failing:
        return Result(what, FAIL, f"{what} is not seen by any gate")
    clips_hit = {r.clip for r in failing if r.clip}
    return Result(what, PASS, f"{what} fails {len(failing)} checks on {len(clips_hit)} clips: {failing[0].sentence}")


def _slowdowns(path: Path, store: goldens.Store, checks: list[Result]) -> list[sensitivity.Row]:
    data = record.load(path)
    if data["kind"] != "speed":
        raise HarnessError(f"{path}: not a record of `python -m validation speed`")
    budget = read_toml(store.folder / "gates.toml", "the gates")["speed"]["stage_slower_at_most"]
    figures = data["speed"]["tree"]["figures"]
    names = [n for n in figures[0] if n.endswith("_ms") and ".p" not in n and n not in ("mean_ms", "first_ms")]
    least = read_toml(store.folder / "gates.toml", "the gates")["speed"]["stage_at_least_ms"]
    names = [n for n in names if min(f[n] for f in figures) >= least]
    try:
        rows = sensitivity.slowdown_rows(figures, names, max(7, len(figures)), budget)
    except Undefined as reason:
        raise HarnessError(f"{path}: {reason}; make a record with more --rounds") from reason
    for row in rows:
        power = row.powers[f"{100 * sensitivity.SLOWDOWN_MATTERS:g}"]
        what = f"{row.figure} {100 * sensitivity.SLOWDOWN_MATTERS:g} % slower"
        verdict = PASS if power >= sensitivity.POWER and row.false_alarms <= sensitivity.FALSE_ALARMS else FAIL
        text = f"{what}: caught in {100 * power:.0f} % of runs, {100 * row.false_alarms:.1f} % false alarms"
        checks.append(Result(what, verdict, text))
    return rows


def markdown(result: dict[str, Any]) -> list[str]:
    """Tables for the documentation: the smallest defect per figure, then what the gates said."""
    data = result["sensitivity"]
    lines = [
        f"Defects injected into {data['run']} on {len(data['clips'])} clips; smallest size caught in at least "
        f"{100 * data['power']:.0f} % of runs with at most {100 * data['false_alarms']:.0f} % false alarms.",
        "",
        f"Figures that see no size in {100 * SHOWN:.0f} % of runs are in the record only. The threshold is how much",
        "worse the median over clips may become; the tripwires' row holds the share of clips that trip.",
        "",
        "| defect | figure | threshold | smallest size caught | caught at each size |",
        "|---|---|---:|---:|---|",
    ]
    for row in data["rows"]:
        if max(row["powers"].values()) < SHOWN:
            continue
        smallest = "-" if row["smallest"] is None else f"{row['smallest']:g} {row['unit']}"
        powers = ", ".join(f"{size}: {100 * power:.0f} %" for size, power in row["powers"].items())
        lines.append(f"| {row['defect']} | {row['figure']} | {row['threshold']:.3g} | {smallest} | {powers} |")
    lines += [f"| {name} | - | - | not injected: {reason} | |" for name, reason in data["left_out"].items()]
    lines += ["", "| check | verdict | |", "|---|---|---|"]
    lines += [f"| {check['gate']} | {check['verdict']} | {check['sentence']} |" for check in result["gates"]]
    verdict = result["verdict"]
    return [*lines, "", f"{verdict['verdict']}: {verdict['sentence']}"]
