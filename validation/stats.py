"""The decision of the speed command: is the working tree slower than the base by more than a budget and the spread?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import numpy as np

from validation.errors import Undefined

LEVEL = 0.99
"""of the interval"""
RESAMPLES = 4000
ALPHA = 0.05


@dataclass(frozen=True)
class SlowDown:
    """Ratio tree / base with its interval, and the one-sided p of "the tree is slower", by two tests."""

    base: float
    tree: float
    ratio: float
    """median over rounds of tree / base"""
    low: float
    high: float
    p: float
    """of the rounds in pairs: an exact signed rank test"""
    mann_whitney: float
    """of all rounds of one tree against all of the other, whatever the machine did between them"""
    rounds: int
    budget: float
    slower: bool
    """beyond the budget and beyond the spread: ratio > 1 + budget, low > 1, p < 0.05"""

    def to_json(self) -> dict[str, Any]:
        """As a plain dictionary."""
        return asdict(self)


def slow_down(base: Sequence[float], tree: Sequence[float], budget: float) -> SlowDown:
    """Compare rounds that were taken in turns.

    Both trees of a round meet the same machine, so the ratio within the round is what counts: its median, the 99 %
    percentile bootstrap interval of that median, and Mann & Whitney's U (1947) of the rounds after each was divided by
    its own level, exact over all swaps within rounds, which is Wilcoxon's signed rank test (1945) of the log ratios.
    Mann & Whitney's U of the undivided times is given beside it; it sees less where the machine's speed drifts.
    ``Undefined`` below 5 rounds or where the numbers of rounds differ.
    """
    from scipy import stats

    a, b = np.asarray(base, np.float64), np.asarray(tree, np.float64)
    if len(a) < 5 or len(a) != len(b):
        raise Undefined(f"{len(a)} and {len(b)} rounds; at least 5 of each are needed")
    ratios = b / a
    paired = float(signed_rank_p(ratios))
    whole = float(stats.mannwhitneyu(b, a, alternative="greater").pvalue)
    ratio, (low, high) = float(np.median(ratios)), interval(ratios)
    slower = bool(decided(ratio, low, paired, budget))
    return SlowDown(
        float(np.median(a)), float(np.median(b)), ratio, low, high, paired, whole, len(a), budget, slower
    )  # fmt: skip


def signed_rank_p(ratios: np.ndarray) -> np.ndarray:
    """One-sided exact p of "ratios of rounds, f64 (..., rounds), are above 1": f64 (...).

    A ratio of 1 does not speak for it; between equal sizes the larger p is given.
    """
    from scipy import stats

    logs = np.log(ratios)
    ranks = stats.rankdata(np.abs(logs), axis=-1)
    found = np.floor(np.where(logs > 0, ranks, 0.0).sum(axis=-1)).astype(int)
    at_least: np.ndarray = _signed_rank_tail(logs.shape[-1])[found]
    return at_least


@cache
def _signed_rank_tail(count: int) -> np.ndarray:
    """P(sum of the ranks above 1 >= w) for w = 0, 1, .. if every one of so many rounds may be swapped."""
    ways: np.ndarray = np.ones(1)
    for rank in range(1, count + 1):
        ways = np.convolve(ways, [1.0, *[0.0] * (rank - 1), 1.0])
    tail: np.ndarray = ways[::-1].cumsum()[::-1] / ways.sum()
    return tail


def decided(ratio: Any, low: Any, p: Any, budget: float) -> Any:
    """Whether the tree counts as slower, for one comparison or arrays of them."""
    return (ratio > 1 + budget) & (low > 1) & (p < ALPHA)


def interval(ratios: np.ndarray) -> tuple[float, float]:
    """Percentile bootstrap interval of the median of a few ratios; the same resamples every time."""
    tail = 50 * (1 - LEVEL)
    low, high = np.percentile(np.median(ratios[_resamples(len(ratios))], axis=1), [tail, 100 - tail])
    return float(low), float(high)


@cache
def _resamples(count: int) -> np.ndarray:
    return np.random.default_rng(20).integers(0, count, (RESAMPLES, count))
