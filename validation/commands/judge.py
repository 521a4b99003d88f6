"""``python -m validation judge RECORD``: verdict, JUnit, Markdown, annotations; or make it the baseline."""

from __future__ import annotations

import argparse
from pathlib import Path

from validation import baseline, record, terminal
from validation.files import GOLDEN
from validation.gate import GATES, judge, read_gates
from validation.outputs import write_outputs
from validation.verdict import overall


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("record", type=Path)
    parser.add_argument("--gates", type=Path, default=GOLDEN / GATES)
    parser.add_argument("--baseline", type=Path, default=GOLDEN / baseline.BASELINE)
    parser.add_argument("--junit", type=Path, help="write the checks as JUnit XML")
    parser.add_argument("--markdown", type=Path, help="write a summary for a pull request")
    parser.add_argument("--annotations", action="store_true", help="print GitHub Actions annotations")
    parser.add_argument("--accept", metavar="REASON", help="make this run the baseline of the tripwires, and say why")


def execute(arguments: argparse.Namespace) -> int:
    """Judge by the gates as they are now; the record itself is not changed."""
    data = record.load(arguments.record)
    tolerances = baseline.read_tripwires(arguments.gates)
    wires, same_machine = baseline.tripwires(data, arguments.baseline, tolerances)
    checks = [*judge(data, read_gates(arguments.gates), same_machine), *wires]
    data["gates"] = [check.to_json() for check in checks]
    data["verdict"] = overall(checks)
    print("\n".join(terminal.verdict_rows(data)))
    write_outputs(data, arguments.junit, arguments.markdown, arguments.annotations)
    if arguments.accept:
        baseline.accept(data, arguments.baseline, arguments.accept, tolerances)
        print(f"baseline of {data['configuration']}: {arguments.baseline}")
    return int(data["verdict"]["exit_code"])
