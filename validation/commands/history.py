"""``python -m validation history FIGURE``: a figure over the runs made here, with change points."""

from __future__ import annotations

import argparse
from pathlib import Path

from validation import history
from validation.errors import HarnessError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("figure", nargs="?", default="presence.agreement", help="for example landmarks.mean_px")
    parser.add_argument("--clip", help="of this clip (default: mean over clips)")
    parser.add_argument("--config", default="clnf")
    parser.add_argument("--history", type=Path, help="file to read (default: runs/history.jsonl)")


def execute(arguments: argparse.Namespace) -> int:
    """Print the runs, oldest first, a line where the level changed."""
    runs = history.read(arguments.history)
    found = history.trace(runs, arguments.figure, arguments.clip, arguments.config)
    if not found:
        known = sorted({name for run in runs for name in run["totals"]})
        raise HarnessError(f"no run has {arguments.figure!r}; figures: {', '.join(known) or 'none'}")
    changes = {change.index: change for change in history.change_points([value for _, value in found])}
    for i, (run, value) in enumerate(found):
        if i in changes:
            change = changes[i]
            print(f"--- changes from {change.before:.5g} to {change.after:.5g} (p = {change.p:.3f})")
        dirty = "+" if run["dirty"] else " "
        commit = (run["commit"] or "unknown")[:9]
        print(f"{run['started']}  {commit}{dirty} {value:>12.6g}  {run['verdict']:<12} {run['cpu']}")
    return 0
