"""From raw AU scores to reported values: offsets, clamping, smoothing, and the online correction for cameras.

OpenFace 2.2 specification, part 3 §6 and §7. Arrays are f64 (N, AUs); N counts all frames, failed ones included.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

HIGHEST = 5.0
"""Intensities are reported in 0..5."""


def intensity_offsets(
    intensity: NDArray[np.float64], valid: NDArray[np.bool_], dynamic: NDArray[np.bool_], cutoff: NDArray[np.float64]
) -> NDArray[np.float64]:
    """What each AU shows at rest: the `cutoff` quantile of its values on valid frames, f64 (AUs,).

    Element trunc(n * cutoff) of the n sorted values; 0 for static predictors, those with cutoff -1, and without
    any valid frame.
    """
    offsets = np.zeros(intensity.shape[1])
    good = np.sort(intensity[valid], axis=0)
    if good.shape[0] == 0:
        return offsets
    for au in np.flatnonzero(dynamic & (cutoff != -1)):
        offsets[au] = good[min(int(good.shape[0] * cutoff[au]), good.shape[0] - 1), au]
    return offsets


def clamp_intensity(
    intensity: NDArray[np.float64], valid: NDArray[np.bool_], offsets: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Subtract the offsets and clamp to 0..5; failed frames are 0."""
    clamped = np.clip(intensity - offsets, 0.0, HIGHEST)
    return np.where(valid[:, None], clamped, 0.0)


def smooth_intensity(intensity: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of three frames; the first and the last keep their value. Failed frames take part and are overwritten."""
    smooth = intensity.copy()
    if intensity.shape[0] > 2:
        smooth[1:-1] = (intensity[:-2] + intensity[1:-1] + intensity[2:]) / 3
    return smooth


def smooth_presence(presence: NDArray[np.float64]) -> NDArray[np.float64]:
    """Majority of seven frames (4 of 7); the first and the last three keep their class."""
    smooth = presence.copy()
    frames = presence.shape[0]
    if frames > 6:
        windows = np.lib.stride_tricks.sliding_window_view(presence, 7, axis=0)
        smooth[3 : frames - 3] = windows.sum(axis=-1) >= 3.5
    return smooth


class OnlineCorrection:
    """Running estimate of each AU's resting value, for live reports; the history stays uncorrected.

    Per AU a histogram of 200 bins over -3..5; once ten frames are in it, the first bin whose cumulative count
    exceeds trunc(0.1 * count) is the offset (part 3 §6, "Online flag"). Static and dynamic AUs alike.
    """

    BINS, LOW, HIGH = 200, -3.0, 5.0
    FEWEST = 10
    SHARE = 0.1

    def __init__(self, aus: int) -> None:
        self._counts = np.zeros((aus, self.BINS), np.int64)
        self._count = 0

    def correct(self, intensity: NDArray[np.float64], valid: bool) -> NDArray[np.float64]:
        """Count raw intensities f64 (AUs,) of a valid frame; returns them less the offset, clamped to 0..5."""
        if not valid:
            return np.clip(intensity, 0.0, HIGHEST)
        bins = np.clip((intensity - self.LOW) * self.BINS / (self.HIGH - self.LOW), 0, self.BINS - 1).astype(np.int64)
        self._counts[np.arange(bins.shape[0]), bins] += 1
        self._count += 1
        offset = np.zeros(bins.shape[0])
        if self._count >= self.FEWEST:
            reached = np.cumsum(self._counts, axis=1) > int(self.SHARE * self._count)
            offset = self.LOW + (self.HIGH - self.LOW) / self.BINS * reached.argmax(axis=1)
        return np.clip(intensity - offset, 0.0, HIGHEST)
