"""The local history: one line a run, and where a figure changed for good."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from validation import record as records
from validation.errors import HarnessError

FILE = "history.jsonl"
"""Its name in the folder of the records."""
_SMALLEST_SEGMENT = 3


def summary(record: dict[str, Any], path: Path) -> dict[str, Any]:
    """What the history keeps of a record: its head, the verdict, and the mean of every figure and of every clip."""
    environment = record["environment"]
    return {
        "id": record["id"],
        "started": record["started"],
        "kind": record["kind"],
        "configuration": record.get("configuration"),
        "commit": environment["commit"],
        "dirty": environment["dirty"],
        "cpu": environment["cpu"],
        "verdict": record["verdict"]["verdict"],
        "record": str(path),
        "totals": {name: total["mean"] for name, total in record.get("totals", {}).items()},
        "clips": {
            clip["clip"]: {name: figure["value"] for name, figure in clip["figures"].items()}
            for clip in record.get("clips", [])
        },
    }


def append(record: dict[str, Any], path: Path, history: Path | None = None) -> None:
    """Add one line, in one write, so that runs side by side do not mix their lines."""
    history = history or records.RUNS / FILE
    line = json.dumps(summary(record, path), separators=(",", ":"), allow_nan=False) + "\n"
    try:
        history.parent.mkdir(parents=True, exist_ok=True)
        with history.open("a", encoding="utf-8") as stream:
            stream.write(line)
    except OSError as error:
        raise HarnessError(f"{history}: cannot be written ({error.strerror})") from error


def read(history: Path | None = None) -> list[dict[str, Any]]:
    """All runs, oldest first; ``HarnessError`` if there is no history or a line of it is damaged."""
    history = history or records.RUNS / FILE
    try:
        lines = history.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise HarnessError(f"{history}: no history ({error.strerror}); make a run first") from error
    runs = []
    for number, line in enumerate(lines, start=1):
        try:
            runs.append(json.loads(line))
        except ValueError as error:
            raise HarnessError(f"{history}, line {number}: damaged; delete that line") from error
    return runs


def trace(runs: list[dict[str, Any]], figure: str, clip: str | None, configuration: str) -> list[tuple[dict, float]]:
    """The runs of a configuration that have the figure (of one clip, or the mean over clips), with its value."""
    found = []
    for run in runs:
        if run["configuration"] != configuration:
            continue
        values = run["totals"] if clip is None else run["clips"].get(clip, {})
        if values.get(figure) is not None:
            found.append((run, values[figure]))
    return found


@dataclass(frozen=True)
class Change:
    """The level changes from ``before`` to ``after`` with the run at ``index``; ``p`` by permutation."""

    index: int
    before: float
    after: float
    p: float


def change_points(values: list[float], alpha: float = 0.01, permutations: int = 999, seed: int = 20) -> list[Change]:
    """Binary segmentation (Scott & Knott 1974): split where the between-segment sum of squares is largest, if a
    permutation test of that maximum says it is no chance; then the same in both halves. Segments have at least 3 runs.
    """
    series = np.asarray(values, np.float64)
    rng = np.random.default_rng(seed)
    starts: list[tuple[int, float]] = []

    def split(start: int, stop: int) -> None:
        part = series[start:stop]
        if len(part) < 2 * _SMALLEST_SEGMENT or np.ptp(part) == 0:
            return
        gain, at = _best_split(part)
        shuffled = [_best_split(rng.permutation(part))[0] for _ in range(permutations)]
        p = (1 + sum(g >= gain - 1e-12 for g in shuffled)) / (permutations + 1)
        if p <= alpha:
            split(start, start + at)
            starts.append((start + at, p))
            split(start + at, stop)

    split(0, len(series))
    edges = [0, *(index for index, _ in starts), len(series)]
    levels = [float(series[a:b].mean()) if b > a else 0.0 for a, b in pairwise(edges)]
    return [Change(index, levels[i], levels[i + 1], p) for i, (index, p) in enumerate(starts)]


def _best_split(part: np.ndarray) -> tuple[float, int]:
    """Largest between-segment sum of squares over all splits, and where."""
    n = len(part)
    sizes = np.arange(1, n)
    left = np.cumsum(part)[:-1]
    gains = (left - sizes * part.mean()) ** 2 * n / (sizes * (n - sizes))
    inside = slice(_SMALLEST_SEGMENT - 1, n - _SMALLEST_SEGMENT)
    at = int(np.argmax(gains[inside])) + _SMALLEST_SEGMENT
    return float(gains[at - 1]), at
