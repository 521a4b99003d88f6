"""One round of timing, in a process of its own: `python worker.py TREE REQUEST.json` prints one line of JSON.

pyfaceau is imported from TREE, which may be another revision than the harness's, so this file imports nothing of the
harness and only the parts of pyfaceau that a clip needs: `Config`, `Pipeline`, and the clock where there is one.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any


def main(tree: str, request: dict[str, Any]) -> dict[str, Any]:
    """Load, run the clips of the request in turn, and say how long everything took."""
    sys.path.insert(0, tree)
    start = time.perf_counter()
    from pyfaceau import Config, Pipeline
    from pyfaceau.clock import StageClock
    from pyfaceau.extraction import run
    from pyfaceau.video import open_source

    where = Path(sys.modules["pyfaceau"].__file__ or "").resolve()
    if not where.is_relative_to(Path(tree).resolve()):
        raise SystemExit(f"pyfaceau was imported from {where}, not from {tree}")
    imported = time.perf_counter()
    config = Config(**request["settings"])
    pipeline = Pipeline(config)
    loaded = time.perf_counter()
    result: dict[str, Any] = {"import_s": imported - start, "load_s": loaded - imported, "clips": {}}
    for repeat in range(request["repeats"]):
        for name, video in request["clips"].items():
            clock = StageClock()
            stamps: list[float] = []
            began = time.perf_counter()
            with open_source(video, config) as source:
                extraction, _ = run(
                    pipeline,
                    source,
                    Path(request["scratch"]) / f"{name}.csv",
                    progress=_stamper(stamps),
                    clock=clock,
                )
            ended = time.perf_counter()
            if "first_frame_s" not in result:
                result["first_frame_s"] = stamps[0] - start
            times = clock.milliseconds()
            result["clips"].setdefault(name, []).append(
                {
                    "repeat": repeat,
                    "frames": extraction.frames,
                    "wall_s": ended - began,
                    "intervals_ms": [(b - a) * 1e3 for a, b in zip([began, *stamps], stamps, strict=False)],
                    "stages": {
                        stage: {"frames": clock.frames(stage).tolist(), "ms": values.tolist()}
                        for stage, values in times.items()
                    },
                }
            )
    result["peak_mb"] = _peak_mb()
    return result


def _stamper(stamps: list[float]) -> Any:
    return lambda done, promised: stamps.append(time.perf_counter())


def _peak_mb() -> float | None:
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], json.loads(Path(sys.argv[2]).read_text(encoding="utf-8")))))
