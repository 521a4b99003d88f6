"""Uncertainty over clips. Frames of a clip are autocorrelated, so the clip is the unit: never resample frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from validation.errors import Undefined

FEWEST = 3
"""Clips that an interval or a test needs."""


@dataclass(frozen=True)
class Interval:
    """A percentile bootstrap interval of a statistic over ``n`` clips."""

    value: float
    low: float
    high: float
    n: int
    level: float

    def to_json(self) -> dict[str, float]:
        """As a plain dictionary."""
        return asdict(self)


def bootstrap(
    per_clip: Sequence[float],
    statistic: Callable[..., np.ndarray] = np.mean,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 20,
) -> Interval:
    """Percentile interval (Efron & Tibshirani 1993, ch. 13) of ``statistic`` (takes ``axis``) over clips.

    The seed is fixed so that the same run always prints the same interval. ``Undefined`` below ``FEWEST`` clips.
    """
    values = np.asarray(per_clip, dtype=np.float64)
    if len(values) < FEWEST:
        raise Undefined(f"{len(values)} clips are too few for an interval")
    rng = np.random.default_rng(seed)
    samples = values[rng.integers(0, len(values), (resamples, len(values)))]
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(statistic(samples, axis=1), [tail, 100 - tail])
    return Interval(float(statistic(values, axis=0)), float(low), float(high), len(values), level)


@dataclass(frozen=True)
class Equivalence:
    """Two one-sided tests: equivalent within the margin if ``p`` < ``alpha``."""

    mean: float
    margin: float
    p: float
    low: float
    high: float
    n: int
    alpha: float
    equivalent: bool

    def to_json(self) -> dict[str, float | bool]:
        """As a plain dictionary."""
        return asdict(self)


def tost(per_clip: Sequence[float], margin: float, alpha: float = 0.05) -> Equivalence:
    """Equivalence of the mean over clips to 0 within +-margin (Schuirmann 1987): p = max of the two one-sided t tests.

    ``low``, ``high``: the 1 - 2 alpha interval, which lies within the margin exactly when ``p`` < alpha.
    """
    from scipy import stats

    values = np.asarray(per_clip, dtype=np.float64)
    n = len(values)
    if n < FEWEST:
        raise Undefined(f"{n} clips are too few for a test")
    mean, error = float(values.mean()), float(values.std(ddof=1) / np.sqrt(n))
    if error == 0:
        p = 0.0 if abs(mean) < margin else 1.0
        return Equivalence(mean, margin, p, mean, mean, n, alpha, p < alpha)
    below = stats.t.sf((mean + margin) / error, n - 1)
    above = stats.t.cdf((mean - margin) / error, n - 1)
    half = float(stats.t.ppf(1 - alpha, n - 1)) * error
    p = float(max(below, above))
    return Equivalence(mean, margin, p, mean - half, mean + half, n, alpha, p < alpha)
