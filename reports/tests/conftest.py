"""A record of made-up clips, made by the harness itself: no weights, no clips, no network."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reports import style
from reports.build import Source, build
from validation import assemble, environment, record
from validation.compare import join
from validation.floor import floor
from validation.tests.conftest import make_csv, table


def _stages(scale: float) -> dict[str, dict[str, float]]:
    means = {
        "decode": 1.0,
        "landmarks": 6.0,
        "landmarks.face": 2.5,
        "landmarks.parts": 3.0,
        "gaze": 0.5,
        "analysis": 2.0,
    }
    keys = ("mean", "p50", "p95", "p99", "first")
    return {name: dict.fromkeys(keys, mean * scale) for name, mean in means.items()}


def _speed(scale: float, with_reference: bool) -> dict[str, Any]:
    cpp = {
        "ms_per_frame": 10.0, "per_calibration": 0.061, "range": [0.060, 0.062],
        "stages_ms": {"landmarks": 7.0, "gaze": 0.3, "analysis": 2.4, "record": 0.3, "wait_decode": 0.02},
    }  # fmt: skip
    return {
        "frames": 60, "threads": 2, "wall_s": 0.5, "fps": 120.0, "first_ms": 190.0, "mean_ms": 7.0 * scale,
        "p50_ms": 7.0, "p95_ms": 8.0, "p99_ms": 9.0, "finish_ms": 1.0, "stages": _stages(scale), "work_ms": 9.5 * scale,
        "unaccounted_share": None, "calibration_ms": 160.0, "per_calibration": 7.0 * scale / 160.0, "unsteady": None,
        "reference": {"two_cores": cpp, "one_core": cpp} if with_reference else {},
    }  # fmt: skip


@pytest.fixture(scope="session")
def _made() -> dict[str, Any]:
    clips = []
    for i, name in enumerate(("first", "second <b>&amp;")):
        reference = table(make_csv(lost=(20, 21) if i else ()), f"{name}.csv")
        other = table(make_csv(seed=2 + i, noise=0.2 + 0.3 * i, lost=(20, 21) if i else ()), "other.csv")
        repeated = floor(reference, {"rebuild": table(make_csv(seed=9, noise=0.1, lost=(20, 21) if i else ()))})
        pair = join(reference, other)
        clips.append(assemble.clip_record(name, f"{name}.mp4", pair, repeated, speed=_speed(1 + i, not i)))
    clips.append(assemble.clip_record("absent", "absent.mp4", None, error="absent.mp4 is in no folder of clips"))
    gates = [
        {"gate": "presence", "verdict": "PASS", "sentence": "first: fine", "figure": "presence.agreement",
         "clip": "first", "value": 0.99, "bound": 0.9},
        {"gate": "landmarks", "verdict": "FAIL", "sentence": "second: too far <off>", "figure": "landmarks.mean_px",
         "clip": "second", "value": 0.2, "bound": 0.1},
    ]  # fmt: skip
    return record.new(
        "run", environment.fingerprint(), configuration="made-up", threads=2, clips=clips,
        totals=assemble.totals(clips), equivalence=assemble.equivalence(clips), gates=gates,
        verdict={"verdict": "FAIL", "sentence": "second: too far <off>", "exit_code": 1}, speed={"load_ms": 5.0},
    )  # fmt: skip


@pytest.fixture
def made(_made: dict[str, Any]) -> dict[str, Any]:
    """A record of two clips with their floors and times, and of one that is not there; a test may change it."""
    assert record.check(_made) == []
    return copy.deepcopy(_made)


@pytest.fixture(scope="session")
def page_path(_made: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of that record."""
    return build([Source(_made)], tmp_path_factory.mktemp("report"), formats=())


@pytest.fixture
def styled() -> Iterator[None]:
    """The report's style."""
    with style.applied():
        yield
