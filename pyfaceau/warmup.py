"""Compiling the kernels: once after an installation, announced, not silently in the middle of a run."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numba.core import event
from numpy.typing import NDArray

from pyfaceau._jit import kernel_cache_dir
from pyfaceau.clock import StageClock
from pyfaceau.landmarks.tracker import Tracker
from pyfaceau.output.columns import Layout
from pyfaceau.output.decimal import RowFormatter
from pyfaceau.pipeline import Tracking

if TYPE_CHECKING:
    from pyfaceau.detect.mtcnn import MTCNN
    from pyfaceau.pipeline import Pipeline

_MARK = "compiled-"
_BOX = (170.0, 90.0, 300.0, 300.0)  # x, y, width, height: large enough for the part models to take part


class _OneBox:
    """A detector that has found its face, so that what follows a detection runs without a picture of anybody."""

    def detect(self, bgr: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return np.array([_BOX], np.float32), np.ones(1, np.float32)


class _Announcer(event.Listener):
    """Tells on stderr what is being compiled: a line that is rewritten on a terminal, else nothing in between."""

    def __init__(self) -> None:
        self.count = 0
        self._depth = 0
        self._start = time.perf_counter()
        self._terminal = sys.stderr.isatty()

    def on_start(self, event: Any) -> None:
        self._depth += 1
        if self._terminal:
            name = event.data["dispatcher"].py_func.__name__.strip("_")
            seconds = time.perf_counter() - self._start
            sys.stderr.write(f"\r  {self.count} done, {seconds:.0f} s, now {name}\x1b[K")
            sys.stderr.flush()

    def on_end(self, event: Any) -> None:
        self._depth -= 1
        self.count += 1

    def close(self) -> None:
        if self._terminal:
            sys.stderr.write("\r\x1b[K")


def compiled_kinds() -> set[str]:
    """What finished runs of `warm_up` have compiled, for example "ccnf-au"."""
    folder = kernel_cache_dir()
    return {path.name.removeprefix(_MARK) for path in folder.glob(f"{_MARK}*")} if folder.is_dir() else set()


def _kind(pipeline: Pipeline) -> str:
    model = pipeline.model
    kinds = {model.kind, *(part.model.kind for part in model.parts)}
    return "-".join([*sorted(kinds), *(["au"] if pipeline.config.needs_analysis else [])])


def warm_up_if_cold(pipeline: Pipeline) -> None:
    """Compile now, with an announcement, unless that was done before."""
    if _kind(pipeline) not in compiled_kinds():
        warm_up(pipeline)


def warm_up(pipeline: Pipeline) -> int:
    """Compile every kernel that ``pipeline`` can need and keep the machine code in the user's cache.

    Prints what it does on stderr. Returns how many functions had to be compiled, 0 if all were there.
    """
    folder = kernel_cache_dir()
    before = folder.parent / "seconds"
    known = ""
    with suppress(OSError, ValueError):
        known = f", about {float(before.read_text()):.0f} s"
    print(f"pyfaceau: compiling kernels, once after an installation{known}", file=sys.stderr, flush=True)
    start = time.perf_counter()
    announcer = _Announcer()
    try:
        with event.install_listener("numba:compile", announcer):
            _rehearse(pipeline)
    finally:
        announcer.close()
    seconds = time.perf_counter() - start
    print(f"pyfaceau: {announcer.count} functions compiled in {seconds:.1f} s", file=sys.stderr)
    with suppress(OSError):  # without a cache that can be written every run compiles; `pyfaceau doctor` says so
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{_MARK}{_kind(pipeline)}").touch()
        if announcer.count > 10:
            before.write_text(f"{seconds:.1f}\n")
    return announcer.count


def _rehearse(pipeline: Pipeline) -> None:
    """Run every stage on noise."""
    rng = np.random.default_rng(0)
    picture = np.repeat(np.repeat(rng.integers(0, 256, (60, 80, 3), np.uint8), 8, axis=0), 8, axis=1)
    detector = pipeline.detector
    detector.proposals(picture)
    for network in (detector.rnet, detector.onet):
        detector.refine(picture, np.array([_BOX], np.float32), network)
    tracker = Tracker(pipeline.model, cast("MTCNN", _OneBox()), pipeline.config)
    layout = Layout(set(pipeline.config.columns) - {"aus"}, pipeline.model.pdm.m)
    values = np.zeros(len(layout.values), np.float32)
    analyser = pipeline.new_analyser()
    for face in Tracking(pipeline, [picture, picture, picture], False, StageClock(), tracker):
        layout.fill(face, values)
        RowFormatter(layout.decimals, b",")(values)
        if analyser is not None:
            analyser.analyse(picture, np.ascontiguousarray(face.landmarks.T).ravel(), True)
    if analyser is not None:
        analyser.finish()
