"""Turns a record's figures into verdicts by the gates of ``golden/gates.toml``.

A gate names a ``figure``, the clips it is ``over`` ("each", or the "mean" or "median" over clips), which ``clips``
(by number of faces: one, several, none) and ``configurations`` it is for, and a bound: ``at_most`` or ``at_least``.
``or_floor_times`` widens the bound of a clip to that multiple of the clip's own noise floor.
A bound that is broken is INCONCLUSIVE rather than FAIL where the data cannot tell: pixels that differ from the
reference's, too few frames, a reference that does not agree with itself that well, or (``machine = "same"``) another
machine than the baseline's. A bound over clips is not asked of a run of fewer than ``min_clips`` of them, and one with
``threads`` only of a run with so many. Bounds of times are not asked of a run without calibration.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from statistics import fmean, median
from typing import Any

from validation.errors import HarnessError
from validation.files import read_toml
from validation.verdict import ERROR, FAIL, INCONCLUSIVE, PASS, Result

_KEYS = {
    "name", "figure", "over", "clips", "names", "configurations", "at_most", "at_least",
    "or_floor_times", "min_frames", "min_clips", "machine", "threads", "why",
}  # fmt: skip
DEFAULT_MIN_FRAMES = 20
GATES = "gates.toml"
"""Its name in the folder of the goldens."""


@dataclass(frozen=True)
class Gate:
    """One entry of ``gates.toml``."""

    name: str
    figure: str
    over: str
    at_most: float | None = None
    at_least: float | None = None
    or_floor_times: float | None = None
    clips: tuple[str, ...] = ("one", "several")
    names: tuple[str, ...] = ("*",)
    configurations: tuple[str, ...] = ("*",)
    min_frames: int = DEFAULT_MIN_FRAMES
    min_clips: int = 1
    machine: str = "any"
    threads: int | None = None
    why: str = ""

    @property
    def limit(self) -> float:
        """The bound without the floor."""
        return self.at_most if self.at_most is not None else self.at_least  # type: ignore[return-value]

    @property
    def of_time(self) -> bool:
        """Whether its figure is a time."""
        return self.figure.startswith("speed.")

    def applies(self, configuration: str, clip: dict[str, Any]) -> bool:
        """Whether the gate is for this clip of this configuration."""
        return (
            any(fnmatch(configuration, c) for c in self.configurations)
            and clip["faces"] in self.clips
            and any(fnmatch(clip["clip"], n) for n in self.names)
        )

    def bound(self, floor: float | None) -> float:
        """The bound of a clip with this floor."""
        if self.or_floor_times is None or floor is None:
            return self.limit
        wide = self.or_floor_times * floor
        return max(self.limit, wide) if self.at_most is not None else min(self.limit, wide)

    def holds(self, value: float, bound: float) -> bool:
        """Whether the value is on the right side."""
        return value <= bound if self.at_most is not None else value >= bound


def read_gates(path: Path) -> list[Gate]:
    """The gates of a file; ``HarnessError`` if one is not what this module reads."""
    entries = read_toml(path, "the gates").get("gate", [])
    if not entries:
        raise HarnessError(f"{path}: no [[gate]] in it, so nothing would be checked")
    gates = []
    for entry in entries:
        name = entry.get("name", "?")
        if unknown := sorted(entry.keys() - _KEYS):
            raise HarnessError(f"{path}, gate {name!r}: unknown key {unknown[0]!r}; known: {', '.join(sorted(_KEYS))}")
        if ("at_most" in entry) == ("at_least" in entry):
            raise HarnessError(f"{path}, gate {name!r}: give at_most or at_least, one of the two")
        if entry.get("over") not in ("each", "mean", "median"):
            raise HarnessError(f"{path}, gate {name!r}: over must be each, mean or median")
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in entry.items()}
        gates.append(Gate(**values))
    return gates


def judge(record: dict[str, Any], gates: list[Gate], same_machine: bool | None = None) -> list[Result]:
    """Every gate on every clip of a run's record, errors and pixel checks included.

    ``same_machine``: whether the record's machine is the baseline's; ``None`` if there is no baseline.
    """
    results = [clip_state(clip) for clip in record["clips"]]
    usable = [clip for clip in record["clips"] if not clip["error"]]
    calibrated = any("speed.per_calibration" in clip["figures"] for clip in usable)
    for gate in gates:
        if gate.threads not in (None, record.get("threads")) or (gate.of_time and not calibrated):
            continue
        chosen = [clip for clip in usable if gate.applies(record["configuration"], clip)]
        if gate.over == "each":
            results += [_each(gate, clip, same_machine) for clip in chosen]
        elif len(chosen) >= gate.min_clips:
            results.append(_over(gate, chosen, same_machine))
    return results


def clip_state(clip: dict[str, Any]) -> Result:
    """Whether the clip ran, and saw the reference's pixels."""
    name = clip["clip"]
    if clip["error"]:
        return Result("ran", ERROR, f"{name}: {clip['error']}", clip=name)
    pixels = clip["pixels"]
    if pixels["verdict"] == "differ":
        sentence = (
            f"{name}: {pixels['differing']} of {pixels['frames']} decoded frames are not the reference's pixels "
            f"(first: frame {pixels['first']}), so its figures compare decoders too"
        )
        return Result("pixels", INCONCLUSIVE, sentence, clip=name, value=float(pixels["differing"]), bound=0.0)
    if pixels["verdict"] == "unknown":
        return Result("pixels", PASS, f"{name}: no digest of the reference's pixels to check against", clip=name)
    return Result("pixels", PASS, f"{name}: all {pixels['frames']} decoded frames are the reference's", clip=name)


