"""``python -m validation demo``: pyfaceau beside the C++ program's CSVs, on what is at hand."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from validation import clips, goldens, record, suite
from validation.goldens import Store
from validation.options import add_places

PACK_CONFIGURATIONS = ("demo", "demo-au-static", "demo-avi")
REAL_CONFIGURATION = "clnf"
REAL_CLIPS = ("grid_bbaf2n", "liveportrait_driving_d0", "torchopenface_video01")
"""A short selection with one face each, about 350 frames."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("--pack", action="store_true", help="the demo pack even where OpenFace's weights are at hand")
    add_places(parser)
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="records, CSVs and page (default: runs/demo)")


def execute(arguments: argparse.Namespace) -> int:
    """Run the chosen configurations one by one; the exit code is that of the worst verdict."""
    started = time.perf_counter()
    folder = arguments.output or record.RUNS / "demo"
    store = goldens.load(arguments.golden)
    options = ["--threads", str(arguments.threads), "--golden", str(arguments.golden), "--pictures", "--no-calibration"]
    reason = _why_not_real(store, arguments)
    if reason is None:
        print(f"OpenFace's weights and clips are at hand: {', '.join(REAL_CLIPS)} with the {REAL_CONFIGURATION} model.")
        configurations: tuple[str, ...] = (REAL_CONFIGURATION,)
        options += ["--clips", ",".join(REAL_CLIPS)]
        options += ["--models", str(arguments.models)] if arguments.models else []
        options += ["--videos", str(arguments.videos)] if arguments.videos else []
    else:
        print(f"The demo pack ({reason}): its weights know the one face of its clips and no other.")
        configurations = PACK_CONFIGURATIONS
    print("Kernels that are not in the cache yet are compiled first, once: that takes up to a minute.", flush=True)
    paths = [suite.run_one(name, options, folder) for name in configurations]
    code = suite.conclude(paths, started)
    print(f"report: {suite.page(paths, folder)}")
    return code


def _why_not_real(store: Store, arguments: argparse.Namespace) -> str | None:
    """Why the demo pack is used; ``None`` if OpenFace's weights and the selected clips are there."""
    if arguments.pack:
        return "asked for"
    if reason := suite.lacking(store, REAL_CONFIGURATION, arguments.models):
        return reason
    places = clips.folders(arguments.videos)
    absent = [name for name in REAL_CLIPS if clips.locate(store, store.clips[name], places) is None]
    return f"the clip {absent[0]} is not here; `python -m validation clips fetch` brings it" if absent else None
