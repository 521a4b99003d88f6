"""Timing in a process of its own: `python worker.py TREE REQUEST.json`, then one line on stdin a pass.

Loads pyfaceau and answers; answers each pass over the clips, and the end of stdin. An answer is JSON in the file
``answer.json`` of the scratch folder, announced by an empty line, as a long line would wait for its reader. The process
may be stopped and continued at any time, so times are given with the moment of their end, in seconds of
``time.perf_counter``. pyfaceau is imported from TREE, which may be another revision than the harness's, so this file
imports nothing of the harness and only the parts of pyfaceau that a clip needs.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FINISHES = 200
"""So often the end of a clip is timed in a pass: it takes half a millisecond, and once says nothing about it."""


def main(tree: str, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What is to be said: of loading, of every pass, and at the end."""
    sys.path.insert(0, tree)
    start = time.perf_counter()
    from pyfaceau import Config, Pipeline

    where = Path(sys.modules["pyfaceau"].__file__ or "").resolve()
    if not where.is_relative_to(Path(tree).resolve()):
        raise SystemExit(f"pyfaceau was imported from {where}, not from {tree}")
    imported = time.perf_counter()
    config = Config(**request["settings"])
    pipeline = Pipeline(config)
    yield {"import_s": imported - start, "load_s": time.perf_counter() - imported}
    for _ in sys.stdin:
        yield {name: _run(pipeline, Path(video), Path(request["scratch"])) for name, video in request["clips"].items()}
    yield {"peak_mb": _peak_mb()}


def _run(pipeline: Any, video: Path, scratch: Path) -> dict[str, Any]:
    """One clip, timed; its CSV goes to the scratch folder."""
    from pyfaceau.clock import StageClock
    from pyfaceau.extraction import run
    from pyfaceau.video import open_source

    ends: dict[str, list[float]] = {}

    def ended(stage: str, frame: int, nanoseconds: int) -> None:
        ends.setdefault(stage, []).append(time.perf_counter())

    clock = StageClock(ended)
    stamps: list[float] = []
    made: list[Any] = []

    def track(*arguments: Any, **options: Any) -> Any:
        made.append(type(pipeline).track(pipeline, *arguments, **options))
        return made[-1]

    pipeline.track = track
    began = time.perf_counter()
    with open_source(video, pipeline.config) as source:
        extraction, _ = run(
            pipeline,
            source,
            scratch / f"{video.stem}.csv",
            progress=lambda done, promised: stamps.append(time.perf_counter()),
            clock=clock,
        )
    # On the same data; what a tracking keeps from its first call is not in the others.
    for _ in range(FINISHES):
        made[-1].final_action_units()
    return {
        "frames": extraction.frames,
        "stamps_s": [began, *stamps],
        "stages": {
            stage: {"frames": clock.frames(stage).tolist(), "ms": values.tolist(), "ends_s": ends[stage]}
            for stage, values in clock.milliseconds().items()
        },
    }


def _peak_mb() -> float | None:
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


if __name__ == "__main__":
    asked = json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
    for answer in main(sys.argv[1], asked):
        Path(asked["scratch"], "answer.json").write_text(json.dumps(answer), encoding="utf-8")
        print(flush=True)
