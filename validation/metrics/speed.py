"""Figures of time. Conventions: ``times`` is f64 (frames,) in milliseconds, one value a frame, first frame included."""

from __future__ import annotations

import numpy as np

from validation.errors import Undefined

WARM = 1
"""Frames at the start that are not steady state: detection and hypotheses."""


def steady(times: np.ndarray) -> np.ndarray:
    """The frames after the first ``WARM``."""
    if len(times) <= WARM:
        raise Undefined(f"{len(times)} frames are too few for a steady state")
    return times[WARM:]


def mean_ms(times: np.ndarray) -> float:
    """Mean over the steady state, ms a frame."""
    return float(steady(times).mean())


def percentile_ms(times: np.ndarray, percent: float) -> float:
    """Percentile over the steady state, ms."""
    return float(np.percentile(steady(times), percent))


def frames_per_second(frames: int, seconds: float) -> float:
    """Frames over wall time."""
    if seconds <= 0 or frames == 0:
        raise Undefined("no frames, or no time passed")
    return frames / seconds


def per_calibration(ms_per_frame: float, calibration_ms: float) -> float:
    """Time a frame in units of one pass of the fixed workload: comparable between machines."""
    if calibration_ms <= 0:
        raise Undefined("the calibration workload was not timed")
    return ms_per_frame / calibration_ms


def unaccounted_share(total_ms: float, stages_ms: dict[str, float]) -> float:
    """Share of a frame's time that no stage claims: 1 - sum(stages) / total; below 0 where stages overlap in time."""
    if total_ms <= 0:
        raise Undefined("no time passed")
    return 1.0 - sum(stages_ms.values()) / total_ms
