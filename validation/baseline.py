"""Tripwires: a run may not be worse than the recorded baseline by more than a tight tolerance.

``golden/baseline.json`` holds, per configuration and clip, the figures of an accepted run with the machine it ran on.
The tolerances are those of ``[tripwires]`` in ``golden/gates.toml``. An accuracy figure of a clip may become worse by
the larger of an absolute amount and a share of the clip's noise floor: far tighter than the gates, so that a small loss
is seen long before a promise is broken. Times are compared in passes of the calibration workload timed beside each
clip, as the median over clips of the ratio to the baseline, a stage at a time: a coarse alarm, as both are one run on a
machine that others may use (`validation.run` times the clips again before it rings). Small slowdowns are for `speed`.
On another machine the last bits and the caches differ, so there a broken tripwire is INCONCLUSIVE, never FAIL.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from validation.environment import machine_key
from validation.errors import HarnessError
from validation.figures import DEFINITIONS, better
from validation.files import read_json, read_toml, write_json
from validation.inference import FEWEST, bootstrap
from validation.verdict import FAIL, INCONCLUSIVE, PASS, Result

BASELINE = "baseline.json"
SCHEMA = 1
DECIDING = ("numpy", "numba", "llvmlite", "opencv-python-headless")
"""Libraries whose versions may change a result's last bits."""
TIMES = ("speed.per_calibration", "_per_calibration")
"""A frame's and the stages' times in calibration passes: this name, and names with this end."""


@dataclass(frozen=True)
class Tripwires:
    """``[tripwires]`` of ``gates.toml``. ``tolerance``: by accuracy figure; ``floor_share``: of the clip's floor."""

    tolerance: dict[str, float]
    floor_share: float
    slower_at_most: float
    """a time may grow by this share, in the median over clips"""
    noise_at_most: float
    """width of the 95 % interval of that median beyond which it decides nothing"""
    stage_at_least_ms: float
    """shorter stages are not kept"""

    def allowed(self, name: str, floor: float | None) -> float:
        """How much worse the figure may be on a clip with this noise floor, with room for the last bit."""
        noise = 0.0
        if floor is not None:
            noise = self.floor_share * (1 - floor if better(name) == "higher" else floor)
        return max(self.tolerance[name], noise) + 1e-12


def read_tripwires(path: Path) -> Tripwires | None:
    """The tripwires of a file of gates, ``None`` if it has none; ``HarnessError`` if they are not whole."""
    entry = read_toml(path, "the gates").get("tripwires")
    if entry is None:
        return None
    try:
        wires = Tripwires(dict(entry["tolerance"]), entry["floor_share"], **entry["speed"])
    except (KeyError, TypeError) as error:
        raise HarnessError(f"{path}: [tripwires] is incomplete or has an unknown key ({error})") from error
    if unknown := sorted(wires.tolerance.keys() - DEFINITIONS.keys()):
        raise HarnessError(f"{path}: [tripwires.tolerance] names {unknown[0]!r}, which is no figure")
    return wires


def entry(record: dict[str, Any], wires: Tripwires) -> dict[str, Any]:
    """What the baseline keeps of an accepted run."""
    return {
        "commit": record["environment"]["commit"],
        "machine": list(machine_key(record["environment"])),
        "libraries": record["environment"]["libraries"],
        "threads": record["threads"],
        "clips": {clip["clip"]: _kept(clip, wires) for clip in record["clips"] if not clip["error"]},
    }


def _kept(clip: dict[str, Any], wires: Tripwires) -> dict[str, float | None]:
    """A clip's accuracy figures with a tolerance, and the times of the stages that are long enough."""
    figures = clip["figures"]
    kept = {name: figures[name]["value"] for name in wires.tolerance if name in figures}
    for name in (n for n in figures if n == TIMES[0] or n.endswith(TIMES[1])):
        ms = figures.get(name.replace(TIMES[1], "_ms"))
        if name == TIMES[0] or (ms is not None and ms["value"] >= wires.stage_at_least_ms):
            kept[name] = figures[name]["value"]
    return kept


def accept(record: dict[str, Any], path: Path, reason: str, wires: Tripwires | None) -> None:
    """Make the record the baseline of its configuration; clips that it did not run keep their entries."""
    if record["kind"] != "run" or record["verdict"]["verdict"] not in (PASS, INCONCLUSIVE, FAIL):
        raise HarnessError("only a run without errors can become the baseline")
    if wires is None:
        raise HarnessError("the gates have no [tripwires], so a baseline would serve nothing")
    data: dict[str, Any] = {"schema": SCHEMA, "configurations": {}, "log": []}
    if path.is_file():
        data = read_json(path, "the baseline")
    old = data["configurations"].get(record["configuration"], {"clips": {}})
    new = entry(record, wires)
    new["clips"] = {**old["clips"], **new["clips"]}
    data["configurations"][record["configuration"]] = new
    data["log"].append({"record": record["id"], "configuration": record["configuration"], "reason": reason})
    write_json(path, data)


