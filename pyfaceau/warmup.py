"""Compiling the kernels: once after an installation, announced, not silently in the middle of a run."""

from __future__ import annotations

import pickle
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numba.core import event
from numpy.typing import NDArray

from pyfaceau import collector
from pyfaceau._jit import kernel_cache_dir, processor
from pyfaceau.clock import StageClock
from pyfaceau.landmarks.certainty import Certainty
from pyfaceau.landmarks.pdm import shape_2d
from pyfaceau.landmarks.points import fit_to_points
from pyfaceau.landmarks.tracker import Tracker
from pyfaceau.output.columns import Layout
from pyfaceau.output.decimal import RowFormatter
from pyfaceau.pipeline import Tracking
from pyfaceau.pose import head_in_space
from pyfaceau.video import intrinsics

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
    """What finished runs of `warm_up` have compiled for this processor, for example "ccnf-au"."""
    folder, end = kernel_cache_dir(), f"@{processor()}"
    marks = folder.glob(f"{_MARK}*{end}") if folder.is_dir() else ()
    return {path.name.removeprefix(_MARK).removesuffix(end) for path in marks}


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
        with event.install_listener("numba:compile", announcer), collector.rare():
            helper = _Helper(pipeline) if pipeline.config.threads > 1 else None
            if helper is not None:
                _rehearse_tracker(pipeline)
            count = helper.wait() if helper is not None else 0
            _rehearse(pipeline)
    finally:
        announcer.close()
    seconds, count = time.perf_counter() - start, count + announcer.count
    print(f"pyfaceau: {count} functions compiled in {seconds:.1f} s", file=sys.stderr)
    with suppress(OSError):  # without a cache that can be written every run compiles; `pyfaceau doctor` says so
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{_MARK}{_kind(pipeline)}@{processor()}").touch()
        if count > 10:
            before.write_text(f"{seconds:.1f}\n")
    return count


class _Helper:
    """Another process, which compiles all but the tracker's fits meanwhile: compiling keeps one core busy only.

    What it does not do, for whatever reason, this process does afterwards.
    """

    # As a program, not by multiprocessing, which would run the user's script once more.
    _PROGRAM = (
        "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); "
        "from pyfaceau.warmup import help_to_warm_up; help_to_warm_up()"
    )

    def __init__(self, pipeline: Pipeline) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", self._PROGRAM],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        assert self._process.stdin is not None
        with suppress(OSError), self._process.stdin as pipe:
            pipe.write(pickle.dumps(sys.path) + pickle.dumps(pipeline.config))

    def wait(self) -> int:
        """How many functions it compiled."""
        assert self._process.stdout is not None
        with self._process.stdout as pipe:
            said = pipe.read()
        self._process.wait()
        return int(said) if said.strip().isdigit() else 0


def help_to_warm_up() -> None:
    """The other process's part: settings from standard input, the number of compiled functions to standard output."""
    from pyfaceau.pipeline import Pipeline

    announcer = _Announcer()
    with event.install_listener("numba:compile", announcer), collector.rare():
        _rehearse_rest(Pipeline(pickle.load(sys.stdin.buffer)))
    print(announcer.count)


def _picture() -> NDArray[np.uint8]:
    rng = np.random.default_rng(0)
    return np.repeat(np.repeat(rng.integers(0, 256, (60, 80, 3), np.uint8), 8, axis=0), 8, axis=1)


def _start(pipeline: Pipeline) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Parameters g and p of a face in the middle of the picture, and its landmarks."""
    pdm = pipeline.model.pdm
    g, p = np.array([2, 0, 0, 0, 320, 240], np.float32), np.zeros(pdm.m, np.float32)
    return g, p, shape_2d(pdm, g, p)


def _rehearse_tracker(pipeline: Pipeline) -> None:
    """Fit landmarks to noise, without the validator."""
    fit_to_points(pipeline.model.pdm, _start(pipeline)[2])  # first: the other process needs it too, later
    tracker = Tracker(pipeline.model, cast("MTCNN", _OneBox()), replace(pipeline.config, validate=False))
    picture = _picture()
    tracker.track(picture, np.ascontiguousarray(picture[..., 0]))


def _rehearse_rest(pipeline: Pipeline) -> None:
    """Run on noise what `_rehearse_tracker` leaves out, and what costs most to compile."""
    picture, detector, pdm = _picture(), pipeline.detector, pipeline.model.pdm
    detector.proposals(picture)
    g, p, points = _start(pipeline)
    if pipeline.model.validator is not None:
        certainty = Certainty(pipeline.model.validator)
        certainty(np.ascontiguousarray(picture[..., 0]), points, g[1:4])
    analyser = pipeline.new_analyser()
    if analyser is not None:
        analyser.analyse(picture, points, True)
        analyser.finish()
    face, _ = head_in_space(pdm, g, p, points, intrinsics(640, 480, pipeline.config))
    RowFormatter(np.full(face.size, 3, np.uint8), b",")(face)


def _rehearse(pipeline: Pipeline) -> None:
    """Run every stage on noise."""
    picture = _picture()
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
