"""Whole runs: how their cost grows with pixels, frames and processes, and how long the first frame takes.

``python -m benchmarks.end_to_end sizes|length|jobs|start CLIP [--models DIR] [--landmarks MODEL]`` prints one Markdown
table. Everything is written, as ``pyfaceau extract`` writes it, into a temporary folder. Times are of this machine in
this minute; against a base revision or the C++ program: ``python -m validation speed``.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from pyfaceau.clock import StageClock
from pyfaceau.config import Config
from pyfaceau.extraction import run
from pyfaceau.pipeline import Pipeline
from pyfaceau.video import Frame, Source, VideoFile, open_source

SIZES = ((320, 240), (480, 360), (640, 480), (960, 720), (1280, 960), (1440, 1080), (1920, 1080))
STAGES = ("decode", "gray", "landmarks", "pose", "gaze", "analysis", "record")
_TURNS = 6
_SLICE = 60.0  # seconds of video between two looks at the memory


class Looped(Source):
    """A clip again and again, for so many frames."""

    def __init__(self, path: Path, frames: int) -> None:
        self._path, self._left = path, frames
        self._clip = VideoFile(path)
        self._frames = iter(self._clip)
        super().__init__(str(path), path.stem, self._clip.fps, frames)
        self._index = 0
        self._start(self._read(), f"{path} has no frame")

    def _read(self) -> Frame | None:
        if self._index == self._left:
            return None
        frame = next(self._frames, None)
        if frame is None:
            self._clip.close()
            self._clip = VideoFile(self._path)
            self._frames = iter(self._clip)
            frame = next(self._frames)
        self._index += 1
        return Frame(self._index, (self._index - 1) / (self.fps or 30.0), frame.bgr)

    def close(self) -> None:
        self._clip.close()


def resident_mb() -> float:
    """Memory of this process that is in use now, MB (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise OSError("/proc/self/status does not tell the memory")


def resized(clip: Path, width: int, height: int, folder: Path, frames: int) -> Path:
    """The clip's first frames, fitted into this size with bars beside them, as Motion JPEG."""
    path = folder / f"{width}x{height}.avi"
    with VideoFile(clip) as source:
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), source.fps or 30.0, (width, height))
        scale = min(width / source.width, height / source.height)
        inner_width, inner_height = round(source.width * scale), round(source.height * scale)
        x, y = (width - inner_width) // 2, (height - inner_height) // 2
        for frame in source:
            if frame.index > frames:
                break
            picture = np.zeros((height, width, 3), np.uint8)
            picture[y : y + inner_height, x : x + inner_width] = cv2.resize(
                frame.bgr, (inner_width, inner_height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
            )
            writer.write(picture)
        writer.release()
    return path


def sizes(arguments: argparse.Namespace) -> None:
    """Milliseconds of every stage at sizes from 320x240 to 1920x1080, one thread, all outputs.

    The sizes take turns, as this machine may be slower for a while, and the lowest of their medians count.
    """
    pipeline = Pipeline(Config(models=arguments.models, landmarks=arguments.landmarks, threads=1))
    print("| size | Mpx | " + " | ".join(STAGES) + " | sum, ms |\n|---|---:|" + "---:|" * (len(STAGES) + 1))
    best: dict[tuple[int, int], dict[str, float]] = {size: {} for size in SIZES}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        videos = {size: resized(arguments.clip, *size, folder, arguments.frames) for size in SIZES}
        for _ in range(_TURNS):
            for size, video in videos.items():
                clock = StageClock()
                with open_source(video, pipeline.config) as source:
                    run(pipeline, source, folder / "out.csv", clock=clock)
                for name, ms in clock.milliseconds().items():
                    best[size][name] = min(best[size].get(name, np.inf), float(np.median(ms)))
    for (width, height), found in best.items():
        values = [found[stage] for stage in STAGES]
        cells = " | ".join(f"{value:.2f}" for value in (*values, sum(values)))
        print(f"| {width}x{height} | {width * height / 1e6:.2f} | {cells} |")


def length(arguments: argparse.Namespace) -> None:
    """Milliseconds a frame and memory, minute by minute of a long video."""
    pipeline = Pipeline(Config(models=arguments.models, landmarks=arguments.landmarks, threads=arguments.threads))
    print("| minute | ms a frame | memory, MB |\n|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as place, VideoFile(arguments.clip) as clip:
        fps = clip.fps or 30.0
        slice_frames = round(_SLICE * fps)
        last = time.perf_counter()

        def progress(done: int, promised: int | None) -> None:
            nonlocal last
            if done % slice_frames == 0:
                now = time.perf_counter()
                print(
                    f"| {done // slice_frames} | {(now - last) / slice_frames * 1e3:.2f} | {resident_mb():.0f} |",
                    flush=True,
                )
                last = now

        with Looped(arguments.clip, round(arguments.minutes * 60 * fps)) as source:
            run(pipeline, source, Path(place) / "out.csv", progress=progress)
        print(f"| end | | {resident_mb():.0f} |")


def _extract(arguments: argparse.Namespace, *words: object) -> float:
    """Seconds of ``pyfaceau extract`` in a process of its own."""
    command = [sys.executable, "-m", "pyfaceau", "extract", *map(str, words)]
    command += [] if arguments.models is None else ["--models", str(arguments.models)]
    command += ["--landmarks", arguments.landmarks]
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def jobs(arguments: argparse.Namespace) -> None:
    """Seconds for copies of a clip by one process and by several, start included."""
    print("| processes | threads each | seconds | videos a minute |\n|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        copies = [folder / f"{number}{arguments.clip.suffix}" for number in range(arguments.copies)]
        for copy in copies:
            copy.write_bytes(arguments.clip.read_bytes())
        for options, processes, threads in [(("--threads", 1), 1, 1), (("--threads", 2), 1, 2)] + [
            (("--jobs", n), n, 1) for n in range(2, arguments.most + 1)
        ]:
            seconds = min(_extract(arguments, *copies, "--out-dir", folder / "out", *options) for _ in range(2))
            print(f"| {processes} | {threads} | {seconds:.1f} | {60 * len(copies) / seconds:.1f} |", flush=True)


def start(arguments: argparse.Namespace) -> None:
    """Seconds from the start of the command to the files of one picture, kernels compiled before."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "one").mkdir()
        with VideoFile(arguments.clip) as clip:
            cv2.imwrite(str(folder / "one" / "1.png"), next(iter(clip)).bgr)
        seconds = [_extract(arguments, folder / "one", "-o", folder / "one.csv") for _ in range(6)][1:]
    print(f"| picture | seconds (median of {len(seconds)}) | least |\n|---|---:|---:|")
    print(f"| of {arguments.clip.name} | {statistics.median(seconds):.2f} | {min(seconds):.2f} |")


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.end_to_end", description=__doc__)
    kinds = parser.add_subparsers(required=True, metavar="WHAT")
    for function in (sizes, length, jobs, start):
        kind = kinds.add_parser(function.__name__, help=function.__doc__)
        kind.add_argument("clip", type=Path)
        kind.add_argument("--models", type=Path)
        kind.add_argument("--landmarks", default="auto")
        kind.set_defaults(run=function)
        if function is sizes:
            kind.add_argument("--frames", type=int, default=150)
        elif function is length:
            kind.add_argument("--minutes", type=float, default=20.0)
            kind.add_argument("--threads", type=int, default=2)
        elif function is jobs:
            kind.add_argument("--copies", type=int, default=4)
            kind.add_argument("--most", type=int, default=2, help="processes")
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
