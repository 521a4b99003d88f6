"""``python -m validation compare REF.csv OTHER.csv``: two CSVs, no video, no weights."""

from __future__ import annotations

import argparse
from pathlib import Path

from validation import assemble, environment, history, record, terminal
from validation.compare import join
from validation.floor import floor
from validation.reference import read_csv
from validation.verdict import PASS, Result, overall


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("reference", type=Path, help="OpenFace CSV that counts as right")
    parser.add_argument("other", type=Path, help="OpenFace CSV to compare with it")
    parser.add_argument(
        "--floor", type=Path, action="append", default=[], metavar="CSV",
        help="the reference program's CSV of the same clip again (another build or machine); repeatable",
    )  # fmt: skip
    parser.add_argument("--gates", type=Path, help="judge by the gates of this TOML file")
    parser.add_argument("-o", "--output", type=Path, help="write the record here (default: none)")


def execute(arguments: argparse.Namespace) -> int:
    """Compare, print, write the record if asked; the exit code is the verdict's."""
    from validation.gate import judge, read_gates

    reference, other = read_csv(arguments.reference), read_csv(arguments.other)
    pair = join(reference, other)
    repetitions = {f"again {i}": read_csv(path) for i, path in enumerate(arguments.floor, start=1)}
    repeated = floor(reference, repetitions)
    clip = assemble.clip_record(
        arguments.reference.stem, str(arguments.other.name), pair, repeated,
        faces="none" if not pair.counts.both_succeed and not reference.success.any() else "one",
    )  # fmt: skip
    result = record.new(
        "compare", environment.fingerprint(), configuration="files", clips=[clip],
        totals=assemble.totals([clip]), equivalence=[],
    )  # fmt: skip
    if arguments.gates:
        gates = judge(result, read_gates(arguments.gates))
    else:
        gates = [Result("compared", PASS, f"{pair.counts.common} rows compared; no gates were asked for")]
    result["gates"] = [gate.to_json() for gate in gates]
    result["verdict"] = overall(gates)
    print("\n".join([terminal.clip_header(False), *terminal.clip_rows(clip), "", *terminal.detail_rows(clip)]))
    if arguments.gates:
        print("\n".join(["", *terminal.verdict_rows(result)]))
    if arguments.output:
        record.save(result, arguments.output)
        history.append(result, arguments.output)
    return int(result["verdict"]["exit_code"])
