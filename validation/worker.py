"""Timing in a process of its own: `python worker.py TREE REQUEST.json`, then lines on stdin.

Loads pyfaceau and answers; answers each ``pass`` over the clips, each ``finish``, which is the end of those clips over
and over, as it takes half a millisecond and once says nothing about it, and the end of stdin. An answer is JSON in the
file ``answer.json`` of the scratch folder, announced by an empty line, as a long line would wait for its reader. The
process may be stopped and continued at any time, so times are given with the moment of their end, in seconds of
``time.perf_counter``. pyfaceau is imported from TREE, which may be another revision than the harness's, so this file
imports nothing of the harness and only the parts of pyfaceau that a clip needs.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FINISHES = 200
"""So often the end of each clip is timed."""


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
    clips: dict[str, Clip] = {}
    for line in sys.stdin:
        if line.strip() == "pass":
            clips.clear()  # what they hold would count in the peak of the memory
            clips = {name: Clip(pipeline, Path(video), request["scratch"]) for name, video in request["clips"].items()}
            yield {name: clip.timed() for name, clip in clips.items()}
        else:
            yield {name: clip.finished_again() for name, clip in clips.items()}
    yield {"peak_mb": _peak_mb()}


class Clip:
    """One clip, timed; its CSV goes to the scratch folder."""

    def __init__(self, pipeline: Any, video: Path, scratch: str) -> None:
        from pyfaceau.clock import StageClock
        from pyfaceau.extraction import run
        from pyfaceau.video import open_source

        ends: dict[str, list[float]] = {}
        # The hook does not refer to this object: as a cycle it would keep all that a video takes for a while.
        self._clock = StageClock(lambda stage, *_: ends.setdefault(stage, []).append(time.perf_counter()))
        self._ends = ends
        self._stamps = [time.perf_counter()]

        def track(*arguments: Any, **options: Any) -> Any:
            self._tracking = type(pipeline).track(pipeline, *arguments, **options)
            return self._tracking

        pipeline.track = track
        with open_source(video, pipeline.config) as source:
            extraction, _ = run(
                pipeline,
                source,
                Path(scratch, f"{video.stem}.csv"),
                progress=lambda done, promised: self._stamps.append(time.perf_counter()),
                clock=self._clock,
            )
        self._frames = extraction.frames

    def timed(self) -> dict[str, Any]:
        """The moments of all frames, the first one that of opening, and every call of every stage."""
        stages = {stage: self._calls(stage, 0) for stage in self._ends}
        return {"frames": self._frames, "stamps_s": self._stamps, "stages": stages}

    def finished_again(self) -> dict[str, Any]:
        """Its end, again and again. What a tracking keeps from the first call of it is not in these."""
        known = len(self._ends["finish"])
        with _on_one_core():
            for _ in range(FINISHES):
                self._tracking.final_action_units()
        return {"frames": self._frames, "stamps_s": [], "stages": {"finish": self._calls("finish", known)}}

    def _calls(self, stage: str, first: int) -> dict[str, Any]:
        frames, ms = self._clock.frames(stage), self._clock.milliseconds()[stage]
        return {"frames": frames[first:].tolist(), "ms": ms[first:].tolist(), "ends_s": self._ends[stage][first:]}


@contextmanager
def _on_one_core() -> Iterator[None]:
    """The first core allowed, where one can be chosen: for a while one core may be far slower than the other."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


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