def _each(gate: Gate, clip: dict[str, Any], same_machine: bool | None) -> Result:
    name = clip["clip"]
    figure = clip["figures"].get(gate.figure)
    if figure is None or figure["value"] is None:
        reason = figure["reason"] if figure else "not measured in this run"
        return _result(gate, INCONCLUSIVE, f"{name}: {gate.figure} has no value ({reason})", name)
    floor = _floor(clip, gate.figure)
    value, bound = figure["value"], gate.bound(floor)
    text = f"{name}: {gate.figure} is {_number(value)}, bound {_comparison(gate)} {_number(bound)}"
    if floor is not None:
        text += f" (the reference against itself: {_number(floor)})"
    if gate.holds(value, bound):
        return _result(gate, PASS, text, name, value, bound)
    excuse = _excuse(gate, [clip], floor, bound, same_machine)
    if excuse:
        return _result(gate, INCONCLUSIVE, f"{text}; undecided, {excuse}", name, value, bound)
    return _result(gate, FAIL, f"{text}; off by {_number(abs(value - bound))}", name, value, bound)


def _over(gate: Gate, clips: list[dict[str, Any]], same_machine: bool | None) -> Result:
    statistic = fmean if gate.over == "mean" else median
    figures = [clip["figures"].get(gate.figure) for clip in clips]
    values = [f["value"] for f in figures if f is not None and f["value"] is not None]
    what = f"{gate.over} of {gate.figure} over {len(values)} clips"
    if not values:
        return _result(gate, INCONCLUSIVE, f"{what}: no clip has a value")
    floors = [f for f in (_floor(clip, gate.figure) for clip in clips) if f is not None]
    floor = statistic(floors) if len(floors) == len(clips) else None
    value, bound = statistic(values), gate.bound(floor)
    text = f"{what} is {_number(value)}, bound {_comparison(gate)} {_number(bound)}"
    if floor is not None:
        text += f" (the reference against itself: {_number(floor)})"
    if gate.holds(value, bound):
        return _result(gate, PASS, text, None, value, bound)
    if excuse := _excuse(gate, clips, None, bound, same_machine):
        return _result(gate, INCONCLUSIVE, f"{text}; undecided, {excuse}", None, value, bound)
    having = [c for c, f in zip(clips, figures, strict=True) if f is not None and f["value"] is not None]
    at = values.index((max if gate.at_most is not None else min)(values))
    return _result(gate, FAIL, f"{text}; worst clip {having[at]['clip']}", None, value, bound)


def _excuse(
    gate: Gate, clips: list[dict[str, Any]], floor: float | None, bound: float, same_machine: bool | None
) -> str | None:
    """Why a broken bound does not decide, ``None`` if it does."""
    if any(clip["pixels"]["verdict"] == "differ" for clip in clips):
        return "as the decoded pixels are not the reference's"
    frames = sum(clip["counts"]["both_succeed"] for clip in clips)
    if frames < gate.min_frames and not gate.of_time and not gate.figure.startswith("tracking."):
        return f"as {frames} frames are too few (at least {gate.min_frames})"
    if floor is not None and not gate.holds(floor, bound):
        return "as the reference does not agree with itself that well here"
    if gate.machine == "same" and not same_machine:
        return "as this is not the machine that the bound was set on"
    unsteady = [c["speed"]["unsteady"] for c in clips if c.get("speed") and c["speed"].get("unsteady")]
    if gate.of_time and 4 * len(unsteady) > len(clips):
        return f"as the machine's own speed changed beside {len(unsteady)} of {len(clips)} clips ({unsteady[0]})"
    return None


def _floor(clip: dict[str, Any], figure: str) -> float | None:
    worst = clip["floor"]["worst"].get(figure) if clip["floor"] else None
    return worst["value"] if worst else None


def _result(
    gate: Gate, verdict: str, sentence: str, clip: str | None = None, value: float | None = None,
    bound: float | None = None,
) -> Result:  # fmt: skip
    return Result(gate.name, verdict, sentence, gate.figure, clip, value, bound)


def _comparison(gate: Gate) -> str:
    return "at most" if gate.at_most is not None else "at least"


def _number(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 0.9 or abs(value) >= 1 else f"{value:.5g}"