def tripwires(record: dict[str, Any], path: Path, wires: Tripwires | None) -> tuple[list[Result], bool | None]:
    """A result for every clip and figure of the baseline, and whether it was made on this machine.

    Without a baseline of this configuration: no results, ``None``.
    """
    data = read_json(path, "the baseline")["configurations"] if path.is_file() else {}
    baseline = data.get(record["configuration"])
    if baseline is None or wires is None:
        return [], None
    same = baseline["machine"] == list(machine_key(record["environment"]))
    old, now = baseline["libraries"], record["environment"]["libraries"]
    same = same and all(old.get(name) == now.get(name) for name in DECIDING)
    measured = [clip for clip in record["clips"] if not clip["error"]]
    results = [
        _compare(clip, name, before, same, wires)
        for clip in measured
        for name, before in baseline["clips"].get(clip["clip"], {}).items()
        if name in wires.tolerance and before is not None
    ]
    if record.get("threads") == baseline["threads"]:
        results += _compare_times(measured, baseline["clips"], same, wires)
    return results, same


def worsening(name: str, before: float, now: float) -> float:
    """How much worse the figure became; below 0 if it became better."""
    return before - now if better(name) == "higher" else now - before


def _compare(clip: dict[str, Any], name: str, before: float, same: bool, wires: Tripwires) -> Result:
    where = clip["clip"]
    now = clip["figures"].get(name, {"value": None})["value"]
    gate = f"tripwire {name}"
    if now is None:
        return Result(gate, FAIL, f"{where}: {name} had a value in the baseline and has none now", name, where)
    floor = clip["floor"]["worst"].get(name) if clip["floor"] else None
    allowed = wires.allowed(name, floor["value"] if floor else None)
    worse = worsening(name, before, now)
    text = f"{where}: {name} is {now:.5g}, the baseline {before:.5g}, tolerance {allowed:.2g}"
    bound = before - allowed if better(name) == "higher" else before + allowed
    if worse <= allowed:
        return Result(gate, PASS, text, name, where, now, bound)
    if not same:
        text += "; undecided, as the baseline is of another machine or other library versions"
        return Result(gate, INCONCLUSIVE, text, name, where, now, bound)
    return Result(gate, FAIL, f"{text}; worse by {worse:.3g}", name, where, now, bound)


def _compare_times(
    clips: list[dict[str, Any]], before: dict[str, dict[str, float]], same: bool, wires: Tripwires
) -> list[Result]:
    """One result a stage, and one for the whole frame, over the clips that both runs timed, if they are enough."""
    ratios: dict[str, list[float]] = {}
    for clip in clips:
        for name, old in before.get(clip["clip"], {}).items():
            now = clip["figures"].get(name, {"value": None})["value"]
            if name not in wires.tolerance and old and now is not None:
                ratios.setdefault(name, []).append(now / old)
    unsteady = sum(bool(clip["speed"] and clip["speed"].get("unsteady")) for clip in clips)
    return [
        _time_result(name, values, unsteady, same, wires) for name, values in ratios.items() if len(values) >= FEWEST
    ]


def _time_result(name: str, ratios: list[float], unsteady: int, same: bool, wires: Tripwires) -> Result:
    gate, bound = f"tripwire {name}", 1 + wires.slower_at_most
    found = bootstrap(ratios, np.median)
    text = (
        f"{name}: {found.value:.3f} times the baseline in the median over {found.n} clips "
        f"(95 % interval {found.low:.3f} to {found.high:.3f}), bound {bound:g}"
    )
    if found.value <= bound:
        return Result(gate, PASS, text, name, None, found.value, bound)
    excuse = None
    if not same:
        excuse = "as the baseline is of another machine or other library versions"
    elif 4 * unsteady > len(ratios):
        excuse = f"as the machine's own speed changed beside {unsteady} clips"
    elif found.high - found.low > wires.noise_at_most or found.low <= 1:
        excuse = f"as the interval is wider than {wires.noise_at_most:g} or holds 1"
    if excuse:
        return Result(gate, INCONCLUSIVE, f"{text}; undecided, {excuse}", name, None, found.value, bound)
    return Result(gate, FAIL, text, name, None, found.value, bound)
