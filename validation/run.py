"""Runs pyfaceau on every clip that has a golden, and makes the record of it."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from validation import assemble, environment, record
from validation.adapter import Runner, Timing, decoded_digests, pictures
from validation.calibration import Calibrator
from validation.clips import folders, locate, require_same
from validation.compare import join
from validation.errors import HarnessError
from validation.files import read_json, sha256_file
from validation.floor import floor_of
from validation.goldens import Clip, Golden, Store
from validation.metrics import speed as speed_metrics
from validation.reference import read_csv

STEADY = 0.15
"""The calibration workload may change by this share beside a clip before its times are called unsteady."""

AGAIN = 2
"""So many more times the clips are timed while a check of their times does not hold."""


@dataclass(frozen=True)
class Options:
    """What the user asked for."""

    configuration: str = "clnf"
    clips: str = "*"
    models: Path | None = None
    videos: Path | None = None
    threads: int = 2
    keep: Path | None = None
    """folder for pyfaceau's CSVs"""
    pictures: Path | None = None
    """folder for the worst frames' pictures"""
    calibrate: bool = True


def run(
    store: Store,
    options: Options,
    report: Callable[[dict[str, Any]], None],
    times_hold: Callable[[dict[str, Any]], bool],
) -> dict[str, Any]:
    """The record of a run, without its verdict; ``report`` is called with each clip's entry as it is done.

    ``times_hold`` says whether the times of the record are within their bounds. While they are not, the clips are timed
    again, up to ``AGAIN`` times, and the lowest times count: a busy machine passes, a slower program does not.
    """
    started = time.perf_counter()
    goldens = store.find(options.configuration, options.clips)
    if not goldens:
        raise HarnessError(f"no golden of configuration {options.configuration!r} has a clip {options.clips!r}")
    settings, models = store.settings(options.configuration, options.models)
    runner = Runner(settings, models, options.threads)
    reference_speed = _reference_speed(store, options.configuration)
    digests = read_json(store.folder / "frame-crc32.json", "the digests of the reference's decoded frames")
    clips: list[dict[str, Any]] = []
    with Calibrator() if options.calibrate else nullcontext() as calibrator, tempfile.TemporaryDirectory() as scratch:
        places = folders(options.videos)
        session = _Session(store, options, runner, digests, reference_speed, calibrator, Path(scratch))
        for golden in goldens:
            entry = session.clip(golden, locate(store, store.clips[golden.clip], places))
            clips.append(entry)
            report(entry)
        result = record.new(
            "run",
            environment.fingerprint(runner.weights),
            configuration=options.configuration,
            threads=options.threads,
            clips=clips,
            totals=assemble.totals(clips),
            equivalence=assemble.equivalence(clips),
            speed={
                "load_ms": runner.load_ms,
                "warm_up_s": session.warm_up_s,
                "peak_mb": environment.peak_memory_mb(),
                "configuration": options.configuration,
            },
        )
        for _ in range(AGAIN):
            if times_hold(result):
                break
            session.time_again(clips)
            result["totals"] = assemble.totals(clips)
    return {**result, "seconds": time.perf_counter() - started}


@dataclass(frozen=True)
class _Timed:
    """A clip's times so far. ``calibrations``: ms of the workload before and after, of the quickest pair."""

    video: Path
    timing: Timing
    calibrations: tuple[float, float] | None
    passes: int = 1


class _Session:
    """What all clips of a run share."""

    def __init__(
        self,
        store: Store,
        options: Options,
        runner: Runner,
        digests: dict[str, str],
        reference_speed: dict[str, Any],
        calibrator: Calibrator | None,
        scratch: Path,
    ) -> None:
        self.store, self.options, self.runner, self.digests = store, options, runner, digests
        self.reference_speed, self.calibrator, self.scratch = reference_speed, calibrator, scratch
        self.warm_up_s: float | None = None
        self._timed: dict[str, _Timed] = {}

    def clip(self, golden: Golden, video: Path | None) -> dict[str, Any]:
        """One clip's entry of the record; what goes wrong with the clip becomes its ``error``."""
        clip = self.store.clips[golden.clip]
        try:
            if video is None:
                raise HarnessError(f"{clip.file} is in no folder of clips; run `python -m validation clips fetch`")
            require_same(clip, video)
            return self._clip(golden, clip, video)
        except HarnessError as error:
            return assemble.clip_record(clip.name, clip.file, None, faces=clip.faces, cuts=clip.cuts, error=str(error))

    def _clip(self, golden: Golden, clip: Clip, video: Path) -> dict[str, Any]:
        csv = (self.options.keep or self.scratch) / f"{clip.name}.csv"
        if self.warm_up_s is None:
            self.warm_up_s = self.runner.warm_up(video)
        timed = self._timed[clip.name] = self._time(video, csv)
        pair = join(self.store.table(golden), read_csv(csv))
        entry = assemble.clip_record(
            clip.name,
            clip.file,
            pair,
            floor_of(self.store, golden),
            faces=clip.faces,
            cuts=clip.cuts,
            sha256=sha256_file(video),
            pixels=compare_pixels(self.digests.get(clip.file), decoded_digests(video)),
            speed=self._speed(clip.name, timed),
        )
        if self.options.pictures is not None:
            save_pictures(entry, video, self.options.pictures)
        return entry

    def time_again(self, entries: list[dict[str, Any]]) -> None:
        """Run every clip once more, for its times alone, and keep the lowest."""
        for entry in (e for e in entries if not e["error"]):
            name = entry["clip"]
            old = self._timed[name]
            new = self._time(old.video, self.scratch / f"{name}.csv")
            pairs = [pair for pair in (old.calibrations, new.calibrations) if pair is not None]
            calibrations = min(pairs, key=sum) if pairs else None
            self._timed[name] = _Timed(old.video, old.timing.lowest(new.timing), calibrations, old.passes + 1)
            assemble.set_times(entry, self._speed(name, self._timed[name]))

    def _time(self, video: Path, csv: Path) -> _Timed:
        before = self.calibrator.measure() if self.calibrator else None
        timing = self.runner.run(video, csv)
        if self.calibrator is None or before is None:
            return _Timed(video, timing, None)
        return _Timed(video, timing, (before, self.calibrator.measure()))

    def _speed(self, name: str, timed: _Timed) -> dict[str, Any] | None:
        before, after = timed.calibrations or (None, None)
        found = speed_record(timed.timing, before, after, self.reference_speed.get(name), self.options.threads)
        return found and {**found, "passes": timed.passes}


