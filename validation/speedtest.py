"""Times the working tree against a base revision on this machine, in turns, with the calibration workload beside.

A round: calibration, a fresh process of either tree, passes over the clips by turns (see ``turns.py``), calibration.
The first pass of a process is warm-up, the others are its steady state.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np

from validation.adapter import STAGES_OUTSIDE_FRAMES, kernel_cache, per_frame
from validation.calibration import Calibrator
from validation.environment import git
from validation.errors import HarnessError
from validation.files import REPOSITORY
from validation.metrics import speed
from validation.turns import one_round


@dataclass
class Side:
    """The rounds of one tree."""

    tree: Path
    cold: list[dict[str, float]] = field(default_factory=list)
    figures: list[dict[str, float]] = field(default_factory=list)

    def series(self, name: str) -> list[float]:
        """One figure over the rounds."""
        return [values[name] for values in self.figures if name in values]


@contextmanager
def worktree(revision: str) -> Iterator[Path]:
    """A git worktree of the revision in a temporary folder; removed afterwards."""
    commit = git("rev-parse", "--verify", f"{revision}^{{commit}}")
    if commit is None:
        raise HarnessError(f"revision {revision!r} is not in this repository; name a commit, tag or branch")
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "base"
        if git("worktree", "add", "--detach", str(tree), commit) is None:
            raise HarnessError(f"no worktree of {revision!r} can be made; run `git worktree prune` and try again")
        try:
            yield tree
        finally:
            git("worktree", "remove", "--force", str(tree))


def figures_of(answer: dict[str, Any], threads: int) -> dict[str, float]:
    """The steady-state figures of one round: ms a frame, percentiles and stages; median over its clips.

    Of the passes after the first. The whole frame: all of its times in all passes. A stage: frame by frame its median
    over the passes, as every pass does the same work in a frame and a disturbance hits another frame each time.
    """
    per_clip: dict[str, list[float]] = {}
    for passes in answer["clips"].values():
        stages = _stage_figures(passes[1:])
        for name, value in {**_frame_figures(passes[1:], stages, threads), **stages}.items():
            per_clip.setdefault(name, []).append(value)
    return {name: median(values) for name, values in per_clip.items()}


def _frame_figures(passes: list[dict[str, Any]], stages: dict[str, float], threads: int) -> dict[str, float]:
    """Of the whole frame; the share that no stage claims where one thread does everything."""
    times = [np.array(one["intervals_ms"]) for one in passes]
    all_steady = np.concatenate([speed.steady(one) for one in times])
    found = {"mean_ms": float(all_steady.mean()), "first_ms": median(one[0] for one in times)}
    found.update({f"p{p}_ms": float(np.percentile(all_steady, p)) for p in (50, 95, 99)})
    if threads == 1:
        outer = {stage: stages[f"{stage}_ms"] for stage in passes[0]["stages"] if _adds_up(stage)}
        usual = speed.mean_ms(np.median(times, axis=0))
        found["unaccounted_share"] = speed.unaccounted_share(usual, outer)
    return found


def _stage_figures(passes: list[dict[str, Any]]) -> dict[str, float]:
    """Of every stage, from its median over the passes in each frame.

    Of one outside of frames, the mean over the passes of its median call: a core may be in one of two states for a
    whole pass, and a median would jump between them.
    """
    found: dict[str, float] = {}
    for stage in passes[0]["stages"]:
        if stage in STAGES_OUTSIDE_FRAMES:
            found[f"{stage}_ms"] = fmean(median(one["stages"][stage]["ms"]) for one in passes)
            continue
        usual = np.median([_by_frame(one, stage) for one in passes], axis=0)
        found.update({f"{stage}.p{p}_ms": speed.percentile_ms(usual, p) for p in (50, 95, 99)})
        found[f"{stage}_ms"] = speed.mean_ms(usual)
    return found


def _adds_up(stage: str) -> bool:
    """Whether it is part of the frame's time, and not of another stage's."""
    return stage not in STAGES_OUTSIDE_FRAMES and "." not in stage


def _by_frame(one: dict[str, Any], stage: str) -> np.ndarray:
    recorded = one["stages"][stage]
    return per_frame(np.array(recorded["frames"]), np.array(recorded["ms"]), one["frames"])


def judged(figures: dict[str, float]) -> list[str]:
    """The figures in ms that two trees are compared by: of the whole frame, and the mean of each stage."""
    return [n for n in figures if n.endswith("_ms") and not re.search(r"\.p\d+_ms$", n) and n != "first_ms"]


def cold_of(answer: dict[str, Any]) -> dict[str, float]:
    """Cold figures of one process: from its start to the first frame's result, loading, peak memory."""
    cold = {
        "import_ms": answer["import_s"] * 1e3,
        "load_ms": answer["load_s"] * 1e3,
        "start_to_first_frame_ms": answer["first_frame_s"] * 1e3,
    }
    return {**cold, "peak_mb": answer["peak_mb"]} if answer["peak_mb"] is not None else cold


def measure(
    tree: Path, base: Path | None, request: dict[str, Any], rounds: int, threads: int, report: Callable[[str], None]
) -> tuple[Side, Side | None, list[float]]:
    """All rounds, and the calibration's ms of each; the first process of a tree compiles and is not counted.

    A tree in a temporary folder has to compile, a minute or more, if its kernels are not those of the working tree.
    """
    sides = [Side(base)] if base else []
    sides.append(Side(tree))
    # What a temporary tree compiles goes away with its folder instead of filling the cache of the user.
    caches = {side.tree: side.tree.parent / "cache" for side in sides if side.tree != REPOSITORY}
    for side in sorted(sides, key=lambda side: side.tree in caches):
        if side.tree in caches:  # if its kernels are the working tree's, they are compiled by now
            shutil.copytree(kernel_cache(), caches[side.tree] / "kernels" / kernel_cache().name)
        one_round([side.tree], {**request, "passes": 1}, caches)
    calibrations = []
    with Calibrator() as calibrator:
        for number in range(rounds):
            calibration = calibrator.measure()
            order = sides if number % 2 == 0 else sides[::-1]
            for side, answer in zip(order, one_round([side.tree for side in order], request, caches), strict=True):
                side.figures.append(figures_of(answer, threads))
                side.cold.append(cold_of(answer))
            calibration = (calibration + calibrator.measure()) / 2
            calibrations.append(calibration)
            for side in sides:
                mean = side.figures[-1]["mean_ms"]
                side.figures[-1]["per_calibration"] = speed.per_calibration(mean, calibration)
            texts = [f"{side.figures[-1]['mean_ms']:.2f} ms" for side in sides]
            report(f"round {number + 1} of {rounds}: {' | '.join(texts)} a frame, calibration {calibration:.0f} ms")
    return sides[-1], sides[0] if base else None, calibrations


def first_run_s(tree: Path, request: dict[str, Any]) -> float:
    """Seconds of a process that finds no compiled kernel: the very first run after an installation."""
    with tempfile.TemporaryDirectory() as cache:
        start = time.perf_counter()
        one_round([tree], {**request, "passes": 1}, {tree: Path(cache)})
        return time.perf_counter() - start
