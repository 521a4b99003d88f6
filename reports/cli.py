"""``python -m validation report RECORD... -o DIR``: a page and figures of one or several records."""

from __future__ import annotations

import argparse
from pathlib import Path

from validation import record as records
from validation.errors import HarnessError

FORMATS = ("pdf", "svg", "png")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("records", type=Path, nargs="+", metavar="RECORD", help="JSON record of run, compare or speed")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="folder of page and figures")
    parser.add_argument(
        "--formats", default=",".join(FORMATS), metavar="LIST",
        help="formats of the figures beside the page, of pdf,svg,png; 'none' for the page alone (default: all)",
    )  # fmt: skip
    parser.add_argument(
        "--videos", type=Path, metavar="DIR",
        help="folder of clips: their worst frames are shown as pictures (of people: mind where you put the page)",
    )  # fmt: skip


def execute(arguments: argparse.Namespace) -> int:
    """Write the report; the exit code says whether it was written, not what the verdict is."""
    from reports.build import Source, build

    formats = [] if arguments.formats == "none" else arguments.formats.split(",")
    unknown = [name for name in formats if name not in FORMATS]
    if unknown:
        raise HarnessError(f"--formats: {unknown[0]!r} is none of {', '.join(FORMATS)}")
    if arguments.videos is not None and not arguments.videos.is_dir():
        raise HarnessError(f"{arguments.videos}: no such folder of clips; leave --videos out for a report without")
    sources = [Source(records.load(path), path.parent, arguments.videos) for path in arguments.records]
    page = build(sources, arguments.output, formats, print)
    print(f"page: {page} ({page.stat().st_size / 1e6:.2f} MB)")
    return 0
