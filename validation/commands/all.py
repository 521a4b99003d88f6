"""``python -m validation all``: every configuration whose weights are at hand, with one verdict and one page."""

from __future__ import annotations

import argparse
import time
import webbrowser
from fnmatch import fnmatch
from pathlib import Path

from validation import goldens, record, suite
from validation.errors import HarnessError
from validation.options import add_places


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("--configs", default="*", metavar="GLOB", help="configurations, with commas (default: all)")
    parser.add_argument("--clips", default="*", metavar="GLOB", help="names of clips, with commas (default: all)")
    add_places(parser)
    parser.add_argument("--pictures", action="store_true", help="show the worst frames in the page (of people)")
    parser.add_argument("--open", action="store_true", help="open the page in the browser")
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="records, CSVs and page (default: runs/all)")


def execute(arguments: argparse.Namespace) -> int:
    """Run them one by one; the exit code is that of the worst verdict."""
    started = time.perf_counter()
    folder = arguments.output or record.RUNS / "all"
    store = goldens.load(arguments.golden)
    options = ["--threads", str(arguments.threads), "--golden", str(arguments.golden), "--clips", arguments.clips]
    options += ["--pictures"] if arguments.pictures else []
    options += ["--videos", str(arguments.videos)] if arguments.videos else []
    paths, left_out = [], {}
    for name in _chosen(store, arguments):
        if reason := suite.lacking(store, name, arguments.models):
            left_out[name] = reason
            continue
        own = "models" not in store.configurations[name]["settings"]
        named = ["--models", str(arguments.models)] if arguments.models and own else []
        paths.append(suite.run_one(name, [*options, *named], folder))
    print("".join(f"\nleft out: {name}, as {reason}" for name, reason in left_out.items()))
    if not paths:
        raise HarnessError("nothing could run; the reasons are above")
    code = suite.conclude(paths, started)
    made = suite.page(paths, folder)
    print(f"report: {made}")
    if arguments.open:
        webbrowser.open(made.as_uri())
    return code


def _chosen(store: goldens.Store, arguments: argparse.Namespace) -> list[str]:
    """The configurations that can be run and have a golden of one of the clips."""
    wanted = [
        name
        for name, entry in store.configurations.items()
        if entry.get("settings") and any(fnmatch(name, pattern) for pattern in arguments.configs.split(","))
    ]
    found = [name for name in wanted if store.find(name, arguments.clips)]
    if not found:
        raise HarnessError(f"no configuration {arguments.configs!r} has a golden of a clip {arguments.clips!r}")
    return found
