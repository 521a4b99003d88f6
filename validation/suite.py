"""Several configurations one after the other: a record each, then one verdict and one page."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from validation import record
from validation.cli import main
from validation.errors import HarnessError
from validation.goldens import Store
from validation.verdict import EXIT_CODES, PASS, Result, overall


def lacking(store: Store, configuration: str, models: Path | None) -> str | None:
    """Which weights a configuration lacks here, ``None`` if it can run."""
    from pyfaceau.errors import PyfaceauError
    from pyfaceau.weights import find_models, landmark_models

    settings, chosen = store.settings(configuration, models)
    if "models" in store.configurations[configuration]["settings"]:
        return None  # shipped
    name = settings["landmarks"]
    try:
        missing = landmark_models(find_models(chosen)).get(name)
    except PyfaceauError as error:
        if models is not None:
            raise HarnessError(str(error)) from error
        return "OpenFace's weights are not here; `pyfaceau models fetch` brings them"
    if missing is None or missing:
        return f"the weights of {name} are not here or not whole; see `pyfaceau models list`"
    return None


def run_one(configuration: str, options: Sequence[str], folder: Path) -> Path:
    """One configuration through ``validation run``; its record's path."""
    path = folder / f"{configuration}.json"
    path.unlink(missing_ok=True)
    print(f"\n{configuration}", flush=True)
    main(["run", "--config", configuration, "--keep", str(folder / configuration), "-o", str(path), *options])
    if not path.is_file():
        raise HarnessError(f"{configuration} left no record; the reason is above")
    return path


def conclude(paths: Sequence[Path], started: float) -> int:
    """Print the verdict over all records; its exit code. ``started``: ``time.perf_counter()`` of the beginning."""
    records = [record.load(path) for path in paths]
    verdict = overall(Result(**check) for data in records for check in data["gates"])
    measured = [clip for data in records for clip in data["clips"]]
    frames = sum(clip["counts"]["common"] for clip in measured if clip["counts"])
    print(
        f"\n{verdict['verdict']}: {verdict['sentence']}; {len(measured)} CSVs of the C++ program, {frames} frames, "
        f"{time.perf_counter() - started:.0f} s"
    )
    return int(EXIT_CODES[verdict["verdict"]])


def page(paths: Sequence[Path], folder: Path) -> Path:
    """Make the report page of the records; where it is."""
    place = folder / "report"
    if main(["report", *map(str, paths), "-o", str(place), "--formats", "none"]) != EXIT_CODES[PASS]:
        raise HarnessError("the report page could not be made; the reason is above")
    made = sorted(place.glob("*.html"))
    if not made:
        raise HarnessError(f"{place}: the report generator left no page there")
    return made[0].resolve()
