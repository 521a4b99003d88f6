"""``python -m validation sensitivity``: injects known defects into recorded runs and says which are caught."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from validation import clips, environment, goldens, history, record, sensitivity
from validation.baseline import read_tripwires
from validation.defects import DEFECTS, Defect
from validation.errors import HarnessError, Undefined
from validation.files import GOLDEN, read_toml, write_atomically
from validation.gate import GATES, judge, read_gates
from validation.injection import Injected, Run, inject, stand_in
from validation.speedtest import judged
from validation.verdict import FAIL, PASS, Result, overall

if TYPE_CHECKING:
    from validation.replay import Recorder

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


def execute(arguments: argparse.Namespace) -> int:
    """Inject, tabulate, judge; PASS if every defect that matters is caught and the plain run is not."""
    started = time.perf_counter()
    store = goldens.load(arguments.golden)
    judges = _Judges(store.folder / GATES, arguments.config)
    chosen = [g for g in store.find(arguments.config, arguments.clips) if store.clips[g.clip].faces == "one"]
    found = inject(
        store, chosen, DEFECTS, judges.figures, arguments.run,
        None if arguments.no_replay else _recorder(store, arguments),
        lambda line: print(line, file=sys.stderr, flush=True),
    )  # fmt: skip
    plain = [_values(run) for run in found.plain]
    plain_results = judges.gates_say(found, found.plain[0])
    failing_anyway = {(r.gate, r.clip) for r in plain_results if r.verdict == FAIL}
    checks = [_check_plain(plain_results)]
    rows: list[sensitivity.Row] = []
    for defect in (d for d in DEFECTS if d.name in found.defects):
        by_size = {size: _values(run) for size, run in found.defects[defect.name].items()}
        rows += sensitivity.power_table(defect.name, defect.unit, plain, by_size)
        if judges.wires:
            rows.append(
                sensitivity.tripwire_row(defect.name, defect.unit, plain[0], by_size, found.floors, judges.wires)
            )
        if defect.matters is not None:
            results = judges.gates_say(found, found.defects[defect.name][defect.matters])
            checks.append(_check_caught(defect, [r for r in results if (r.gate, r.clip) not in failing_anyway]))
    left_out = {d.name: "left out on request" for d in DEFECTS if d.name not in found.defects}
    if arguments.speed:
        rows += _slowdowns(arguments.speed, store, checks)
    else:
        left_out["slowdown"] = "no record of `speed` was given"
    result = record.new(
        "sensitivity", environment.fingerprint(), configuration=arguments.config,
        sensitivity={
            "rows": [row.to_json() for row in rows], "left_out": left_out, "clips": sorted(found.plain[0]),
            "run": "pyfaceau" if arguments.run else f"the reference's repetition {stand_in(store, chosen)[0]!r}",
            "power": sensitivity.POWER, "false_alarms": sensitivity.FALSE_ALARMS,
        },
        gates=[check.to_json() for check in checks], verdict=overall(checks),
        seconds=time.perf_counter() - started,
    )  # fmt: skip
    lines = markdown(result)
    print("\n".join(lines))
    path = record.save(result, arguments.output)
    history.append(result, path)
    if arguments.markdown:
        head = ["# What the gates can see", "", f"`python -m validation {' '.join(result['command'][1:])}`", ""]
        write_atomically(arguments.markdown, ("\n".join([*head, *lines]) + "\n").encode())
    return int(result["verdict"]["exit_code"])


class _Judges:
    """The gates and tripwires of the goldens; ``figures``: what they and the table are about."""

    def __init__(self, path: Path, configuration: str) -> None:
        self._gates = [g for g in read_gates(path) if not g.figure.startswith("speed.")]
        self._configuration = configuration
        self.wires = read_tripwires(path)
        self.figures = {*sensitivity.FIGURES, *(gate.figure for gate in self._gates)}
        self.figures |= set(self.wires.tolerance) if self.wires else set()

    def gates_say(self, found: Injected, run: Run) -> list[Result]:
        """The gates' results for this run."""
        return judge({"clips": found.entries(run), "configuration": self._configuration}, self._gates)


def _recorder(store: goldens.Store, arguments: argparse.Namespace) -> Recorder:
    from validation.replay import Recorder

    places = clips.folders(arguments.videos)

    def located(clip: goldens.Clip) -> Path:
        video = clips.locate(store, clip, places)
        if video is None:
            raise HarnessError(f"{clip.file} is in no folder of clips; fetch it, or give --no-replay")
        return video

    return Recorder(*store.settings(arguments.config, arguments.models), located)


def _values(run: Run) -> sensitivity.Values:
    return {clip: measured.values for clip, measured in run.items()}


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
    budgets = read_toml(store.folder / GATES, "the gates")["speed"]
    budget, least = budgets["stage_slower_at_most"], budgets["stage_at_least_ms"]
    if data["speed"].get("slowed"):
        raise HarnessError(f"{path}: timed with --slow; make a record with --base HEAD, of two equal trees")
    if not data["speed"]["base"]:
        raise HarnessError(f"{path}: timed without a base; make a record with --base HEAD, of two equal trees")
    base, figures = data["speed"]["base"]["figures"], data["speed"]["tree"]["figures"]
    names = [n for n in judged(figures[0]) if n != "mean_ms" and min(f[n] for f in figures) >= least]
    try:
        rows = sensitivity.slowdown_rows(base, figures, names, max(7, len(figures)), budget)
    except Undefined as reason:
        raise HarnessError(f"{path}: {reason}; make a record with more --rounds") from reason
    for row in rows:
        if row.figure in ("speed p50_ms", "speed p95_ms", "speed p99_ms"):
            continue  # of the frame, not of a stage
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
