"""``python -m validation demo``: pyfaceau beside the C++ program's CSVs, on what is at hand."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from validation import clips, goldens, record
from validation.cli import main
from validation.errors import HarnessError
from validation.files import GOLDEN
from validation.goldens import Store
from validation.verdict import EXIT_CODES, PASS, Result, overall

PACK_CONFIGURATIONS = ("demo", "demo-au-static", "demo-avi")
REAL_CONFIGURATION = "clnf"
REAL_CLIPS = ("grid_bbaf2n", "liveportrait_driving_d0", "torchopenface_video01")
"""A short selection with one face each, about 350 frames."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("--pack", action="store_true", help="the demo pack even where OpenFace's weights are at hand")
    parser.add_argument("--models", type=Path, help="folder of OpenFace's weights (default: the usual places)")
    parser.add_argument("--videos", type=Path, help="folder of clips (default: ../shared/videos, then the download)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--golden", type=Path, default=GOLDEN, help=argparse.SUPPRESS)
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="records, CSVs and page (default: runs/demo)")


def execute(arguments: argparse.Namespace) -> int:
    """Run the chosen configurations one by one; the exit code is that of the worst verdict."""
    started = time.perf_counter()
    folder = arguments.output or record.RUNS / "demo"
    store = goldens.load(arguments.golden)
    reason = _why_not_real(store, arguments)
    if reason is None:
        print(f"OpenFace's weights and clips are at hand: {', '.join(REAL_CLIPS)} with the {REAL_CONFIGURATION} model.")
        configurations: tuple[str, ...] = (REAL_CONFIGURATION,)
        chosen = ",".join(REAL_CLIPS)
    else:
        print(f"The demo pack ({reason}): its weights know the one face of its clips and no other.")
        configurations, chosen = PACK_CONFIGURATIONS, "*"
    print("Kernels that are not in the cache yet are compiled first, once: that takes up to a minute.", flush=True)
    paths = [_run(name, chosen, folder, arguments, reason is None) for name in configurations]
    records = [record.load(path) for path in paths]
    verdict = overall(Result(**check) for data in records for check in data["gates"])
    measured = [clip for data in records for clip in data["clips"]]
    frames = sum(clip["counts"]["common"] for clip in measured if clip["counts"])
    print(
        f"\n{verdict['verdict']}: {verdict['sentence']}; {len(measured)} CSVs of the C++ program, {frames} frames, "
        f"{time.perf_counter() - started:.0f} s"
    )
    print(_page(paths, folder))
    return int(EXIT_CODES[verdict["verdict"]])


def _why_not_real(store: Store, arguments: argparse.Namespace) -> str | None:
    """Why the demo pack is used; ``None`` if OpenFace's weights and the selected clips are there."""
    from pyfaceau.errors import PyfaceauError
    from pyfaceau.weights import find_models, landmark_models

    if arguments.pack:
        return "asked for"
    try:
        missing = landmark_models(find_models(arguments.models)).get("main_clnf_general")
    except PyfaceauError as error:
        if arguments.models is not None:
            raise HarnessError(str(error)) from error
        return "OpenFace's weights are not here; `pyfaceau models fetch` brings them"
    if missing is None or missing:
        return "OpenFace's CLNF model is not here or not whole; see `pyfaceau models list`"
    places = clips.folders(arguments.videos)
    absent = [name for name in REAL_CLIPS if clips.locate(store, store.clips[name], places) is None]
    return f"the clip {absent[0]} is not here; `python -m validation clips fetch` brings it" if absent else None


def _run(configuration: str, chosen: str, folder: Path, arguments: argparse.Namespace, real: bool) -> Path:
    """One configuration through `validation run`; its record's path."""
    path: Path = folder / f"{configuration}.json"
    path.unlink(missing_ok=True)
    command = ["run", "--config", configuration, "--clips", chosen, "--threads", str(arguments.threads)]
    command += ["--golden", str(arguments.golden), "--keep", str(folder / configuration), "--pictures"]
    command += ["--no-calibration", "-o", str(path)]
    if real:
        command += ["--models", str(arguments.models)] if arguments.models else []
        command += ["--videos", str(arguments.videos)] if arguments.videos else []
    print(f"\n{configuration}", flush=True)
    main(command)
    if not path.is_file():
        raise HarnessError(f"{configuration} left no record; the reason is above")
    return path


def _page(paths: list[Path], folder: Path) -> str:
    """Make the report page, and say where it is."""
    page = folder / "report"
    if main(["report", *map(str, paths), "-o", str(page), "--formats", "none"]) != EXIT_CODES[PASS]:
        raise HarnessError("the report page could not be made; the reason is above")
    made = sorted(page.glob("*.html"))
    if not made:
        raise HarnessError(f"{page}: the report generator left no page there")
    return f"report: {made[0].resolve()}"
