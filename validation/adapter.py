"""The one place where the harness touches pyfaceau: run a clip, time it, digest the pixels it sees."""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from validation.errors import HarnessError

if TYPE_CHECKING:
    from pyfaceau import Config

STAGES_OUTSIDE_FRAMES = ("finish",)
"""Stages that run once at the end of a clip."""


@dataclass(frozen=True)
class Timing:
    """Times of one clip. ``intervals``: f64 (frames,) ms between finished frames, the first from the start."""

    frames: int
    wall_s: float
    intervals: np.ndarray
    stages: dict[str, np.ndarray]
    finish_ms: float

    def lowest(self, other: Timing) -> Timing:
        """The least disturbed times of two runs of the same clip: other processes only ever add to them.

        Of a stage frame by frame. Of the whole frame those of the quicker run, as with several threads one frame's
        interval is shorter where the one before was delayed.
        """
        quicker = min((self, other), key=lambda timing: float(timing.intervals.sum()))
        stages = {stage: np.minimum(times, other.stages[stage]) for stage, times in self.stages.items()}
        return replace(quicker, stages=stages, finish_ms=min(self.finish_ms, other.finish_ms))


class Runner:
    """A loaded pipeline for one configuration of the manifest."""

    def __init__(self, settings: dict[str, Any], models: Path | None, threads: int) -> None:
        with _as_harness_error():
            from pyfaceau import Config, Pipeline

            start = time.perf_counter()
            chosen = {"models": models} if models is not None else {}
            self.config: Config = Config(**{**settings, **chosen, "threads": threads})
            self._pipeline = Pipeline(self.config)
            self.load_ms = (time.perf_counter() - start) * 1e3

    @property
    def weights(self) -> Path:
        """The folder that the weights were read from."""
        return Path(self._pipeline.source.path)

    def warm_up(self, video: Path, frames: int = 12) -> float:
        """Take a few frames through every stage, so that later times hold no compilation; returns its seconds."""
        with _as_harness_error():
            from pyfaceau.video import open_source

            start = time.perf_counter()
            with open_source(video, self.config) as source:
                tracking = self._pipeline.track(islice(source, frames))
                for _ in tracking:
                    pass
                tracking.final_action_units()
            return time.perf_counter() - start

    def run(self, video: Path, csv: Path) -> Timing:
        """Write the CSV of one video, as ``pyfaceau extract`` does; ``HarnessError`` if it says it cannot."""
        with _as_harness_error():
            from pyfaceau.clock import StageClock
            from pyfaceau.extraction import run
            from pyfaceau.video import open_source

            clock, stamps = StageClock(), []
            start = time.perf_counter()
            with open_source(video, self.config) as source:
                result, _ = run(
                    self._pipeline,
                    source,
                    csv,
                    progress=lambda done, promised: stamps.append(time.perf_counter()),
                    clock=clock,
                )
            wall = time.perf_counter() - start
        times = clock.milliseconds()
        finish = sum(float(times.pop(stage).sum()) for stage in STAGES_OUTSIDE_FRAMES if stage in times)
        stages = {stage: per_frame(clock.frames(stage), values, result.frames) for stage, values in times.items()}
        intervals = np.diff(np.array([start, *stamps])) * 1e3
        return Timing(result.frames, wall, intervals, stages, finish)


def weights_folder(models: Path | None) -> Path:
    """Where pyfaceau finds its weights; ``HarnessError`` if it finds none."""
    with _as_harness_error():
        from pyfaceau.weights import find_models

        return Path(find_models(models).path)


def kernel_cache() -> Path:
    """Folder of the kernels compiled from the working tree's sources, whether it exists yet or not."""
    with _as_harness_error():
        from pyfaceau._jit import kernel_cache_dir

        return kernel_cache_dir()


def per_frame(frames: np.ndarray, values: np.ndarray, count: int) -> np.ndarray:
    """Sum of a stage's times per frame, f64 (count,); frames are numbered from 1, others are left out."""
    inside = (frames >= 1) & (frames <= count)
    return np.bincount(frames[inside] - 1, weights=values[inside], minlength=count)


def decoded_digests(video: Path) -> list[str]:
    """CRC-32 (8 hex digits) of every frame's BGR bytes as pyfaceau decodes it."""
    with _as_harness_error():
        from pyfaceau import Config
        from pyfaceau.video import open_source

        with open_source(video, Config()) as source:
            return [f"{zlib.crc32(np.ascontiguousarray(frame.bgr).data):08x}" for frame in source]


def pictures(video: Path, numbers: list[int]) -> dict[int, np.ndarray]:
    """The named frames (from 1) as BGR u8 (height, width, 3)."""
    with _as_harness_error():
        from pyfaceau import Config
        from pyfaceau.video import open_source

        wanted = set(numbers)
        with open_source(video, Config()) as source:
            return {frame.index: frame.bgr.copy() for frame in source if frame.index in wanted}


@contextmanager
def _as_harness_error() -> Iterator[None]:
    """What pyfaceau says the user can mend, in the harness's words."""
    from pyfaceau.errors import PyfaceauError

    try:
        yield
    except PyfaceauError as error:
        raise HarnessError(str(error)) from error
