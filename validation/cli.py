"""The commands of ``python -m validation``. Exit codes: 0 PASS, 1 FAIL, 2 ERROR, 3 INCONCLUSIVE."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from validation.errors import HarnessError
from validation.verdict import ERROR, EXIT_CODES

COMMANDS = {
    "demo": "run pyfaceau on what is at hand beside the C++ program's CSVs, with a verdict and a page",
    "all": "every configuration whose weights are at hand, with one verdict and a page",
    "run": "run pyfaceau on every clip with a golden and judge it",
    "compare": "compare two OpenFace CSVs; no video, no weights",
    "judge": "judge a record anew, or write it as JUnit XML, Markdown or annotations",
    "golden": "add, list, verify, renew or unpack the reference CSVs",
    "clips": "list the clips, or download them from their public repositories",
    "speed": "time the working tree against a base revision, in turns",
    "sensitivity": "the smallest defects that the gates can see",
    "repeat": "run several times: does an untouched tree always pass, with the same figures?",
    "history": "a figure over time, with change points",
    "report": "a page and figures of one or several records",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, run the command, turn ``HarnessError`` into one line and exit code 2."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog="python -m validation", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    chosen = next((a for a in arguments if not a.startswith("-")), None)
    module = None
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text)
        if name == chosen:
            module = import_module(f"validation.commands.{name}")
            module.add_arguments(command)
    parsed = parser.parse_args(arguments)
    assert module is not None
    try:
        return int(module.execute(parsed))
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_CODES[ERROR]
    except HarnessError as error:
        print(f"{parser.prog}: ERROR: {error}", file=sys.stderr)
        return EXIT_CODES[ERROR]
