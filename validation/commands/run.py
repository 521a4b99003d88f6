"""``python -m validation run``: pyfaceau against the goldens."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from validation import environment, goldens, history, record, terminal
from validation import run as runs
from validation.baseline import BASELINE, read_tripwires, tripwires
from validation.gate import GATES, judge, read_gates
from validation.options import add_places
from validation.outputs import write_outputs
from validation.verdict import PASS, Result, overall


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("--clips", default="*", metavar="GLOB", help="names of clips, with commas (default: all)")
    parser.add_argument("--config", default="clnf", help="configuration of golden/manifest.json (default: clnf)")
    add_places(parser)
    parser.add_argument("--no-calibration", action="store_true", help="do not time the fixed workload beside each clip")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep pyfaceau's CSVs here")
    parser.add_argument("--pictures", action="store_true", help="keep pictures of the worst frames beside the record")
    parser.add_argument("-o", "--output", type=Path, help="the record (default: runs/<id>.json)")
    parser.add_argument("--junit", type=Path, help="write the checks as JUnit XML")
    parser.add_argument("--markdown", type=Path, help="write a summary for a pull request")
    parser.add_argument("--annotations", action="store_true", help="print GitHub Actions annotations")


def execute(arguments: argparse.Namespace) -> int:
    """Run, print row by row, judge, write the record; the exit code is the verdict's."""
    store = goldens.load(arguments.golden)
    gates, tolerances = read_gates(store.folder / GATES), read_tripwires(store.folder / GATES)
    if arguments.keep:
        arguments.keep.mkdir(parents=True, exist_ok=True)
    pictures = None
    if arguments.pictures:
        pictures = (arguments.output or record.RUNS / "record.json").parent
    options = runs.Options(
        arguments.config, arguments.clips, arguments.models, arguments.videos, arguments.threads,
        arguments.keep, pictures, not arguments.no_calibration,
    )  # fmt: skip
    print(terminal.clip_header(True))

    def checked(result: dict[str, Any]) -> list[Result]:
        wires, same_machine = tripwires(result, store.folder / BASELINE, tolerances)
        return [*judge(result, gates, same_machine), *wires]

    def times_hold(result: dict[str, Any]) -> bool:
        broken = [check for check in checked(result) if check.of_time and check.verdict != PASS]
        if broken:
            print(f"timing the clips again, as {broken[0].sentence}", flush=True)
        return not broken

    result = runs.run(store, options, lambda clip: print("\n".join(terminal.clip_rows(clip)), flush=True), times_hold)
    checks = checked(result)
    result["gates"] = [check.to_json() for check in checks]
    result["verdict"] = overall(checks)
    print("\n".join(["", *terminal.total_rows(result), terminal.LEGEND, "", *terminal.verdict_rows(result)]))
    path = record.save(result, arguments.output)
    history.append(result, path)
    print(f"record: {path}")
    write_outputs(result, arguments.junit, arguments.markdown, arguments.annotations or environment.in_github_actions())
    return int(result["verdict"]["exit_code"])
