"""Tripwires: a run may not be worse than the recorded baseline by more than a tight tolerance.

``golden/baseline.json`` holds, per configuration and clip, the figures of an accepted run with the machine it ran on.
The tolerance of a figure is the larger of an absolute one and a share of the clip's noise floor: far tighter than the
gates, so that a small loss is seen long before a promise is broken. On another machine the last bits differ, so there
a tripwire is INCONCLUSIVE, never FAIL.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from validation.environment import machine_key
from validation.errors import HarnessError
from validation.figures import DEFINITIONS
from validation.files import read_json, write_json
from validation.verdict import FAIL, INCONCLUSIVE, PASS, Result

BASELINE = "baseline.json"
SCHEMA = 1
TOLERANCES = {
    "landmarks.mean_px": 0.002,
    "landmarks.p95_px": 0.005,
    "pose.axis_deg": 0.002,
    "gaze.angle_deg": 0.002,
    "intensity.ccc": 0.0005,
    "intensity.mae": 0.0005,
    "intensity.worst_bias": 0.002,
    "presence.agreement": 0.0005,
    "tracking.agreement": 0.0,
}
FLOOR_SHARE = 0.1


def entry(record: dict[str, Any]) -> dict[str, Any]:
    """What the baseline keeps of an accepted run."""
    return {
        "commit": record["environment"]["commit"],
        "machine": list(machine_key(record["environment"])),
        "libraries": record["environment"]["libraries"],
        "clips": {
            clip["clip"]: {name: clip["figures"][name]["value"] for name in TOLERANCES if name in clip["figures"]}
            for clip in record["clips"]
            if not clip["error"]
        },
    }


def accept(record: dict[str, Any], path: Path, reason: str) -> None:
    """Make the record the baseline of its configuration; clips that it did not run keep their entries."""
    if record["kind"] != "run" or record["verdict"]["verdict"] not in ("PASS", "INCONCLUSIVE", "FAIL"):
        raise HarnessError("only a run without errors can become the baseline")
    data: dict[str, Any] = {"schema": SCHEMA, "configurations": {}, "log": []}
    if path.is_file():
        data = read_json(path, "the baseline")
    old = data["configurations"].get(record["configuration"], {"clips": {}})
    new = entry(record)
    new["clips"] = {**old["clips"], **new["clips"]}
    data["configurations"][record["configuration"]] = new
    data["log"].append({"record": record["id"], "configuration": record["configuration"], "reason": reason})
    write_json(path, data)


def tripwires(record: dict[str, Any], path: Path) -> tuple[list[Result], bool | None]:
    """A result for every clip and figure of the baseline, and whether it was made on this machine.

    Without a baseline of this configuration: no results, ``None``.
    """
    data = read_json(path, "the baseline")["configurations"] if path.is_file() else {}
    baseline = data.get(record["configuration"])
    if baseline is None:
        return [], None
    same = baseline["machine"] == list(machine_key(record["environment"]))
    same = same and baseline["libraries"] == record["environment"]["libraries"]
    results = []
    for clip in record["clips"]:
        for name, before in baseline["clips"].get(clip["clip"], {}).items():
            if not clip["error"] and before is not None:
                results.append(_compare(clip, name, before, same))
    return results, same


def tolerance(name: str, floor: float | None) -> float:
    """How much worse the figure may be on a clip with this noise floor, with room for the last bit."""
    noise = 0.0
    if floor is not None:
        noise = FLOOR_SHARE * (1 - floor if DEFINITIONS[name].better == "higher" else floor)
    return max(TOLERANCES[name], noise) + 1e-12


def worsening(name: str, before: float, now: float) -> float:
    """How much worse the figure became; below 0 if it became better."""
    return before - now if DEFINITIONS[name].better == "higher" else now - before


def _compare(clip: dict[str, Any], name: str, before: float, same: bool) -> Result:
    where = clip["clip"]
    now = clip["figures"].get(name, {"value": None})["value"]
    gate = f"tripwire {name}"
    if now is None:
        return Result(gate, FAIL, f"{where}: {name} had a value in the baseline and has none now", name, where)
    floor = clip["floor"]["worst"].get(name) if clip["floor"] else None
    allowed = tolerance(name, floor["value"] if floor else None)
    worse = worsening(name, before, now)
    text = f"{where}: {name} is {now:.5g}, the baseline {before:.5g}, tolerance {allowed:.2g}"
    bound = before - allowed if DEFINITIONS[name].better == "higher" else before + allowed
    if worse <= allowed:
        return Result(gate, PASS, text, name, where, now, bound)
    if not same:
        text += "; undecided, as the baseline is of another machine or other library versions"
        return Result(gate, INCONCLUSIVE, text, name, where, now, bound)
    return Result(gate, FAIL, f"{text}; worse by {worse:.3g}", name, where, now, bound)
