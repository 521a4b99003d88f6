"""The smallest defect that each figure sees: caught in at least 95 of 100 runs with at most 1 false alarm in 100.

A run is compared with an earlier one clip by clip: the statistic is the median over clips of how much worse the figure
became. Without a defect it scatters as the reference's repetitions and our own run do against each other; its 99th
percentile over resampled clips is the threshold. With a defect of some size in our run, the share of resamples beyond
the threshold is the power. This is a run on another machine than the baseline's. On the same one runs repeat to the
bit, so there the tripwires' tolerances alone decide, and they have a row of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from validation.baseline import Tripwires, worsening
from validation.errors import Undefined
from validation.figures import Figure, better
from validation.stats import decided, interval, signed_rank_p

POWER, FALSE_ALARMS, DRAWS = 0.95, 0.01, 2000
FIGURES = (
    "landmarks.mean_px", "landmarks.p95_px", "landmarks.nme", "pose.axis_deg", "gaze.angle_deg", "intensity.ccc",
    "intensity.mae", "intensity.worst_bias", "presence.agreement", "presence.worst_agreement",
)  # fmt: skip

SAME_MACHINE = "any tripwire, same machine"

Values = dict[str, dict[str, float]]
"""clip -> figure -> value"""


@dataclass(frozen=True)
class Row:
    """The power of one figure for one defect; ``smallest`` is ``None`` if no size is caught often enough."""

    defect: str
    unit: str
    figure: str
    threshold: float
    false_alarms: float
    powers: dict[str, float]
    smallest: float | None

    def to_json(self) -> dict[str, Any]:
        """As a plain dictionary."""
        return asdict(self)


def power_table(
    defect: str, unit: str, plain: Sequence[Values], with_defect: Mapping[float, Values], seed: int = 20
) -> list[Row]:
    """One row a figure. ``plain``: runs without a defect, ours first; ``with_defect``: ours, by size of the defect."""
    return [row for name in FIGURES if (row := _row(defect, unit, name, plain, with_defect, seed)) is not None]


def _row(
    defect: str, unit: str, figure: str, plain: Sequence[Values], with_defect: Mapping[float, Values], seed: int
) -> Row | None:
    every = [*plain, *with_defect.values()]
    clips = sorted(clip for clip in plain[0] if all(figure in values.get(clip, {}) for values in every))
    if len(clips) < 3:
        return None
    sign = -1.0 if better(figure) == "higher" else 1.0
    runs = sign * np.array([[values[clip][figure] for clip in clips] for values in plain])
    rng = np.random.default_rng(seed)
    n = len(clips)
    null = _statistics(rng, runs, runs, n, distinct=True)
    threshold = float(np.quantile(null, 1 - FALSE_ALARMS, method="higher"))
    powers = {}
    for size, values in with_defect.items():
        worse = sign * np.array([[values[clip][figure] for clip in clips]])
        powers[size] = float((_statistics(rng, worse, runs, n, distinct=False) > threshold).mean())
    # Caught from this size on: a larger defect that is missed again would make a smaller one useless.
    caught = [s for s in sorted(powers) if all(powers[t] >= POWER for t in powers if t >= s)]
    return Row(
        defect, unit, figure, threshold, float((null > threshold).mean()),
        {f"{size:g}": power for size, power in powers.items()}, caught[0] if caught else None,
    )  # fmt: skip


def _statistics(
    rng: np.random.Generator, runs: np.ndarray, baselines: np.ndarray, clips: int, distinct: bool
) -> np.ndarray:
    """Median over resampled clips of run - baseline, f64 (DRAWS,); ``distinct``: never a run against itself."""
    run = rng.integers(0, len(runs), DRAWS)
    if distinct:
        base = (run + rng.integers(1, len(baselines), DRAWS)) % len(baselines)
    else:
        base = rng.integers(0, len(baselines), DRAWS)
    chosen = rng.integers(0, clips, (DRAWS, clips))
    gap = runs[run[:, None], chosen] - baselines[base[:, None], chosen]
    return np.median(gap, axis=1)


def tripwire_row(
    defect: str,
    unit: str,
    ours: Values,
    with_defect: Mapping[float, Values],
    floors: Mapping[str, Mapping[str, Figure]],
    wires: Tripwires,
) -> Row:
    """What the tripwires see on the machine of the baseline, where a run repeats to the bit and the null is 0.

    ``powers`` is the share of clips on which at least one tripwire fails; one clip is enough to be caught.
    """
    powers = {
        size: float(np.mean([_trips(ours[clip], values[clip], floors[clip], wires) for clip in sorted(ours)]))
        for size, values in with_defect.items()
    }
    caught = [s for s in sorted(powers) if all(powers[t] > 0 for t in powers if t >= s)]
    text = {f"{size:g}": power for size, power in powers.items()}
    return Row(defect, unit, SAME_MACHINE, 0.0, 0.0, text, caught[0] if caught else None)


def _trips(
    before: Mapping[str, float], now: Mapping[str, float], floor: Mapping[str, Figure], wires: Tripwires
) -> bool:
    return any(
        worsening(name, before[name], now[name]) > wires.allowed(name, floor[name].value)
        for name in wires.tolerance
        if name in before and name in now
    )


SLOWDOWNS = (0.0, 0.02, 0.05, 0.08, 0.10, 0.12, 0.15, 0.20, 0.30)
SLOWDOWN_MATTERS = 0.15


def slowdown_rows(
    base: Sequence[dict[str, float]],
    tree: Sequence[dict[str, float]],
    names: Sequence[str],
    rounds: int,
    budget: float,
    draws: int = 400,
    seed: int = 20,
) -> list[Row]:
    """Power of the speed command's own decision, from recorded rounds of two equal trees.

    Each draw takes so many of the recorded rounds, swaps the trees of each at random, and makes the tree slower.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for name in names:
        pairs = np.array([(a[name], b[name]) for a, b in zip(base, tree, strict=True) if name in a and name in b])
        if len(pairs) < 2 * 3:
            raise Undefined(f"{len(pairs)} recorded rounds; at least 6 are needed to know their spread")
        chosen = pairs[rng.integers(0, len(pairs), (draws, rounds))]
        swapped = rng.random((draws, rounds, 1)) < 0.5
        chosen = np.where(swapped, chosen[..., ::-1], chosen)
        powers = _shares_found(chosen[..., 1] / chosen[..., 0], budget)
        false_alarms = powers.pop(0.0)
        caught = [s for s in powers if all(powers[t] >= POWER for t in powers if t >= s)]
        good = caught[0] if caught and false_alarms <= FALSE_ALARMS else None
        text = {f"{100 * s:g}": power for s, power in powers.items()}
        smallest = None if good is None else 100 * good
        rows.append(Row("slowdown", "%", f"speed {name}", budget, false_alarms, text, smallest))
    return rows


def _shares_found(ratios: np.ndarray, budget: float) -> dict[float, float]:
    """By size, the share of draws of ratios tree / base, f64 (draws, rounds), in which a tree so much slower is found.

    Median and interval grow with the ratios, so they are taken once.
    """
    middle, low = np.median(ratios, axis=1), np.array([interval(row)[0] for row in ratios])
    return {
        slower: float(
            decided(middle * (1 + slower), low * (1 + slower), signed_rank_p(ratios * (1 + slower)), budget).mean()
        )
        for slower in SLOWDOWNS
    }
