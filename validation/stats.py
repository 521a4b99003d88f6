"""The decision of the speed command: is the working tree slower than the base by more than a budget and the spread?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from validation.errors import Undefined


@dataclass(frozen=True)
class SlowDown:
    """Ratio of medians (tree / base) with its interval, and the one-sided p of "the tree is slower"."""

    base: float
    tree: float
    ratio: float
    low: float
    high: float
    p: float
    rounds: int
    budget: float
    slower: bool
    """beyond the budget and beyond the spread: ratio > 1 + budget, low > 1, p < alpha"""

    def to_json(self) -> dict[str, Any]:
        """As a plain dictionary."""
        return asdict(self)


def slow_down(
    base: Sequence[float], tree: Sequence[float], budget: float, alpha: float = 0.01, seed: int = 20
) -> SlowDown:
    """Compare rounds that were taken in turns.

    p: Mann & Whitney's U (1947), one-sided, exact for these sizes. Interval: 99 % percentile bootstrap of the ratio
    of medians over pairs of neighbouring rounds, so that a change of the machine's speed cancels. ``Undefined`` below
    5 rounds or where the numbers of rounds differ.
    """
    from scipy import stats

    a, b = np.asarray(base, np.float64), np.asarray(tree, np.float64)
    if len(a) < 5 or len(a) != len(b):
        raise Undefined(f"{len(a)} and {len(b)} rounds; at least 5 of each are needed")
    p = float(stats.mannwhitneyu(b, a, alternative="greater").pvalue)
    rng = np.random.default_rng(seed)
    chosen = rng.integers(0, len(a), (4000, len(a)))
    ratios = np.median(b[chosen], axis=1) / np.median(a[chosen], axis=1)
    low, high = np.percentile(ratios, [0.5, 99.5])
    ratio = float(np.median(b) / np.median(a))
    slower = bool(ratio > 1 + budget and low > 1 and p < alpha)
    return SlowDown(float(np.median(a)), float(np.median(b)), ratio, float(low), float(high), p, len(a), budget, slower)
