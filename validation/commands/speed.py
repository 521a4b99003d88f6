"""``python -m validation speed``: the working tree against a base revision, and against the C++ program's record."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from validation import clips, environment, goldens, history, record, slowed, speedtest
from validation.adapter import weights_folder
from validation.environment import in_github_actions
from validation.errors import HarnessError
from validation.files import REPOSITORY, read_json, read_toml
from validation.options import add_places
from validation.outputs import write_outputs
from validation.stats import SlowDown, slow_down
from validation.verdict import FAIL, INCONCLUSIVE, PASS, Result, overall

DEFAULT_CLIPS = "openface_default"
MIN_ROUNDS = 5
PASSES = 12
"""Of every clip in a round; the first is warm-up."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("--base", metavar="REVISION", help="git revision to compare with (default: none)")
    parser.add_argument(
        "--slow", metavar="STAGE=PERCENT", help="compare a copy in which this stage takes so much longer: is it seen?"
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--clips", default=DEFAULT_CLIPS, metavar="GLOB")
    parser.add_argument("--config", default="clnf")
    add_places(parser)
    parser.add_argument("--first-run", action="store_true", help="also time a run that has to compile every kernel")
    parser.add_argument("-o", "--output", type=Path, help="the record (default: runs/<id>.json)")
    parser.add_argument("--junit", type=Path)
    parser.add_argument("--markdown", type=Path)


def execute(arguments: argparse.Namespace) -> int:
    """Time, judge by [speed] of gates.toml, write the record."""
    if arguments.rounds < MIN_ROUNDS:
        raise HarnessError(f"{arguments.rounds} rounds cannot decide anything; take at least {MIN_ROUNDS}")
    store = goldens.load(arguments.golden)
    request = _request(store, arguments)
    budgets = read_toml(store.folder / "gates.toml", "the gates").get("speed", {})
    with _trees(arguments) as (tree, base):
        mine, other, calibrations = speedtest.measure(
            tree, base, request, arguments.rounds, arguments.threads, lambda line: print(line, flush=True)
        )
        compiled = speedtest.first_run_s(REPOSITORY, request) if arguments.first_run else None
    comparisons = compare_sides(other, mine, budgets) if other else {}
    checks = [*judge_sides(comparisons, budgets), *judge_calibrated(mine, budgets, arguments.config, arguments.threads)]
    checks = checks or [Result("timed", PASS, f"{arguments.rounds} rounds timed; no base, no budget to judge by")]
    result = record.new(
        "speed",
        environment.fingerprint(),
        configuration=arguments.config,
        threads=arguments.threads,
        speed={
            "clips": sorted(request["clips"]),
            "rounds": arguments.rounds,
            "calibration_ms": calibrations,
            "tree": {"figures": mine.figures, "cold": mine.cold},
            "slowed": arguments.slow,
            "base": {"revision": arguments.base, "figures": other.figures, "cold": other.cold} if other else None,
            "first_run_s": compiled,
            "comparisons": {name: comparison.to_json() for name, comparison in comparisons.items()},
            "reference": _reference(store, arguments.config, list(request["clips"]), arguments.threads),
        },
        gates=[check.to_json() for check in checks],
        verdict=overall(checks),
    )
    print("\n".join(table(result)))
    path = record.save(result, arguments.output)
    if not arguments.slow:  # no state of the program, so no part of its history
        history.append(result, path)
    write_outputs(result, arguments.junit, arguments.markdown, in_github_actions())
    return int(result["verdict"]["exit_code"])


@contextmanager
def _trees(arguments: argparse.Namespace) -> Iterator[tuple[Path, Path | None]]:
    """The tree to be judged, and the one that it is compared with, if there is one."""
    if arguments.slow and arguments.base:
        raise HarnessError("--slow compares a copy with the working tree; leave --base out")
    if arguments.slow:
        with slowed.slowed_copy(*slowed.parse(arguments.slow)) as copy:
            yield copy, REPOSITORY
    elif arguments.base:
        with speedtest.worktree(arguments.base) as base:
            yield REPOSITORY, base
    else:
        yield REPOSITORY, None


def _request(store: goldens.Store, arguments: argparse.Namespace) -> dict[str, Any]:
    settings, models = store.settings(arguments.config, arguments.models)
    # Found once, here: a worktree in another place would look elsewhere.
    settings["models"] = str(weights_folder(models).resolve())
    chosen: dict[str, str] = {}
    for golden in store.find(arguments.config, arguments.clips):
        clip = store.clips[golden.clip]
        video = clips.locate(store, clip, clips.folders(arguments.videos))
        if video is None:
            raise HarnessError(f"{clip.file} is in no folder of clips; run `python -m validation clips fetch`")
        clips.require_same(clip, video)
        chosen[clip.name] = str(video.resolve())
    if not chosen:
        raise HarnessError(f"no golden of {arguments.config!r} has a clip {arguments.clips!r}")
    return {"settings": {**settings, "threads": arguments.threads}, "clips": chosen, "passes": PASSES}


def compare_sides(base: speedtest.Side, mine: speedtest.Side, budgets: dict[str, Any]) -> dict[str, SlowDown]:
    """Every figure in ms that both sides have in all rounds, with the budget of its kind."""
    whole, stage = budgets.get("slower_at_most", 0.05), budgets.get("stage_slower_at_most", 0.10)
    least = budgets.get("stage_at_least_ms", 0.05)
    found = {}
    for name in speedtest.judged(mine.figures[0]):
        a, b = base.series(name), mine.series(name)
        if len(a) == len(b) == len(mine.figures) and (name in ("mean_ms", "p50_ms") or median(a) >= least):
            found[name] = slow_down(a, b, whole if name in ("mean_ms", "p50_ms") else stage)
    return found


def judge_sides(comparisons: dict[str, SlowDown], budgets: dict[str, Any]) -> list[Result]:
    """One result a figure: FAIL only beyond the budget and beyond the spread of the rounds.

    INCONCLUSIVE where that spread is above ``noise_at_most`` and does not rule out that the tree is over the budget.
    """
    noise = budgets.get("noise_at_most", 0.30)
    results = []
    for name, c in comparisons.items():
        sentence = (
            f"{name}: {c.tree:.3f} ms against {c.base:.3f} ms, {100 * (c.ratio - 1):+.1f} % "
            f"(99 % interval {100 * (c.low - 1):+.1f} to {100 * (c.high - 1):+.1f} %, p = {c.p:.2g}, "
            f"Mann-Whitney {c.mann_whitney:.2g}, "
            f"{c.rounds} rounds each, budget {100 * c.budget:g} %)"
        )
        verdict = FAIL if c.slower else PASS
        if not c.slower and c.high - c.low > noise and c.high > 1 + c.budget:
            verdict, sentence = INCONCLUSIVE, f"{sentence}; the rounds scatter too much to see"
        results.append(Result(f"speed {name}", verdict, sentence, name, None, c.ratio, 1 + c.budget))
    return results


def judge_calibrated(mine: speedtest.Side, budgets: dict[str, Any], configuration: str, threads: int) -> list[Result]:
    """The time a frame in units of the calibration workload against the budget of gates.toml, if it has one."""
    budget = budgets.get("per_calibration", {}).get(f"{configuration}-{threads}-threads")
    if budget is None:
        return []
    values = sorted(mine.series("per_calibration"))
    middle = median(values)
    sentence = f"a frame takes {middle:.4f} calibration passes ({values[0]:.4f} to {values[-1]:.4f}), budget {budget}"
    # Beyond the spread too: even the fastest round is over the budget.
    verdict = FAIL if values[0] > budget else PASS
    return [Result("speed per calibration", verdict, sentence, "per_calibration", None, middle, budget)]


def _reference(store: goldens.Store, configuration: str, names: list[str], threads: int) -> dict[str, Any]:
    path = store.folder / "speed.json"
    table = read_json(path, "the reference program's times").get(configuration, {}) if path.is_file() else {}
    mode = "one_core" if threads == 1 else "two_cores"
    return {name: {"mode": mode, **table[name][mode]} for name in names if name in table}


def table(result: dict[str, Any]) -> list[str]:
    """Figures of the tree with their range over rounds, beside the base and the C++ program."""
    data = result["speed"]
    rows = [f"{'figure':<30}{'median':>10}{'lowest':>10}{'highest':>10}{'base':>10}"]
    for kind in ("figures", "cold"):
        base = data["base"][kind] if data["base"] else []
        for name in data["tree"][kind][0]:
            values = [r[name] for r in data["tree"][kind] if name in r]
            before = [r[name] for r in base if name in r]
            beside = f"{median(before):>10.3f}" if before else f"{'-':>10}"
            rows.append(f"{name:<30}{median(values):>10.3f}{min(values):>10.3f}{max(values):>10.3f}{beside}")
    if data["first_run_s"] is not None:
        rows.append(f"{'first run, compiling, s':<30}{data['first_run_s']:>10.1f}")
    for clip, reference in data["reference"].items():
        ours = median(r["per_calibration"] for r in data["tree"]["figures"])
        rows.append(
            f"C++ OpenFace, {clip}: {reference['per_calibration']:.4f} calibration passes a frame; here {ours:.4f}, "
            f"{reference['per_calibration'] / ours:.2f} times as fast"
        )
    rows += [f"{check['verdict']:<13}{check['sentence']}" for check in result["gates"]]
    return [*rows, f"{result['verdict']['verdict']}: {result['verdict']['sentence']}"]
