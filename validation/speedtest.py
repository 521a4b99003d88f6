"""Times the working tree against a base revision on this machine, in turns, with the calibration workload beside.

A round: calibration, a fresh process of either tree, passes over the clips in turns (base, tree, tree, base, ...), so
that a slow second hits both, calibration. The first pass of a process is warm-up, the lowest times of the others are
its steady state.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from validation.adapter import STAGES_OUTSIDE_FRAMES, per_frame
from validation.calibration import Calibrator
from validation.environment import git
from validation.errors import HarnessError
from validation.files import REPOSITORY
from validation.metrics import speed

WORKER = Path(__file__).with_name("worker.py")


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


class Worker:
    """A process that times passes over clips with the pyfaceau of one tree; see ``worker.py``.

    ``cache``: folder for compiled kernels, instead of the user's. A context manager.
    """

    def __init__(self, tree: Path, request: dict[str, Any], cache: Path | None = None) -> None:
        self.tree = tree
        self._scratch = tempfile.TemporaryDirectory()
        asked = Path(self._scratch.name) / "request.json"
        asked.write_text(json.dumps({**request, "scratch": self._scratch.name}), encoding="utf-8")
        environment = {**os.environ, **({"PYFACEAU_CACHE": str(cache)} if cache else {})}
        environment.pop("PYTHONPATH", None)
        safe = ["-P"] if sys.version_info >= (3, 11) else []  # do not import from the script's own folder
        self._complaints = (Path(self._scratch.name) / "stderr.txt").open("w+", encoding="utf-8")
        self._process = subprocess.Popen(
            [sys.executable, *safe, str(WORKER), str(tree), str(asked)],
            cwd=tree, env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._complaints,
        )  # fmt: skip
        self.loaded = self._answer()
        self.passes: list[dict[str, Any]] = []

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()
        self._complaints.close()
        self._scratch.cleanup()

    def one_pass(self) -> None:
        """Every clip once."""
        assert self._process.stdin is not None
        self._process.stdin.write("pass\n")
        self._process.stdin.flush()
        self.passes.append(self._answer())

    def end(self) -> dict[str, Any]:
        """Everything it measured: ``clips`` by name and pass, and the cold figures."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.stdin = None
        clips = {name: [one[name] for one in self.passes] for name in self.passes[0]}
        first = next(iter(clips.values()))[0]["intervals_ms"][0] / 1e3
        return {"clips": clips, **self.loaded, "first_frame_s": sum(self.loaded.values()) + first, **self._answer()}

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._complaints.seek(0)
            words = self._complaints.read().strip().splitlines()[-1:] or ["it said nothing"]
            raise HarnessError(f"a round of {self.tree} failed: {words[0]}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def one_round(
    trees: Sequence[Path], request: dict[str, Any], caches: Mapping[Path, Path] | None = None
) -> list[dict[str, Any]]:
    """A process of each tree, started one after the other, and their passes in turns; what each measured.

    ``caches``: by tree, a folder of its own for compiled kernels.
    """
    with ExitStack() as stack:
        workers = [stack.enter_context(Worker(tree, request, (caches or {}).get(tree))) for tree in trees]
        for number in range(request["passes"]):
            for worker in workers if number % 2 == 0 else workers[::-1]:
                worker.one_pass()
        return [worker.end() for worker in workers]


def figures_of(answer: dict[str, Any], threads: int) -> dict[str, float]:
    """The steady-state figures of one round: ms a frame, percentiles and stages; median over its clips.

    Other processes only ever add time, so the lowest of the passes after the first count: of a stage frame by frame, as
    every pass does the same work in a frame, and of the whole frame, where threads wait for each other, pass by pass.
    """
    per_clip: dict[str, list[float]] = {}
    for passes in answer["clips"].values():
        whole = [_frame_figures(one, threads) for one in passes[1:]]
        found = {name: min(values[name] for values in whole) for name in whole[0]}
        for name, value in {**found, **_stage_figures(passes[1:])}.items():
            per_clip.setdefault(name, []).append(value)
    return {name: median(values) for name, values in per_clip.items()}


def _frame_figures(one: dict[str, Any], threads: int) -> dict[str, float]:
    """Of the whole frame in one pass; the share that no stage claims where one thread does everything."""
    times = np.array(one["intervals_ms"])
    found = {"mean_ms": speed.mean_ms(times), "first_ms": float(times[0])}
    found.update({f"p{p}_ms": speed.percentile_ms(times, p) for p in (50, 95, 99)})
    if threads == 1:
        outer = {stage: speed.mean_ms(_by_frame(one, stage)) for stage in one["stages"] if _adds_up(stage)}
        found["unaccounted_share"] = speed.unaccounted_share(found["mean_ms"], outer)
    return found


def _stage_figures(passes: list[dict[str, Any]]) -> dict[str, float]:
    """Of every stage, from its lowest time in each frame; of one outside of frames, its quickest call."""
    found: dict[str, float] = {}
    for stage in passes[0]["stages"]:
        if stage in STAGES_OUTSIDE_FRAMES:
            found[f"{stage}_ms"] = min(min(one["stages"][stage]["ms"]) for one in passes)
            continue
        lowest = np.min([_by_frame(one, stage) for one in passes], axis=0)
        found.update({f"{stage}.p{p}_ms": speed.percentile_ms(lowest, p) for p in (50, 95, 99)})
        found[f"{stage}_ms"] = speed.mean_ms(lowest)
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

    A tree in a temporary folder always has to compile, a minute or more.
    """
    sides = [Side(base)] if base else []
    sides.append(Side(tree))
    # What a temporary tree compiles goes away with its folder instead of filling the cache of the user.
    caches = {side.tree: side.tree.parent / "cache" for side in sides if side.tree != REPOSITORY}
    for side in sides:
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