def compare_pixels(expected: str | None, found: list[str]) -> dict[str, Any]:
    """The record's ``pixels``; ``expected`` are the reference's digests, divided by blanks."""
    if expected is None:
        return {"verdict": "unknown", "frames": len(found), "differing": 0, "first": None}
    wanted = expected.split()
    count = max(len(wanted), len(found))
    differ = [i + 1 for i in range(count) if wanted[i : i + 1] != found[i : i + 1]]
    verdict = "differ" if differ else "same"
    return {"verdict": verdict, "frames": count, "differing": len(differ), "first": differ[0] if differ else None}


def speed_record(
    timing: Timing, before: float | None, after: float | None, reference: dict[str, Any] | None, threads: int
) -> dict[str, Any] | None:
    """The record's ``speed`` of one clip; ``None`` for a clip too short to have a steady state."""
    if timing.frames <= speed_metrics.WARM:
        return None
    mean = speed_metrics.mean_ms(timing.intervals)
    stages = {stage: _stage(times) for stage, times in timing.stages.items()}
    calibration = None if before is None or after is None else (before + after) / 2
    unsteady = None
    if before is not None and after is not None and max(before, after) > (1 + STEADY) * min(before, after):
        unsteady = f"calibration {before:.0f} ms before, {after:.0f} ms after"
    # "landmarks.parts" is a part of "landmarks": only the outer stages add up.
    work = {stage: values["mean"] for stage, values in stages.items() if "." not in stage}
    alone = mean if threads == 1 else None
    return {
        "frames": timing.frames,
        "threads": threads,
        "wall_s": timing.wall_s,
        "fps": speed_metrics.frames_per_second(timing.frames, timing.wall_s),
        "first_ms": float(timing.intervals[0]),
        "mean_ms": mean,
        **{f"p{p}_ms": speed_metrics.percentile_ms(timing.intervals, p) for p in (50, 95, 99)},
        "finish_ms": timing.finish_ms,
        "stages": stages,
        "work_ms": sum(work.values()),
        # Stages of two threads overlap, so only one thread's frame time can be accounted for in full.
        "unaccounted_share": None if alone is None else speed_metrics.unaccounted_share(alone, work),
        "calibration_ms": calibration,
        "per_calibration": None if calibration is None else speed_metrics.per_calibration(mean, calibration),
        "unsteady": unsteady,
        "reference": reference,
    }


def _stage(times: np.ndarray) -> dict[str, float]:
    found = {f"p{p}": speed_metrics.percentile_ms(times, p) for p in (50, 95, 99)}
    return {"mean": speed_metrics.mean_ms(times), **found, "first": float(times[0])}


def _reference_speed(store: Store, configuration: str) -> dict[str, Any]:
    """The C++ program's times by clip and mode; ``landmarks_ms``: the parts of its landmark stage, where known."""
    path, by_stage = store.folder / "speed.json", store.folder / "cpp-stage-times.json"
    if not path.is_file():
        return {}
    found: dict[str, Any] = read_json(path, "the reference program's times").get(configuration, {})
    stages = read_json(by_stage, "its times by stage").get(configuration, {}) if by_stage.is_file() else {}
    for clip, modes in stages.items():
        for mode, ms in modes.items():
            parts = {
                "detect": ms["landmarks.detect"],
                "face": sum(value for name, value in ms.items() if name.startswith("landmarks.face.")),
                "parts": ms["landmarks.parts"] + ms["landmarks.write_back"],
                "validator": ms["landmarks.validator"],
            }
            if mode in found.get(clip, {}):
                found[clip][mode]["landmarks_ms"] = parts
    return found


def save_pictures(entry: dict[str, Any], video: Path, folder: Path) -> None:
    """Keep the worst frames as JPEG beside the record and name them in it."""
    import cv2

    folder.mkdir(parents=True, exist_ok=True)
    found = pictures(video, [frame["frame"] for frame in entry["worst_frames"]])
    for frame in entry["worst_frames"]:
        name = f"{entry['clip']}-{frame['frame']:06d}.jpg"
        encoded, data = cv2.imencode(".jpg", found[frame["frame"]], [cv2.IMWRITE_JPEG_QUALITY, 85])
        if not encoded:
            raise HarnessError(f"{folder / name}: the picture cannot be encoded")
        (folder / name).write_bytes(data.tobytes())
        frame["picture"] = name
